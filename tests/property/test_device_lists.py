"""Whose devices a client is told to look at, against a model: over generated histories, with two processes, users of
another server among them (E2E-11, E2E-12, E2E-19).

The model knows who shares an encrypted room with whom after every step, as the rooms themselves say. What `/sync` and
`/keys/changes` tell between two positions must be just the difference, with those whose keys have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from homeserver.e2ee.entries import DeviceListEntry
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.graph.refs import JOIN
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId, UserId
from homeserver.matrix.tokens import parse_sync_token
from homeserver.web.auth import Requester
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.outbound import says

ENCRYPTION = ("m.room.encryption", "")
SECRET = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
Lists = tuple[set[str], set[str]]
PHASES = [
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
]  # histories are in a database: too slow to be made smaller
_examples = count(1)


class Step(NamedTuple):
    """Small integers, each taken modulo what there is to choose from."""

    act: int
    who: int
    other: int
    room: int
    process: int
    syncing: int
    """A bit for each person: who syncs after the step."""


@dataclass
class Moment:
    """What the rooms say at a position."""

    position: int
    sharing: dict[str, set[str]] = field(default_factory=dict)
    """User -> with whom they share an encrypted room."""
    meeting: dict[str, set[str]] = field(default_factory=dict)
    """User -> with whom they share any room."""


@dataclass
class World:
    """Four people, two users of another server, their rooms, and all that has happened."""

    processes: tuple[Process, Process]
    people: list[Requester]
    strangers: list[Requester]
    """Of another server: they sync nowhere here."""
    rooms: list[RoomId] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    changes: list[tuple[int, str]] = field(default_factory=list)
    """(position, user) of changes of keys."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Where each person's client is."""

    async def look(self) -> None:
        """Remember what the rooms say now."""
        here = self.processes[0]
        await here.core.tail.fresh()
        moment = Moment(here.core.tail.position)
        for each in (*self.people, *self.strangers):
            moment.sharing[each.user_id] = set()
            moment.meeting[each.user_id] = set()
        for room_id in self.rooms:
            room = await here.core.rooms.known(room_id)
            inside = {user for user, member in room.members.items() if member.membership == JOIN}
            for user in inside:
                moment.meeting[user] |= inside - {user}
                if ENCRYPTION in room.state:
                    moment.sharing[user] |= inside - {user}
        self.moments.append(moment)

    def at(self, position: int) -> Moment:
        return next(each for each in reversed(self.moments) if each.position <= position)

    def expected(self, reader: Requester, since: int, upto: int) -> Lists:
        """(changed, left)"""
        me, before, after = reader.user_id, self.at(since), self.at(upto)
        seen = after.meeting[me] | {me}
        keys = {user for at, user in self.changes if since < at <= upto and user in seen}
        left = before.sharing[me] - after.sharing[me]
        return (keys | (after.sharing[me] - before.sharing[me])) - left, left

    async def sync(self, reader: Requester, here: Process) -> None:
        """The reader's client syncs, and then asks for the same once more."""
        since = self.tokens.get(reader.user_id)
        answer = await here.sync(reader, since)
        token = self.tokens[reader.user_id] = answer["next_batch"]
        if since is None:
            assert "device_lists" not in answer
            return
        lists = answer.get("device_lists", {"changed": [], "left": []})
        told = set(lists["changed"]), set(lists["left"])
        expected = self.expected(reader, _position(since), _position(token))
        assert told == expected
        assert await _changes(here, reader, _position(since), _position(token)) == expected


def _position(token: str) -> int:
    return parse_sync_token(token, "since").position


async def _changes(here: Process, reader: Requester, since: int, upto: int) -> Lists:
    """As `/keys/changes` finds them: from the database."""
    core = here.core
    tracking = DeviceTracking(core.db, core.rooms, here.rooms.memberships, core.interning)
    return tuple(await tracking.between(reader, since, upto, None))  # type: ignore[return-value]  # two sets


async def _act(world: World, step: Step, here: Process) -> None:
    who = world.people[step.who % len(world.people)]
    other = world.people[step.other % len(world.people)]
    acts = ("room", "secret room", "encrypt", "keys", "name", "branch", "join", "join", "join")
    acts += ("leave", "leave", "invite", "kick", "ban", "unban")
    acts += ("their keys", "their join", "their join", "their join", "their leave", "their kick")
    act = acts[step.act % len(acts)]
    stranger = world.strangers[step.other % len(world.strangers)]
    if act == "their keys":
        act, who = "keys", stranger
    elif act == "their kick":
        act, other = "kick", stranger
    membership, sending = here.rooms.membership, here.rooms.sending
    if act == "keys":
        await here.core.log.append(DeviceListEntry(who.user_nid, who.user_id, devices=("D",)))
        await here.core.tail.fresh()
        world.changes.append((here.core.tail.position, who.user_id))
        return
    if not world.rooms or act in ("room", "secret room"):
        room_id = await here.room(who, preset="public_chat", room_version="11")
        world.rooms.append(room_id)
        if act == "secret room":
            await sending.put_state(who, room_id, ENCRYPTION, SECRET["content"])
        return
    room_id = world.rooms[step.room % len(world.rooms)]
    if act == "encrypt":
        await sending.put_state(who, room_id, ENCRYPTION, {**SECRET["content"], "n": step.other})
    elif act == "name":
        content = {"membership": "join", "displayname": f"{step.other}"}
        await sending.put_state(who, room_id, ("m.room.member", who.user_id), content)
    elif act.startswith("their "):
        content = {"membership": act.removeprefix("their ")}
        await says(here, room_id, stranger.user_id, "m.room.member", stranger.user_id, content)
    elif act == "branch":
        await _branch(world, here, room_id, step)
    elif act in ("join", "leave"):
        await getattr(membership, act)(who, room_id)
    else:
        await getattr(membership, act)(who, room_id, other.user_id)


async def _branch(world: World, here: Process, room_id: RoomId, step: Step) -> None:
    """Two lines that do not know of each other: on one somebody goes or the room is encrypted, the other says something."""
    fork = await Fork.of(here, room_id)
    left, right = fork.branch(), fork.branch()
    creator = fork.branch().state["m.room.create", ""].sender
    target = world.people[step.other % len(world.people)].user_id
    content: dict[str, Any] = {"membership": ("leave", "ban")[step.who % 2]}
    if step.who % 3 == 0:
        event = left.says(creator, *ENCRYPTION, SECRET["content"])
    else:
        event = left.says(creator, "m.room.member", target, content)
    topic = right.says(creator, "m.room.topic", "", {"topic": f"{step.who}"})
    await receive(here, *((event, topic) if step.other % 2 else (topic, event)))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


small = st.integers(0, 120)
histories = st.lists(st.builds(Step, small, small, small, small, small, small), min_size=5, max_size=40)


def test_device_lists_are_the_difference_of_who_shares_encrypted_rooms(
    database: str, tmp_path: Path, runner: asyncio.Runner
) -> None:
    stack = contextlib.AsyncExitStack()
    processes = tuple(
        runner.run(stack.enter_async_context(process(database, tmp_path, alone=False))) for _ in range(2)
    )

    @settings(deadline=None, max_examples=25, phases=PHASES, suppress_health_check=list(HealthCheck))
    @given(histories)
    def hold(steps: list[Step]) -> None:
        runner.run(check(steps))

    async def check(steps: list[Step]) -> None:
        example = next(_examples)
        people = [await processes[0].user(f"u{example}.{number}") for number in range(4)]
        strangers = [await stranger(f"@s{example}.{number}:elsewhere") for number in range(2)]
        world = World((processes[0], processes[1]), people, strangers)
        await world.look()
        for person in people:
            await world.sync(person, processes[0])
        for step in steps:
            here = processes[step.process % 2]
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                await _act(world, step, here)
            await world.look()
            for number, person in enumerate(people):
                if step.syncing >> number & 1:
                    await world.sync(person, processes[(step.process + number) % 2])
        for person in people:
            await world.sync(person, processes[0])
        await compare_all(world)

    async def stranger(name: str) -> Requester:
        nid = await processes[0].core.interning.user_nid(UserId(name))
        return Requester(user_id=UserId(name), user_nid=nid, device_id=None)

    async def compare_all(world: World) -> None:
        """Who was away from any moment to any other; of keys, who shares a room today counts."""
        first, last = world.moments[0].position, world.moments[-1].position
        middle = world.moments[len(world.moments) // 2].position
        for reader in world.people:
            for since, upto in ((first, last), (first, middle), (middle, last)):
                changed, left = await _changes(processes[1], reader, since, upto)
                before, after = world.at(since).sharing, world.at(upto).sharing
                assert left == before[reader.user_id] - after[reader.user_id]
                keys = {user for at, user in world.changes if since < at <= upto}
                gained = after[reader.user_id] - before[reader.user_id]
                assert gained <= changed <= gained | keys

    try:
        hold()
    finally:
        runner.run(stack.aclose())
