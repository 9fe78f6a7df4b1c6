"""Older events that are found later: shown where they belong, told in no sync."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import REJECTED
from homeserver.graph.write.receive import MissingEvents
from homeserver.matrix import json
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.web.auth import Requester
from tests.support.forks import Branch, Fork, receive_together, state_of
from tests.support.graph import Process, process

TEXT = {"msgtype": "m.text", "body": "from before"}
VISIBILITY = "m.room.history_visibility"


class Hole:
    """A room of alice's with ten events that are missing, and one behind them that is here."""

    def __init__(self, here: Process, alice: Requester, room_id: RoomId, fork: Fork) -> None:
        self.here, self.alice, self.room_id, self.fork = here, alice, room_id, fork
        self.branch: Branch = fork.branch()
        self.missing: list[Event] = []
        self.states: list[list[EventId]] = []

    @classmethod
    async def dig(cls, here: Process, contents: Sequence[tuple[str, str | None, dict[str, Any]]]) -> "Hole":
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat", room_version="11")
        hole = cls(here, alice, room_id, await Fork.of(here, room_id))
        for kind, key, content in contents:
            hole.states.append([each.event_id for each in hole.branch.state.values()])
            hole.missing.append(hole.branch.says(alice.user_id, kind, key, content))
        states = [event for event in hole.missing if event.key is not None]
        room = await here.core.rooms.known(room_id)
        await here.core.outliers.add(room.name, states)
        given = [each.event_id for each in hole.branch.state.values()]
        behind = hole.branch.says(alice.user_id, "m.room.message", None, {**TEXT, "body": "behind"})
        await receive_together(here, room_id, behind, states={behind.event_id: given})
        hole.behind = behind.event_id
        return hole

    behind: EventId

    async def add(self, *events: Event, state: Sequence[EventId] | None = None) -> list[Any]:
        room = await self.here.core.rooms.known(self.room_id)
        return await self.here.core.backfill.add(room.name.nid, events, state)

    async def pages(self, who: Requester, limit: int, *, backwards: bool = True) -> list[str]:
        """All of the room by pages, the oldest first."""
        found: list[str] = []
        start: int | None = None
        while True:
            page = await self.here.rooms.history.messages(
                who,
                self.room_id,
                start=start,
                stop=None,
                backwards=backwards,
                limit=limit,
                wanted=RoomEventFilter(),
            )
            found += [json.loads(event)["event_id"] for event in page.chunk]
            if page.end is None:
                return found[::-1] if backwards else found
            start = parse_token(page.end, "from")


def messages(count: int) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [("m.room.message", None, {**TEXT, "n": n}) for n in range(count)]


async def test_room_22_what_is_found_is_paged_in_its_place_and_told_in_no_sync(
    database: str, tmp_path: Path
) -> None:
    """In two parts, the newer first; tokens of before stay where they are."""
    async with process(database, tmp_path) as here:
        hole = await Hole.dig(here, messages(10))
        ids = [event.event_id for event in hole.missing]
        here_before = await hole.pages(hole.alice, 100)
        since = (await here.sync(hole.alice))["next_batch"]
        with pytest.raises(MissingEvents):
            await hole.add(*hole.missing[5:])
        assert await hole.add(*hole.missing[:5]) == [], "nothing leads to them yet"
        added = await hole.add(*reversed(hole.missing[5:]), state=hole.states[5])
        assert [each.event.event_id for each in added] == ids[5:]
        page = await here.rooms.history.messages(
            hole.alice, hole.room_id, start=None, stop=None, backwards=True, limit=4, wanted=RoomEventFilter()
        )
        token = parse_token(page.end or "", "from")
        assert await hole.add(*hole.missing[5:], state=hole.states[5]) == []
        await hole.add(*hole.missing[:5])
        at = here_before.index(hole.behind)
        expected = [*here_before[:at], *ids, *here_before[at:]]
        for limit in (1, 3, 100):
            for backwards in (True, False):
                assert await hole.pages(hole.alice, limit, backwards=backwards) == expected
        page = await here.rooms.history.messages(
            hole.alice,
            hole.room_id,
            start=token,
            stop=None,
            backwards=True,
            limit=3,
            wanted=RoomEventFilter(),
        )
        assert [json.loads(event)["event_id"] for event in page.chunk] == ids[4:7][::-1]
        assert not (await here.sync(hole.alice, since)).get("rooms", {}).get("join")
        async with here.core.db.read() as tx:
            assert not await tx.all("SELECT * FROM backward_extremities")
        context = await here.rooms.history.context(hole.alice, hole.room_id, ids[4], 4, RoomEventFilter())
        assert [json.loads(event)["event_id"] for event in context.before] == [ids[3], ids[2]]
        assert [json.loads(event)["event_id"] for event in context.after] == [ids[5], ids[6]]
        sent = await here.send(hole.alice, hole.room_id, "on")
        assert (await hole.pages(hole.alice, 4))[-1] == sent


async def test_another_process_sees_what_was_found(database: str, tmp_path: Path) -> None:
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        hole = await Hole.dig(one, messages(3))
        await two.core.tail.fresh()
        other = Hole(two, hole.alice, hole.room_id, hole.fork)
        before = await other.pages(hole.alice, 100)
        await hole.add(*hole.missing)
        await two.core.tail.fresh()
        assert len(await other.pages(hole.alice, 100)) == len(before) + 3
        assert await other.pages(hole.alice, 2) == await hole.pages(hole.alice, 3)


async def test_hv_01_the_state_of_then_says_who_may_see_what_was_found(database: str, tmp_path: Path) -> None:
    """HV-04: for members at first, and open when bob came: he sees what was said since; also once memory has an answer."""
    async with process(database, tmp_path) as here:
        bob = await here.user("bob")
        hole = await Hole.dig(
            here,
            [
                (VISIBILITY, "", {"history_visibility": "joined"}),
                ("m.room.message", None, {**TEXT, "body": "not for bob"}),
                (VISIBILITY, "", {"history_visibility": "shared"}),
                ("m.room.message", None, {**TEXT, "body": "for all"}),
            ],
        )
        await here.rooms.membership.join(bob, hole.room_id)
        await hole.pages(bob, 100)
        added = await hole.add(*hole.missing)
        assert [each.flags for each in added] == [0] * 4
        seen = await hole.pages(bob, 100)
        assert hole.missing[1].event_id not in seen
        assert hole.missing[3].event_id in seen
        assert {event.event_id for event in hole.missing} <= set(await hole.pages(hole.alice, 100))
        state = await state_of(here, hole.room_id)
        assert state[VISIBILITY, ""].event_id == hole.missing[2].event_id


async def test_red_02_redactions_reach_what_was_found(database: str, tmp_path: Path) -> None:
    """One that was here before its target, one that is found with it, one of a state event that states name by its old number."""
    async with process(database, tmp_path) as here:
        hole = await Hole.dig(
            here,
            [
                ("m.room.message", None, {**TEXT, "body": "waited for"}),
                ("m.room.message", None, {**TEXT, "body": "found with its redaction"}),
                ("m.room.topic", "", {"topic": "secret"}),
            ],
        )
        alice = hole.alice.user_id
        waiting = hole.branch.says(alice, "m.room.redaction", None, {"redacts": hole.missing[0].event_id})
        await receive_together(here, hole.room_id, waiting)
        await hole.add(*hole.missing)
        topic = hole.branch.says(alice, "m.room.redaction", None, {"redacts": hole.missing[2].event_id})
        await receive_together(here, hole.room_id, topic)
        assert waiting.event_id in await hole.pages(hole.alice, 2)
        for reset in (False, True):
            if reset:
                here.core.rooms.reset()
            first = await here.core.events.by_id(hole.missing[0].event_id)
            assert first is not None
            assert not first.event.content
            state = await state_of(here, hole.room_id)
            assert not state["m.room.topic", ""].content
            third = await here.core.events.by_id(hole.missing[2].event_id)
            assert third is not None
            assert not third.event.content


async def test_fed_12_what_the_rules_refuse_is_rejected_in_the_past_too(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        hole = await Hole.dig(here, messages(1))
        eve = "@eve:elsewhere.example"
        branch = hole.fork.branch()
        forged = branch.says(eve, "m.room.message", None, TEXT)
        behind = branch.says(hole.alice.user_id, "m.room.message", None, TEXT)
        given = [each.event_id for each in branch.state.values()]
        await receive_together(here, hole.room_id, behind, states={behind.event_id: given})
        (added,) = await hole.add(forged)
        assert added.flags == REJECTED
        assert forged.event_id not in await hole.pages(hole.alice, 100)


class Asked:
    """Another server that has what is missing, three events at a time; or is away."""

    def __init__(self, hole: Hole, *, away: bool = False) -> None:
        self.hole, self.away = hole, away
        self.asked = 0

    async def find_older(
        self, requester: Requester, room: RoomIdentity, missing: Sequence[EventId], limit: int
    ) -> bool:
        del requester, limit
        self.asked += 1
        if self.away:
            return False
        ids = [event.event_id for event in self.hole.missing]
        last = ids.index(missing[0]) + 1
        first = max(0, last - 3)
        state = self.hole.states[first] if first else None
        return bool(await self.hole.here.core.backfill.add(room.nid, self.hole.missing[first:last], state))


async def test_room_22_paging_asks_for_what_is_missing(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        hole = await Hole.dig(here, messages(10))
        before = await hole.pages(hole.alice, 100)
        asked = Asked(hole, away=True)
        here.rooms.history.find_older_with(asked)
        assert await hole.pages(hole.alice, 4) == before
        asked.away = False
        at = before.index(hole.behind)
        expected = [*before[:at], *[event.event_id for event in hole.missing], *before[at:]]
        assert await hole.pages(hole.alice, 4) == expected
        count = asked.asked
        assert await hole.pages(hole.alice, 4) == expected
        assert asked.asked == count, "nothing is missing any more"
