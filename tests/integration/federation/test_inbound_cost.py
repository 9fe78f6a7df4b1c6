"""What it costs to take events: flights to the database and appends for a transaction, and nothing where nothing comes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from homeserver.events.event import Event
from tests.integration.federation.test_send import PUBLIC, joined
from tests.support.federation import Federation
from tests.support.remote_room import RemoteRoom
from tests.support.waiting import until


def counting(room: RemoteRoom, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the database was asked for what, from now on."""
    counts = {"read": 0, "transaction": 0, "snapshot": 0, "append": 0}

    def counted(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return work(*given, **named)

        return wrapped

    for name in ("read", "transaction", "snapshot"):
        monkeypatch.setattr(room.core.db, name, counted(getattr(room.core.db, name), name))
    monkeypatch.setattr(room.core.log, "add", counted(room.core.log.add, "append"))
    return counts


@pytest.mark.parametrize("size", [1, 50])
async def test_a_transaction_costs_the_same_whatever_it_holds(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """FED-08: a commit to stage, one query for what is here, what the graph needs (one append), one commit to end."""
    _, _, room = await joined(federation)
    await room.send(*room.chain("bob", 2))
    await room.drained()
    await asyncio.sleep(1.0)
    events = room.chain("bob", size)
    counts = counting(room, monkeypatch)
    await room.send(*events)
    ids = [event.event_id for event in events]

    async def here() -> bool:
        return len(await room.core.events.places(ids)) == size

    await until(here, every=0.3)
    await asyncio.sleep(0.3)
    print(f"{size} events: {counts}")
    assert counts["append"] == 1
    # Beside them go the looks of this test and of periodic work: some each second.
    assert counts["transaction"] <= 8
    assert counts["read"] <= 12


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
