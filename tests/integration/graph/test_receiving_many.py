"""Events of one room that come from elsewhere together are written together, and become what they become one by one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.events.parse import EventFormatError
from homeserver.graph.refs import REJECTED, SOFT_FAILED
from homeserver.graph.write.receive import EventIdTaken, MissingEvents
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import EventId
from homeserver.policy.types import Act, Allow, Check, Kind, Refuse, Verdict
from tests.support.forks import Elsewhere, Fork, receive_together, state_of
from tests.support.graph import Process, process

TEXT = {"msgtype": "m.text", "body": "from elsewhere"}


class Counted:
    """How often the database was asked, and how many appends were made."""

    def __init__(self) -> None:
        self.asked = 0
        self.appends = 0


def counted(here: Process, monkeypatch: pytest.MonkeyPatch) -> Counted:
    count = Counted()

    def counting(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            setattr(count, name, getattr(count, name) + 1)
            return work(*given, **named)

        return wrapped

    for name in ("read", "transaction", "snapshot"):
        monkeypatch.setattr(here.core.db, name, counting(getattr(here.core.db, name), "asked"))
    monkeypatch.setattr(here.core.log, "add", counting(here.core.log.add, "appends"))
    return count


async def test_fed_10_a_hundred_messages_cost_one_append_and_few_queries(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        branch = (await Fork.of(here, room_id)).branch()
        events = [branch.says(alice.user_id, "m.room.message", None, TEXT) for _ in range(100)]
        count = counted(here, monkeypatch)
        received = await receive_together(here, room_id, *events)
        assert count.appends == 1
        assert count.asked <= 8
        assert [each.event.event_id for each in received] == [event.event_id for event in events]
        assert [each.nid for each in received] == sorted(each.nid for each in received)
        again = await receive_together(here, room_id, *events)
        assert [each.nid for each in again] == [each.nid for each in received]
        assert count.appends == 1, "what is here is not written again"


async def test_state_in_a_row_is_one_append_too(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memberships that rest on what came just before, among them one that takes another back."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        people = [f"@p{number}:elsewhere.example" for number in range(30)]
        events = [branch.says(each, "m.room.member", each, {"membership": "join"}) for each in people]
        events += [branch.says(each, "m.room.message", None, TEXT) for each in people]
        events.append(branch.says(alice.user_id, "m.room.member", people[0], {"membership": "ban"}))
        events.append(branch.says(people[0], "m.room.message", None, TEXT))
        count = counted(here, monkeypatch)
        received = await receive_together(here, room_id, *events)
        assert [each.flags for each in received] == [0] * (len(events) - 1) + [REJECTED]
        assert count.appends == 1
        room = await here.core.rooms.known(room_id)
        assert room.joined_count == 1 + len(people) - 1
        state = await state_of(here, room_id)
        here.core.rooms.reset()
        assert await state_of(here, room_id) == state
        by_chain = await here.core.states.load((await here.core.rooms.known(room_id)).room_state.nid)
        assert len(by_chain) == len(state)


async def test_fed_13_soft_failure_is_told_from_rejection(database: str, tmp_path: Path) -> None:
    """Bob is banned here; what he says on the branch where he is not is soft failed, and what rests on it is judged anew."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        bob = "@bob:elsewhere.example"
        fork = await Fork.of(here, room_id)
        branch = fork.branch()
        await receive_together(here, room_id, branch.says(bob, "m.room.member", bob, {"membership": "join"}))
        fork = await Fork.of(here, room_id)
        ours, his = fork.branch(), fork.branch()
        ban = ours.says(alice.user_id, "m.room.member", bob, {"membership": "ban"})
        said = [his.says(bob, "m.room.message", None, TEXT) for _ in range(3)]
        coup = his.says(bob, "m.room.name", "", {"name": "bob's"})
        spoken = his.says(alice.user_id, "m.room.message", None, TEXT)
        received = await receive_together(here, room_id, ban, *said, coup, spoken)
        assert [each.flags for each in received] == [0, *[SOFT_FAILED] * 3, REJECTED, 0]
        answer = await here.sync(alice)
        shown = {each["event_id"] for each in answer["rooms"]["join"][room_id]["timeline"]["events"]}
        assert shown & {event.event_id for event in (*said, coup)} == set()
        assert spoken.event_id in shown


async def test_a_redaction_and_its_target_come_together_in_either_order(
    database: str, tmp_path: Path
) -> None:
    """RED-02"""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, room_version="11")
        since = (await here.sync(alice))["next_batch"]
        branch = (await Fork.of(here, room_id)).branch()
        secret = branch.says(alice.user_id, "m.room.message", None, TEXT)
        redaction = branch.says(alice.user_id, "m.room.redaction", None, {"redacts": secret.event_id})
        fork = await Fork.of(here, room_id)
        target = fork.branch().says(alice.user_id, "m.room.message", None, {**TEXT, "n": 1})
        first = fork.branch().says(alice.user_id, "m.room.redaction", None, {"redacts": target.event_id})
        await receive_together(here, room_id, secret, redaction, first, target)
        answer = await here.sync(alice, since)
        shown = {each["event_id"]: each for each in answer["rooms"]["join"][room_id]["timeline"]["events"]}
        assert shown.keys() == {event.event_id for event in (secret, redaction, first, target)}
        assert not shown[secret.event_id]["content"]
        assert not shown[target.event_id]["content"]
        here.core.rooms.reset()
        for event in (secret, target):
            persisted = await here.core.events.by_id(event.event_id)
            assert persisted is not None
            assert not persisted.event.content


async def test_fed_14_what_is_missing_is_named_before_anything_is_written(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        branch = (await Fork.of(here, room_id)).branch()
        first, second, third = (branch.says(alice.user_id, "m.room.message", None, TEXT) for _ in range(3))
        position = here.core.tail.position
        with pytest.raises(MissingEvents) as missing:
            await receive_together(here, room_id, first, third)
        assert missing.value.event_ids == [second.event_id]
        with pytest.raises(MissingEvents):
            await receive_together(here, room_id, second, first)
        assert here.core.tail.position == position
        await receive_together(here, room_id, first, second, third)


async def test_previous_events_that_are_missing_are_stood_in_for_by_a_given_state(
    database: str, tmp_path: Path
) -> None:
    """FED-14: what another server says the state was before an event; resolved with what is here."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        theirs = fork.branch()
        theirs.says(alice.user_id, "m.room.message", None, TEXT)  # never comes
        event = theirs.says(alice.user_id, "m.room.name", "", {"name": "after the gap"})
        later = theirs.says(alice.user_id, "m.room.message", None, TEXT)
        given = [each.event_id for each in (await state_of(here, room_id)).values()]
        received = await receive_together(here, room_id, event, later, states={event.event_id: given})
        assert [each.flags for each in received] == [0, 0]
        room = await here.core.rooms.known(room_id)
        assert {ref.event_id for ref in room.extremities} == {fork.tip.event_id, later.event_id}
        assert (await state_of(here, room_id))["m.room.name", ""].event_id == event.event_id
        await here.send(alice, room_id, "together")
        assert len((await here.core.rooms.known(room_id)).extremities) == 1


async def test_a_given_state_takes_nothing_away_that_the_rules_keep(database: str, tmp_path: Path) -> None:
    """A state reset attempted: another server says that alice, who made the room, was never in it, and nobody has power."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        bob = "@bob:elsewhere.example"
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        await receive_together(here, room_id, branch.says(bob, "m.room.member", bob, {"membership": "join"}))
        before = await state_of(here, room_id)
        theirs = (await Fork.of(here, room_id)).branch()
        theirs.says(bob, "m.room.message", None, TEXT)  # never comes
        event = theirs.says(bob, "m.room.message", None, TEXT)
        told = [
            before["m.room.create", ""].event_id,
            before["m.room.member", bob].event_id,
            before["m.room.join_rules", ""].event_id,
        ]
        await receive_together(here, room_id, event, states={event.event_id: told})
        assert await state_of(here, room_id) == before


async def test_evt_03_too_many_links_are_refused(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        tips = [
            fork.branch().says(alice.user_id, "m.room.message", None, {**TEXT, "n": n}) for n in range(21)
        ]
        await receive_together(here, room_id, *tips)
        joins = fork.branch().says(alice.user_id, "m.room.message", None, TEXT, *tips)
        with pytest.raises(EventFormatError):
            await receive_together(here, room_id, joins)


async def test_evt_08_auth_events_are_neither_left_out_nor_too_many(database: str, tmp_path: Path) -> None:
    """EVT-07: what the selection would not have chosen, and what it would have, but is not cited: both are rejected."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, room_version="11")
        state = await state_of(here, room_id)
        fork = await Fork.of(here, room_id)
        elsewhere = Elsewhere(here, state)
        for chosen in (
            {key: event for key, event in state.items() if key[0] != "m.room.member"},
            {key: event for key, event in state.items() if key[0] != "m.room.create"},
        ):
            less = elsewhere.message(room_id, fork.tip, alice.user_id, chosen)
            (received,) = await receive_together(here, room_id, less)
            assert received.flags & REJECTED
        more = elsewhere.message(room_id, fork.tip, alice.user_id, state, state["m.room.join_rules", ""])
        (received,) = await receive_together(here, room_id, more)
        assert received.flags & REJECTED


@pytest.mark.parametrize("version", ["1", "5", "6", "11", "12"])
async def test_evt_04_the_greatest_depth_breaks_no_room(database: str, tmp_path: Path, version: str) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, room_version=version)
        fork = await Fork.of(here, room_id)
        state = await state_of(here, room_id)
        elsewhere = Elsewhere(here, state)
        deep = elsewhere.message(
            room_id, fork.tip, alice.user_id, state, depth=fork.tip.room_version.max_depth
        )
        (received,) = await receive_together(here, room_id, deep)
        assert received.flags == 0
        here.core.rooms.reset()
        sent = await here.core.events.by_id(EventId(await here.send(alice, room_id, "after it")))
        assert sent is not None
        assert sent.event.depth == deep.depth
        branch = (await Fork.of(here, room_id)).branch()
        more = [branch.says(alice.user_id, "m.room.message", None, TEXT) for _ in range(3)]
        assert [each.flags for each in await receive_together(here, room_id, *more)] == [0, 0, 0]


async def test_the_room_begins_once(database: str, tmp_path: Path) -> None:
    """A second m.room.create of the first server passes its own rules; it is rejected, and so is what rests on it."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, room_version="10")
        before = await state_of(here, room_id)
        elsewhere = Elsewhere(here, before)
        again = elsewhere.create(room_id, before["m.room.create", ""])
        (received,) = await receive_together(here, room_id, again)
        assert received.flags & REJECTED
        assert await state_of(here, room_id) == before


async def test_ids_of_versions_1_and_2_are_taken_once(database: str, tmp_path: Path) -> None:
    """Servers choose them: the same id in another room, or with other content, is another event, and is not taken for it."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        rooms = [await here.room(alice, room_version=version) for version in ("1", "1", "11")]
        first = (await Fork.of(here, rooms[0])).branch().says(alice.user_id, "m.room.message", None, TEXT)
        await receive_together(here, rooms[0], first)
        for room_id in rooms[:2]:
            fork = await Fork.of(here, room_id)
            elsewhere = Elsewhere(here, await state_of(here, room_id))
            other = elsewhere.message(
                room_id, fork.tip, alice.user_id, elsewhere.base, event_id=first.event_id
            )
            with pytest.raises(EventIdTaken):
                await receive_together(here, room_id, other)
        fork = await Fork.of(here, rooms[1])
        elsewhere = Elsewhere(here, await state_of(here, rooms[1]))
        follows = elsewhere.message(rooms[1], first, alice.user_id, elsewhere.base)
        with pytest.raises(MissingEvents):  # an event of another room is not before it
            await receive_together(here, rooms[1], follows)


async def test_events_come_while_others_write(database: str, tmp_path: Path) -> None:
    """Two processes send and receive into one room at the same time: all is written, once, and both have the same room."""
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice = await one.user("alice")
        room_id = await one.room(alice)
        await two.core.tail.fresh()
        branch = (await Fork.of(two, room_id)).branch()
        events = [
            branch.says(alice.user_id, "m.room.message", None, TEXT)
            if number % 5
            else branch.says(alice.user_id, "m.room.topic", "", {"topic": str(number)})
            for number in range(60)
        ]

        async def send(here: Process, name: str) -> list[str]:
            return [await here.send(alice, room_id, f"{name} {number}") for number in range(20)]

        async def take(here: Process) -> list[Any]:
            return [
                each
                for start in range(0, len(events), 15)
                for each in await receive_together(here, room_id, *events[start : start + 15])
            ]

        sent_one, sent_two, taken, twice = await asyncio.gather(
            send(one, "one"), send(two, "two"), take(one), take(two)
        )
        assert [each.nid for each in taken] == [each.nid for each in twice]
        assert {each.flags for each in taken} == {0}
        for here in (one, two):
            await here.core.tail.fresh()
            numbers = await here.core.events.numbers(
                [EventId(each) for each in (*sent_one, *sent_two)] + [event.event_id for event in events]
            )
            assert len(numbers) == 100
        states = [await state_of(here, room_id) for here in (one, two)]
        assert states[0] == states[1]
        one.core.rooms.reset()
        assert await state_of(one, room_id) == states[1]


@asynccontextmanager
async def examined(database: str, tmp_path: Path) -> AsyncIterator[tuple[Process, list[str]]]:
    looked: list[str] = []

    async def decide(act: Act) -> Verdict:
        body = str(act.content.get("body"))
        looked.append(body)
        return Refuse(Forbidden("no")) if body == "bad" else Allow(("seen",) if body == "odd" else ())

    check = Check(
        name="test", when_failing="refuse", kinds=frozenset({Kind.MESSAGE}), decide=decide, elsewhere=True
    )
    async with process(database, tmp_path, policy=[check]) as here:
        yield here, looked


async def test_what_policy_refuses_is_soft_failed_and_looked_at_once(database: str, tmp_path: Path) -> None:
    async with examined(database, tmp_path) as (here, looked):
        alice = await here.user("alice")
        room_id = await here.room(alice)
        branch = (await Fork.of(here, room_id)).branch()
        bodies = ["good", "bad", "odd", "good"]
        events: list[Event] = [
            branch.says(alice.user_id, "m.room.message", None, {**TEXT, "body": body}) for body in bodies
        ]
        looked.clear()
        received = await receive_together(here, room_id, *events)
        assert [each.flags for each in received] == [0, SOFT_FAILED, 0, 0]
        assert sorted(looked) == sorted(bodies)
        async with here.core.db.read() as tx:
            labels = await tx.column("SELECT position FROM log_labels")
        assert received[2].nid in labels
