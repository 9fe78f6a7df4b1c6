"""What a server owes its clients, read off the wire: whoever's fault an unreadable message is, it shall not be the server's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
ENOUGH_SYNCS = 2  # one may have been under way when the message was accepted


def lost_to_device_messages(transcript: Path, enough: int = ENOUGH_SYNCS) -> list[str]:
    """To-device messages that the server accepted and that their device never saw, though it went on syncing. (E2EE)

    Reads a transcript as the plays write it: one request a line, in the order in which the answers came. Messages to all
    devices of a person at once are left out: who they are is not on the wire. `enough`: syncs later, it should be there.
    """
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    names = dict(_names(lines))
    syncs = {name: list(_syncs(lines, name)) for name in names.values()}
    lost = []
    for index, line in enumerate(lines):
        if "/sendToDevice/" not in line["path"] or line["status"] != 200:
            continue
        for address, content in _messages(line):
            name = names.get(address)
            if name is None:
                continue
            seen = any(content in contents for _, contents in syncs[name])
            later = sum(at > index for at, _ in syncs[name])
            if not seen and later >= enough:
                lost.append(f"line {index + 1}: {line['device']} to {name}: {line['path']}")
    return lost


def _names(lines: Sequence[Line]) -> Iterator[tuple[tuple[str, str], str]]:
    """(user id, device id) -> the name a play has for it, learned from the upload of its keys."""
    for line in lines:
        if line["path"].endswith("/keys/upload") and line["request"]:
            keys = json.loads(line["request"]).get("device_keys")
            if keys:
                yield (keys["user_id"], keys["device_id"]), line["device"]


def _syncs(lines: Sequence[Line], name: str) -> Iterator[tuple[int, list[Any]]]:
    """(line, contents of to-device messages) of each answer to a device's /sync."""
    for index, line in enumerate(lines):
        if line["device"] == name and line["path"].endswith("/sync") and line["status"] == 200:
            events = json.loads(line["response"]).get("to_device", {}).get("events", [])
            yield index, [event["content"] for event in events]


def _messages(line: Line) -> Iterator[tuple[tuple[str, str], Any]]:
    for user_id, devices in json.loads(line["request"])["messages"].items():
        for device_id, content in devices.items():
            yield (user_id, device_id), content
