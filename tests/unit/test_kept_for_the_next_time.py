"""What periodic work could not do, since the database was away, it does the next time."""

from typing import Any, cast

import pytest

from homeserver.graph.write.sticky import StickyEvents
from homeserver.receipts.elsewhere import RemoteReceipts, _Waiting
from homeserver.receipts.types import RemoteReceipt
from homeserver.runtime.clock import FakeClock


class Failing:
    """Fails once, then takes what it is given."""

    def __init__(self) -> None:
        self.failures = 1
        self.taken: list[Any] = []

    async def __call__(self, *given: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.taken.append(given)


class Room:
    class name:  # noqa: N801  # as a room has it
        nid = 1


async def test_receipts_whose_events_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    receipts, hear = RemoteReceipts(nothing, nothing, nothing, FakeClock()), Failing()
    monkeypatch.setattr(receipts, "hear", hear)
    waiting = _Waiting(cast("Any", Room()), cast("RemoteReceipt", "a receipt"))
    receipts._come.append(waiting)
    with pytest.raises(ConnectionError):
        await receipts.tick()
    await receipts.tick()
    await receipts.tick()
    assert hear.taken == [(waiting.room, ["a receipt"])]


async def test_rooms_in_which_something_sticky_may_stand_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None

    class Events:
        sticky_until: dict[int, int] = {}  # noqa: RUF012

    sticky, accept = StickyEvents(nothing, cast("Any", Events()), nothing, nothing, FakeClock()), Failing()
    monkeypatch.setattr(sticky, "_loaded", True)
    monkeypatch.setattr(sticky, "_accept_in", accept)
    sticky._again.add(7)
    with pytest.raises(ConnectionError):
        await sticky.look_again()
    await sticky.look_again()
    await sticky.look_again()
    assert accept.taken == [(7,)]
