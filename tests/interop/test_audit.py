"""The audit finds what it is there to find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.interop.audit import lost_to_device_messages

SECRET = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": "a room key"}


def line(device: str, path: str, request: Any = None, response: Any = None, *, status: int = 200) -> str:
    sent = None if request is None else json.dumps(request)
    answer = {
        "device": device,
        "path": path,
        "request": sent,
        "status": status,
        "response": json.dumps(response),
    }
    return json.dumps(answer)


def sync(*contents: Any) -> str:
    return line("bob", "/sync", response={"to_device": {"events": [{"content": each} for each in contents]}})


BOB = line("bob", "/keys/upload", {"device_keys": {"user_id": "@bob:x", "device_id": "B"}}, {})


def key_to_bob(*, status: int = 200) -> str:
    messages = {"messages": {"@bob:x": {"B": SECRET}}}
    return line("alice", "/sendToDevice/m.room.encrypted/1", messages, {}, status=status)


def audit(folder: Path, *lines: str) -> list[str]:
    transcript = folder / "transcript"
    transcript.write_text("\n".join(lines))
    return lost_to_device_messages(transcript)


def test_a_message_that_was_accepted_and_never_came_is_lost(tmp_path: Path) -> None:
    assert len(audit(tmp_path, BOB, key_to_bob(), sync(), sync())) == 1


def test_a_message_that_came_is_not_lost_whenever_it_came(tmp_path: Path) -> None:
    assert audit(tmp_path, BOB, sync(SECRET), key_to_bob(), sync(), sync()) == []
    assert audit(tmp_path, BOB, key_to_bob(), sync(), sync(), sync(SECRET)) == []


def test_what_was_not_accepted_or_not_waited_for_is_not_lost(tmp_path: Path) -> None:
    assert audit(tmp_path, BOB, key_to_bob(status=0), sync(), sync()) == []
    assert audit(tmp_path, BOB, key_to_bob(), sync()) == []
