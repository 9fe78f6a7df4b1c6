"""How large a page of events may become: bounds in bytes beside those in number, for what is loaded and what is answered.

A page that ends early ends with a token to go on from, as one that has reached its number does; clients may be told fewer
events than they asked for. spec: client-server-api/#get_matrixclientv3roomsroomidmessages (`limit`)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Position

PAGE_BYTES: Final = 4 * 2**20
"""Of the events in one page; sixty-four of the largest."""
ANSWER_BYTES: Final = 2 * PAGE_BYTES
"""Of a page as it is answered, with what is bundled with its events."""
SCANNED_BYTES: Final = 16 * 2**20
"""Of events that are read for one page, whether a filter and the history's visibility let them through or not."""
LOADED_AT_ONCE: Final = 100
"""Events that are loaded together before it is known how large they are."""
MOST_AT_ONCE: Final = 1_000


class Part(NamedTuple):
    """Some of the events that were asked for."""

    events: list[PersistedEvent]
    last: Position
    """The number of the last that was looked for."""
    size: int
    """Bytes of the events."""


def weight(persisted: PersistedEvent) -> int:
    """Bytes an event takes in an answer, roughly."""
    replaced = persisted.replaced
    return len(persisted.event.pdu) + (len(replaced.content) if replaced is not None else 0)


def beyond(nid: Position, *, backwards: bool) -> Position:
    """The position from which a page goes on behind an event."""
    return nid - 1 if backwards else nid


def at(nid: Position, *, backwards: bool) -> Position:
    """The position from which a page begins with an event."""
    return nid if backwards else nid - 1


def fitting(sizes: Iterable[int], most: int) -> int:
    """How many of these, from the first on, are at most so many bytes together. The first always fits."""
    count = total = 0
    for size in sizes:
        total += size
        if total > most and count:
            break
        count += 1
    return count


async def in_parts(events: EventCache, nids: Sequence[Position]) -> AsyncIterator[Part]:
    """Events by number, in this order, in parts of some megabytes: what a page has no room for is not loaded."""
    begin, count = 0, LOADED_AT_ONCE
    while begin < len(nids):
        wanted = nids[begin : begin + count]
        loaded = await events.load(wanted)
        found = [loaded[nid] for nid in wanted if nid in loaded]
        size = sum(map(weight, found))
        yield Part(found, wanted[-1], size)
        begin += count
        count = max(LOADED_AT_ONCE, min(MOST_AT_ONCE, PAGE_BYTES * len(wanted) // (size + 1)))
