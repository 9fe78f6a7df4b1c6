"""One cursor: what is to be delivered to one other side, as far as it is in memory, and when it is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from homeserver.log.entries import Position
from homeserver.log.readers.types import Item

MAX_ITEMS = 1_000
"""Items kept in memory for one cursor; what is beyond is read again when it comes to that."""


class Cursor:
    """Owned by the runner of its reader. Its items are the oldest that are not acknowledged, without a gap."""

    __slots__ = (
        "acked",
        "busy",
        "covered",
        "failures",
        "has_row",
        "items",
        "key",
        "nudged",
        "retry_at",
        "slow",
        "whole",
    )

    def __init__(self, key: str, acked: Position, *, whole: bool) -> None:
        self.key = key
        self.acked = acked
        """Everything up to here is acknowledged."""
        self.items: deque[Item[Any]] = deque()
        """What concerns it in (acked, covered]."""
        self.covered = acked
        self.whole = whole
        """Whether `items` goes as far as the reader has looked; then `covered` means nothing."""
        self.failures = 0
        """In a row."""
        self.retry_at = 0.0
        """Not before this moment of the event loop's clock."""
        self.busy = False
        """Whether a delivery is under way."""
        self.has_row = False
        """Whether the database has a row of it."""
        self.nudged = False
        """Whether a delivery was asked for though there may be no items."""
        self.slow = False
        """Whether the last delivery took long."""

    @property
    def has_work(self) -> bool:
        """Whether there is something to deliver, or may be."""
        return bool(self.items) or not self.whole

    @property
    def struggling(self) -> bool:
        """Whether its next delivery may take long, or come to nothing."""
        return self.slow or self.failures > 0

    def add(self, item: Item[Any], scanned: Position, *, room: bool) -> bool:
        """The log has an item for it. `scanned`: up to where the reader had looked before; `room`: whether memory has.

        Returns whether the item is kept.
        """
        if item.position <= self.acked or not self.whole:
            return False
        if not room or len(self.items) >= MAX_ITEMS:
            self.whole = False
            self.covered = max(self.items[-1].position if self.items else scanned, self.acked)
            return False
        self.items.append(item)
        return True

    def catch_up(self, items: Sequence[Item[Any]], upto: Position, scanned: Position) -> bool:
        """These are all items for it in (covered, upto]. `scanned`: how far the reader has looked by now.

        Returns whether nothing is lacking any more.
        """
        self.items.extend(item for item in items if item.position > self.acked)
        self.covered = upto
        self.whole = upto >= scanned
        if not self.items:
            self.acked = max(self.acked, upto)
        return self.whole

    def let_go(self) -> int:
        """Keep nothing in memory: what is left is read again. Returns how many items that were."""
        before = len(self.items)
        self.items.clear()
        self.covered, self.whole = self.acked, False
        return before

    def acknowledge(self, upto: Position) -> int:
        """The other side has everything up to a position. Returns how many items that were."""
        before = len(self.items)
        while self.items and self.items[0].position <= upto:
            self.items.popleft()
        self.acked = max(self.acked, upto)
        self.failures, self.retry_at = 0, 0.0
        return before - len(self.items)
