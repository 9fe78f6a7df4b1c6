"""Somebody joins on another server while we join through it: the gap reaches below our join, to the beginning of the room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import reference_to
from homeserver.events.event import Event
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom, Told
from tests.support.remote_server import Asked

MOST = 20
"""Events that other servers give in one answer."""


class Forked(RemoteRoom):
    """Its events stand on chosen ones, and it tells what lies between."""

    def on(
        self, prev: Sequence[Event], kind: str, content: Told, key: str | None = None, by: str = ""
    ) -> Event:
        """An event on these."""
        sender = by or self.creator
        keys = auth_keys_for(kind, key, sender, content, self.version)
        event = self.remote.event(
            self.version.id,
            kind,
            content,
            state_key=key,
            sender=sender,
            room_id=self.room_id,
            prev=[reference_to(each) for each in prev],
            auth=[reference_to(self.state[each]) for each in keys if each in self.state],
            depth=max(each.depth for each in prev) + 1,
        )
        self.events.append(event)
        return event

    def missing(self, asked: Asked) -> Any:
        """Answers `get_missing_events`."""
        by_id = {event.event_id: event for event in self.events}
        queue = list(asked.json["latest_events"])
        seen = {*asked.json["earliest_events"], *queue}
        found: list[Event] = []
        for each in queue:  # which grows meanwhile
            new = [prev for prev in by_id[each].prev_event_ids if prev not in seen]
            seen.update(new)
            queue += new
            found += [by_id[prev] for prev in new]
        return {"events": [dict(event.fields) for event in found[:MOST][::-1]]}


@pytest.mark.parametrize("version", ["6", "11", "12"])
async def test_the_rooms_own_beginning_is_not_refused(federation: Federation, version: str) -> None:
    """FED-12, FED-14: with it all that rests on it would be, and nothing of the room came any more."""
    here, remote = await federation.start(), await federation.remote()
    room = Forked(remote, version)
    room.member(remote.user("early"), "join")
    room.serves()
    remote.answers("POST", "/_matrix/federation/v1/get_missing_events/*", room.missing)
    anna = await here.register("anna")
    before = room.events[-1]
    await anna.join(room.name, via=[remote.name])
    (join,) = room.joins
    late, later = remote.user("late"), remote.user("later")
    beside = room.on([before], "m.room.member", {"membership": "join"}, late, late)
    both = room.on([beside, join], "m.room.message", {"msgtype": "m.text", "body": "both"})
    newest = room.on([both], "m.room.member", {"membership": "join"}, later, later)
    body = {"origin": remote.name, "origin_server_ts": 1, "pdus": [dict(newest.fields)]}
    status, _ = await remote.ask(here, "PUT", "/_matrix/federation/v1/send/1", body)
    assert status == 200
    await anna.sees(room.name, newest.event_id, timeout=20)
    shown = {event["event_id"] for event in (await anna.messages(room.name, limit=100))["chunk"]}
    assert {event.event_id for event in room.events} <= shown
    state = {event["event_id"] for event in await anna.state(room.name)}
    expected = {event.event_id for event in [*room.state.values(), beside, newest]}
    assert state == expected
