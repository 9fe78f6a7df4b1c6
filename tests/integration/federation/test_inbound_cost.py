"""What it costs to take events: flights to the database and appends for a transaction, and nothing where nothing comes."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from federation.inbound import at_once
from federation.inbound.types import MAX_PDUS
from homeserver.events.event import Event
from tests.integration.federation.test_send import PUBLIC, joined
from tests.support.federation import Federation
from tests.support.remote_room import RemoteRoom
from tests.support.waiting import until


class Counted:
    """Stands for something, and counts the calls of some of its methods."""

    def __init__(self, real: Any, counts: Counter[str], **names: str) -> None:
        """`names`: method -> what it is counted as."""
        self._real = real
        self._counts = counts
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            self._counts[self._names[name]] += 1
        return getattr(self._real, name)


AT_ONCE = {"calls of the graph": 1}
STAGED = {"commits to stage": 1, "calls of the graph": 1, "commits to end": 1}
LARGE = at_once.MAX_BYTES


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [(1, LARGE, AT_ONCE), (50, LARGE, AT_ONCE), (50, 100, STAGED)],
    ids=["one", "many", "large"],
)
async def test_what_a_transaction_costs(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, size: int, limit: int, expected: dict[str, int]
) -> None:
    """FED-08: one call of the graph with one append; where there is much, a commit to stage and one to end beside it."""
    monkeypatch.setattr(at_once, "PATIENCE", 60.0)
    monkeypatch.setattr(at_once, "MAX_BYTES", limit)
    _, _, room = await joined(federation)
    await room.send(*room.chain("bob", 2))
    feature = await idle(room)
    counts: Counter[str] = Counter()
    parts = feature.inbound._parts
    feature.inbound.work_with(
        parts._replace(
            db=Counted(parts.db, counts, read="reads", transaction="commits to end"),
            here=Counted(parts.here, counts, find="looks for what is here"),
            receiver=Counted(parts.receiver, counts, receive_many="calls of the graph"),
        )
    )
    staging = Counted(parts.db, counts, read="reads", transaction="commits to stage")
    monkeypatch.setattr(feature.transactions, "_db", staging)
    events = room.chain("bob", size)
    await room.send(*events)
    await room.arrives(*events)
    await room.drained()
    print(f"{size} events: {dict(counts)}")
    assert counts == expected


async def idle(room: RemoteRoom) -> Any:
    """What takes events, once it is at work on no room."""
    assert room.here.app is not None
    feature = room.here.app.features.federation_inbound

    async def rests() -> bool:
        return feature.inbound.at_work == 0

    await until(rests, within=60)
    return feature


@pytest.mark.parametrize("count", [1, MAX_PDUS])
async def test_what_continues_a_room_is_there_when_it_is_answered(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """FED-08: nothing has to be staged; the transaction is known all the same, also to who has not answered it (FED-09)."""
    monkeypatch.setattr(at_once, "PATIENCE", 60.0)
    _, _, room = await joined(federation)
    feature = await idle(room)
    events = room.chain("bob", count)
    answer = await room.transact("at once", *events)
    assert answer == {"pdus": {event.event_id: {} for event in events}}
    places = await room.core.events.places([event.event_id for event in events])
    assert [places[event.event_id].flags for event in events] == [0] * count
    assert feature.inbound.at_work == 0
    feature.transactions._answered.clear()
    (other,) = room.chain("bob", 1)
    assert await room.transact("at once", other) == answer
    assert not await room.core.events.places([other.event_id])


@pytest.mark.parametrize("patience", [0.0, 60.0])
async def test_what_cannot_be_received_at_once_is_staged(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """A database or a check that takes its time, or that fails: the answer does not wait, and what was begun is not done twice."""
    monkeypatch.setattr(at_once, "PATIENCE", patience)
    _, _, room = await joined(federation)
    feature = await idle(room)

    class Failing:
        async def receive_many(self, *_: Any, **more: Any) -> Any:
            if "alongside" in more:
                raise ConnectionError
            return await parts.receiver.receive_many(*_, **more)

    parts = feature.inbound.parts
    feature.inbound.work_with(parts._replace(receiver=Failing()))
    events = room.chain("bob", 2)
    assert await room.send(*events) == {"pdus": {event.event_id: {} for event in events}}
    await room.arrives(*events)
    await room.drained()


@pytest.mark.parametrize("rooms", [1, 20])
async def test_what_a_thousand_events_cost(federation: Federation, rooms: int) -> None:
    """All that are sent flat out arrive. The figure has both sides in it: a server written for tests signs and sends."""
    here, alice, first = await joined(federation)
    there = [first]
    for _ in range(rooms - 1):
        room_id = await alice.create_room(**PUBLIC)
        there.append(await RemoteRoom.join(here, first.remote, room_id, "bob"))
    chains = [room.chain("bob", 1_000 // rooms) for room in there]
    steps = [
        list(pieces)
        for pieces in zip(*(batches(chain, 50 // min(rooms, 10)) for chain in chains), strict=True)
    ]
    began, cpu = time.monotonic(), time.process_time()
    for step in steps:
        for start in range(0, rooms, 10):
            await first.send(*(event for batch in step[start : start + 10] for event in batch))
    for room, chain in zip(there, chains, strict=True):
        await room.arrives(*chain, within=60)
    took, spent = time.monotonic() - began, time.process_time() - cpu
    print(
        f"1 000 events over {rooms} rooms: {took:.1f} s, {spent:.2f} ms of CPU an event, both sides, PostgreSQL left out"
    )


def batches(events: Sequence[Event], size: int) -> list[Sequence[Event]]:
    return [events[start : start + size] for start in range(0, len(events), size)]
