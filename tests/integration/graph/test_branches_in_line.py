"""A branch that comes together, event after event, beside what was said here: the room's state is resolved at its end, and all is
as if each had come by itself (STATE-09).
"""

from pathlib import Path
from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.graph.refs import SOFT_FAILED
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester
from tests.integration.graph.test_receiving_many import TEXT, counted
from tests.support.forks import Branch, Fork, receive_together, state_of
from tests.support.graph import Process, process

BOB, CAROL, DAVE = (f"@{name}:elsewhere.example" for name in ("bob", "carol", "dave"))
VERSIONS = ("6", "11", "12")


async def forked(here: Process, version: str) -> tuple[Requester, RoomId, Branch, Event]:
    """A room with Bob and Carol, a branch that begins where nothing has been said yet by others, and what was said here since."""
    alice = await here.user("alice")
    room_id = await here.room(alice, preset="public_chat", room_version=version)
    first = (await Fork.of(here, room_id)).branch()
    joins = [first.says(each, "m.room.member", each, {"membership": "join"}) for each in (BOB, CAROL)]
    await receive_together(here, room_id, *joins)
    branch = (await Fork.of(here, room_id)).branch()
    ours = (await Fork.of(here, room_id)).branch()
    await receive_together(
        here, room_id, ours.says(alice.user_id, "m.room.join_rules", "", {"join_rule": "invite"})
    )
    return alice, room_id, branch, ours.tip


def renamed(branch: Branch, who: str, count: int) -> list[Event]:
    return [
        branch.says(who, "m.room.member", who, {"membership": "join", "displayname": str(number)})
        for number in range(count)
    ]


async def points(here: Process, room_id: RoomId) -> list[str]:
    return sorted(ref.event_id for ref in (await here.core.rooms.known(room_id)).extremities)


async def whole_state(here: Process, room_id: RoomId) -> dict[Any, str]:
    """By the room's row, by its chain, and by what is in memory: all say the same."""
    state = {key: each.event_id for key, each in (await state_of(here, room_id)).items()}
    here.core.rooms.reset()
    assert {key: each.event_id for key, each in (await state_of(here, room_id)).items()} == state
    by_chain = await here.core.states.load((await here.core.rooms.known(room_id)).room_state.nid)
    assert len(by_chain) == len(state)
    return state


@pytest.mark.parametrize("version", VERSIONS)
async def test_state_09_a_branch_is_resolved_once(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """100 changes of state on a branch: two appends, and the client sees each."""
    async with process(database, tmp_path) as here:
        alice, room_id, branch, ours = await forked(here, version)
        since = (await here.sync(alice))["next_batch"]
        events = renamed(branch, BOB, 100)
        count = counted(here, monkeypatch)
        received = await receive_together(here, room_id, *events)
        assert [each.flags for each in received] == [0] * 100
        assert count.appends <= 2
        assert await points(here, room_id) == sorted([ours.event_id, events[-1].event_id])
        state = await whole_state(here, room_id)
        assert state["m.room.member", BOB] == events[-1].event_id
        assert state["m.room.join_rules", ""] == ours.event_id
        room = (await here.sync(alice, since=since))["rooms"]["join"][room_id]
        told = [*room.get("state", {}).get("events", ()), *room["timeline"]["events"]]
        assert told[-1]["event_id"] == events[-1].event_id
        assert told[-1]["content"]["displayname"] == "99"


@pytest.mark.parametrize("length", [1, 2, 5])
async def test_what_comes_before_something_that_fails_counts(
    database: str, tmp_path: Path, length: int
) -> None:
    """Bob is banned here, which the branch does not know: what Carol did before he speaks there is in the room."""
    async with process(database, tmp_path) as here:
        alice, room_id, branch, _ = await forked(here, "11")
        ours = (await Fork.of(here, room_id)).branch()
        await receive_together(
            here, room_id, ours.says(alice.user_id, "m.room.member", BOB, {"membership": "ban"})
        )
        hers = renamed(branch, CAROL, length)
        his = branch.says(BOB, "m.room.message", None, TEXT)
        received = await receive_together(here, room_id, *hers, his)
        assert [each.flags for each in received] == [*[0] * length, SOFT_FAILED]
        assert await points(here, room_id) == sorted([ours.tip.event_id, hers[-1].event_id])
        assert (await whole_state(here, room_id))["m.room.member", CAROL] == hers[-1].event_id
        more = renamed(branch, CAROL, 3)
        received = await receive_together(here, room_id, *more)
        assert [each.flags for each in received] == [0] * 3
        assert (await whole_state(here, room_id))["m.room.member", CAROL] == more[-1].event_id


async def test_what_was_followed_is_no_end_again(database: str, tmp_path: Path) -> None:
    """Something that fails stands on the middle of a branch that has gone on."""
    async with process(database, tmp_path) as here:
        alice, room_id, branch, _ = await forked(here, "11")
        ours = (await Fork.of(here, room_id)).branch()
        await receive_together(
            here, room_id, ours.says(alice.user_id, "m.room.member", BOB, {"membership": "ban"})
        )
        (first,) = renamed(branch, CAROL, 1)
        more = renamed(branch, CAROL, 2)
        aside = (await Fork.of(here, room_id)).branch()
        aside.tip, aside.state = first, dict(branch.state)
        his = aside.says(BOB, "m.room.message", None, TEXT)
        received = await receive_together(here, room_id, first, *more, his)
        assert [each.flags for each in received] == [0, 0, 0, SOFT_FAILED]
        assert await points(here, room_id) == sorted([ours.tip.event_id, more[-1].event_id])
        assert (await whole_state(here, room_id))["m.room.member", CAROL] == more[-1].event_id


async def test_who_comes_on_a_branch_may_speak_there(database: str, tmp_path: Path) -> None:
    """By the room as it was he is not in it: that he has come just before counts."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat", room_version="11")
        branch, ours = [(await Fork.of(here, room_id)).branch() for _ in range(2)]
        await receive_together(here, room_id, ours.says(alice.user_id, "m.room.topic", "", {"topic": "ours"}))
        events = [branch.says(DAVE, "m.room.member", DAVE, {"membership": "join"})]
        events += [branch.says(DAVE, "m.room.message", None, TEXT) for _ in range(3)]
        events += renamed(branch, DAVE, 3)
        events += [branch.says(DAVE, "m.room.message", None, TEXT) for _ in range(3)]
        received = await receive_together(here, room_id, *events)
        assert [each.flags for each in received] == [0] * len(events)
        assert await points(here, room_id) == sorted([ours.tip.event_id, events[-1].event_id])
        assert (await whole_state(here, room_id))["m.room.member", DAVE] == events[6].event_id
        timeline = (await here.sync(alice))["rooms"]["join"][room_id]["timeline"]["events"]
        assert [event["event_id"] for event in timeline][-len(events) :] == [
            event.event_id for event in events
        ]


async def test_who_was_sent_away_on_a_branch_sees_nothing_of_the_rest(database: str, tmp_path: Path) -> None:
    """A kick of one of ours is resolved by itself: what follows comes after they have left."""
    async with process(database, tmp_path) as here:
        alice, room_id, _, _ = await forked(here, "11")
        erin = await here.user("erin")
        first = (await Fork.of(here, room_id)).branch()
        await receive_together(
            here,
            room_id,
            first.says(alice.user_id, "m.room.member", erin.user_id, {"membership": "invite"}),
            first.says(erin.user_id, "m.room.member", erin.user_id, {"membership": "join"}),
        )
        since = (await here.sync(erin))["next_batch"]
        branch, ours = [(await Fork.of(here, room_id)).branch() for _ in range(2)]
        await receive_together(here, room_id, ours.says(alice.user_id, "m.room.topic", "", {"topic": "ours"}))
        events = renamed(branch, BOB, 2)
        kick = branch.says(alice.user_id, "m.room.member", erin.user_id, {"membership": "leave"})
        after = renamed(branch, BOB, 3)
        received = await receive_together(here, room_id, *events, kick, *after)
        assert [each.flags for each in received] == [0] * 6
        left = (await here.sync(erin, since=since))["rooms"]["leave"][room_id]
        ids = [event["event_id"] for event in left["timeline"]["events"]]
        assert ids[-3:] == [events[0].event_id, events[1].event_id, kick.event_id]
        assert (await whole_state(here, room_id))["m.room.member", BOB] == after[-1].event_id
