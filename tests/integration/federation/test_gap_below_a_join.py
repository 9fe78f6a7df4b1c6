"""Somebody joins on another server while we join through it: the gap reaches below our join, to the beginning of the room.

What lies before our join is history: it is told in no sync, and paging finds it where it belongs. What others have said meanwhile,
not knowing of our join, is news. (FED-14, FED-15, FED-16)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import reference_to
from homeserver.events.event import Event
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom, Told
from tests.support.remote_server import Asked, status
from tests.support.server import Server
from tests.support.user import User

MOST = 20
"""Events that other servers give in one answer."""
V1 = "/_matrix/federation/v1"
SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
ROOMS = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 50, "required_state": []}}}


class Forked(RemoteRoom):
    """Its events stand on chosen ones, and it tells what lies between, before them, and the state there."""

    sent = 0
    slow_ms = 0
    """How far behind the clock is of those whose events are placed `on` others."""
    hidden: frozenset[str] = frozenset()
    """What it does not give out."""

    def on(
        self, prev: Sequence[Event], kind: str, content: Told, key: str | None = None, by: str = ""
    ) -> Event:
        """An event on these, by a clock that may be slow."""
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
            origin_server_ts=int(time.time() * 1000) - self.slow_ms,
        )
        self.events.append(event)
        return event

    def says(self, body: str, *prev: Event) -> Event:
        """A message on these, or on the newest."""
        return self.on(prev or self.events[-1:], "m.room.message", {"msgtype": "m.text", "body": body})

    def tells(self) -> None:
        """Answer who joins and who asks about events."""
        self.serves()
        self.remote.answers("POST", f"{V1}/get_missing_events/*", self.missing)
        self.remote.answers("GET", f"{V1}/backfill/*", self.older)
        self.remote.answers("GET", f"{V1}/state_ids/*", self.state_ids)

    async def pushes(self, here: Server, *events: Event) -> None:
        """In one transaction."""
        self.sent += 1
        pdus = [dict(event.fields) for event in events]
        body = {"origin": self.remote.name, "origin_server_ts": 1, "pdus": pdus}
        code, _ = await self.remote.ask(here, "PUT", f"{V1}/send/{self.sent}", body)
        assert code == 200

    def missing(self, asked: Asked) -> Any:
        """Answers `get_missing_events`."""
        found = self._before(asked.json["latest_events"], asked.json["earliest_events"])
        return {"events": [dict(event.fields) for event in found[:MOST][::-1]]}

    def older(self, asked: Asked) -> Any:
        """Answers `backfill`."""
        named = asked.query.getall("v")
        found = [event for event in self.events if event.event_id in named]
        found = [event for event in (*found, *self._before(named, [])) if event.event_id not in self.hidden]
        return {
            "origin": self.remote.name,
            "origin_server_ts": 1,
            "pdus": [dict(event.fields) for event in found[: int(asked.query["limit"])]],
        }

    def state_ids(self, asked: Asked) -> Any:
        """Answers `state_ids`."""
        before = {event.event_id for event in self._before([asked.query["event_id"]], [])}
        state = {each.key: each for each in self.events if each.event_id in before and each.key is not None}
        chain = {each for event in state.values() for each in event.auth_event_ids}
        return {
            "pdu_ids": [event.event_id for event in state.values()],
            "auth_chain_ids": sorted(chain),
        }

    def _before(self, latest: Sequence[str], earliest: Sequence[str]) -> list[Event]:
        by_id = {event.event_id: event for event in self.events}
        queue = list(latest)
        seen = {*earliest, *queue}
        found: list[Event] = []
        for each in queue:  # which grows meanwhile
            new = [prev for prev in by_id[each].prev_event_ids if prev not in seen]
            seen.update(new)
            queue += new
            found += [by_id[prev] for prev in new]
        return found


async def entered(federation: Federation, version: str = "12", said: int = 0) -> tuple[Server, User, Forked]:
    """A room where so much was said before anna joins it and syncs; `room.events[-1]` is her join."""
    here, remote = await federation.start(), await federation.remote()
    room = Forked(remote, version)
    room.member(remote.user("early"), "join")
    for number in range(said):
        room.send("m.room.message", {"msgtype": "m.text", "body": f"old {number}"})
    return here, await enters(here, room), room


async def enters(here: Server, room: Forked) -> User:
    """Anna, who joins and syncs."""
    room.tells()
    anna = await here.register("anna")
    await anna.join(room.name, via=[room.remote.name])
    room.ends = []
    await anna.sees(room.name, room.joins[0].event_id)
    return anna


async def news(user: User, room: Forked, last: Event) -> list[str]:
    """What syncs tell from the user's token on, up to an event that comes."""
    told: list[str] = []
    while last.event_id not in told:
        reply = await user.sync_until(
            lambda reply: room.name in reply["rooms"]["join"],
            timeout=20,
            filter={"room": {"timeline": {"limit": 100}}},
        )
        timeline = reply["rooms"]["join"][room.name]["timeline"]
        assert not timeline["limited"]
        told += [event["event_id"] for event in timeline["events"]]
    return told


async def paged(user: User, room: Forked) -> list[str]:
    """The whole history, the oldest first."""
    found: list[str] = []
    page: dict[str, Any] = {"end": None}
    while "end" in page:
        start = {"from": page["end"]} if page["end"] else {}
        page = await user.messages(room.name, limit=100, **start)
        found = [*(event["event_id"] for event in reversed(page["chunk"])), *found]
    return found


@pytest.mark.parametrize("version", ["6", "11", "12"])
async def test_what_lies_below_our_join_is_history(federation: Federation, version: str) -> None:
    """The room's own beginning is part of the gap (FED-12: were it refused, nothing of the room came any more)."""
    here, anna, room = await entered(federation, version)
    (join,) = room.joins
    before = room.events[-2]
    listing = await anna.post(SLIDING, json=ROOMS)
    late, later = room.remote.user("late"), room.remote.user("later")
    beside = room.on([before], "m.room.member", {"membership": "join"}, late, late)
    both = room.says("both", beside, join)
    newest = room.on([both], "m.room.member", {"membership": "join"}, later, later)
    await room.pushes(here, newest)
    assert await news(anna, room, newest) == [beside.event_id, both.event_id, newest.event_id]
    listing = await anna.post(SLIDING, json=ROOMS, params={"pos": listing["pos"]})
    told = [event["event_id"] for event in listing["rooms"][room.name]["timeline"]]
    assert told == [beside.event_id, both.event_id, newest.event_id]
    assert await paged(anna, room) == [event.event_id for event in room.events]
    state = {event["event_id"] for event in await anna.state(room.name)}
    assert state == {event.event_id for event in [*room.state.values(), beside, newest]}


async def test_a_branch_from_far_below_our_join_does_not_bring_the_past_along(federation: Federation) -> None:
    """Whoever was behind has said something on what is old: that is news, what it stands on is not."""
    here, anna, room = await entered(federation, said=60)
    (join,) = room.joins
    old = room.events[-8]
    behind = room.says("behind", old)
    both = room.says("both", behind, join)
    await room.pushes(here, both)
    assert await news(anna, room, both) == [behind.event_id, both.event_id]
    assert await paged(anna, room) == [event.event_id for event in room.events]


async def test_a_branch_from_beyond_reach_is_bridged_by_the_state(federation: Federation) -> None:
    """Neither is the past told as new, nor does the room come to a halt."""
    here, anna, room = await entered(federation, said=250)
    (join,) = room.joins
    both = room.says("both", room.says("behind", room.events[8]), join)
    await room.pushes(here, both)
    await anna.sees(room.name, both.event_id)
    before = {event.event_id for event in room.events[: room.events.index(join)]}
    assert before.isdisjoint(event["event_id"] for event in anna.timeline[room.name])
    last = room.says("last")
    await room.pushes(here, last)
    assert await news(anna, room, last) == [last.event_id]


async def test_the_past_is_not_new_because_somebody_sends_it(federation: Federation) -> None:
    """A server that was away sends again what it said before our join."""
    here, anna, room = await entered(federation, said=5)
    await room.pushes(here, room.events[-2])
    last = room.says("last", room.joins[0])
    await room.pushes(here, last)
    assert await news(anna, room, last) == [last.event_id]
    assert await paged(anna, room) == [event.event_id for event in room.events]


async def test_a_branch_that_our_join_stands_on_is_not_new_because_somebody_sends_it(
    federation: Federation,
) -> None:
    """All that it refers to is here already: nothing has to be fetched, and it is history all the same."""
    here, remote = await federation.start(), await federation.remote()
    room = Forked(remote)
    base = room.events[-1]
    told, untold = room.says("told", base), room.says("untold", base)
    room.ends = [told, untold]
    room.hidden = frozenset({untold.event_id})
    anna = await enters(here, room)
    assert untold.event_id not in await paged(anna, room)
    await room.pushes(here, untold)
    last = room.says("last", room.joins[0])
    await room.pushes(here, last)
    assert await news(anna, room, last) == [last.event_id]
    assert set(await paged(anna, room)) == {event.event_id for event in room.events}


async def test_news_come_where_the_past_is_not_to_be_had(federation: Federation) -> None:
    """No server gives what lies before our join: what is said since is told all the same."""
    here, anna, room = await entered(federation, said=5)
    (join,) = room.joins
    for path in ("backfill", "get_missing_events"):
        refused = status(403, {"errcode": "M_FORBIDDEN", "error": "Not for you"})
        room.remote.answers("GET", f"{V1}/{path}/*", refused)
        room.remote.answers("POST", f"{V1}/{path}/*", refused)
    both = room.says("both", room.says("beside", room.events[-2]), join)
    await room.pushes(here, both)
    await anna.sees(room.name, both.event_id)


@pytest.mark.parametrize("below", [2, 41, 151])
async def test_what_was_said_beside_our_join_is_news_by_a_slow_clock_too(
    federation: Federation, below: int
) -> None:
    """By depth and clock it is older than our join. But the join does not stand on it, so no paging from there would find it."""
    here, anna, room = await entered(federation, said=160)
    (join,) = room.joins
    room.slow_ms = 3_600_000
    aside = [room.says("aside 0", room.events[-1 - below])]
    for number in range(1, min(below // 2, MOST + 10)):
        aside.append(room.says(f"aside {number}", aside[-1]))
    assert all(event.depth < join.depth for event in aside)
    room.slow_ms = 0
    both = room.says("both", aside[-1], join)
    await room.pushes(here, both)
    assert await news(anna, room, both) == [event.event_id for event in [*aside, both]]
    assert set(await paged(anna, room)) == {event.event_id for event in room.events}


async def test_what_may_lie_below_our_join_and_what_it_stands_on_is_not_told_is_left_to_paging(
    federation: Federation,
) -> None:
    """Nobody gives what the join stands on: what seems to be older by depth and clock may be part of that. Clients are told that
    something is missing there, and find it."""
    here, anna, room = await entered(federation, said=20)
    (join,) = room.joins
    room.remote.answers("GET", f"{V1}/backfill/*", status(404, {"errcode": "M_NOT_FOUND", "error": "No"}))
    room.slow_ms = 3_600_000
    aside = room.says("aside", room.events[-6])
    room.slow_ms = 0
    both = room.says("both", aside, join)
    await room.pushes(here, both)
    reply = await anna.sync_until(lambda reply: room.name in reply["rooms"]["join"])
    timeline = reply["rooms"]["join"][room.name]["timeline"]
    assert timeline["limited"]
    assert [event["event_id"] for event in timeline["events"]] == [both.event_id]
    room.remote.answers("GET", f"{V1}/backfill/*", room.older)
    page = await anna.messages(room.name, limit=100, **{"from": timeline["prev_batch"]})
    assert page["chunk"][0]["event_id"] == aside.event_id
