"""What it costs to take events: flights to the database and appends for a transaction, and nothing where nothing comes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.federation.test_send import joined
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
    assert counts["transaction"] <= 5
    assert counts["read"] <= 12
