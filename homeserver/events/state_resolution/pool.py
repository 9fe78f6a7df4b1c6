"""What a resolution knows and what it asks for: the sans-I/O seam between the algorithms and whoever has the events.

The algorithms are generators that yield a request and find the answer in the `Pool` when they are resumed. They never wait.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from homeserver.events.auth_rules.auth_events import create_id_of
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import EventId

StateMap = Mapping[StateKey, EventId]

BATCH: Final = 1000
"""Most events asked for at once."""


class MissingEvents(LookupError):
    """Events that were asked for were not supplied: a state or an auth chain names events the server does not have."""

    def __init__(self, event_ids: tuple[EventId, ...]) -> None:
        super().__init__(f"{len(event_ids)} events were not supplied, the first is {event_ids[0]}")
        self.event_ids = event_ids


@dataclass(frozen=True, slots=True)
class NeedsEvents:
    """These events, at most `BATCH`, are needed to go on. More may be supplied; all of these must be."""

    event_ids: tuple[EventId, ...]


@dataclass(frozen=True, slots=True)
class NeedsAuthDifference:
    """The auth difference of several states is needed: events in the auth chain of some, but not of all of them.

    A state's auth chain is its events and all their auth events, recursively. State *i* is `unconflicted` and
    `conflicted[i]`. With `subgraph` (version 12), every event on a path of auth events between two events in `conflicted` is
    needed too. Whether the answer contains conflicted events makes no difference.
    """

    unconflicted: StateMap
    conflicted: tuple[frozenset[EventId], ...]
    subgraph: bool


@dataclass(frozen=True, slots=True)
class NeedsAgreed:
    """What all states agree on at these keys is needed; only from a `Resolution` that was given what they differ in alone."""

    keys: tuple[StateKey, ...]


Request = NeedsEvents | NeedsAuthDifference | NeedsAgreed

T = TypeVar("T")
Steps = Generator[Request, None, T]
"""A computation that yields requests and returns a `T`."""


class Pool:
    """The events at hand. Grows as requests are answered; owned by one `Resolution`."""

    __slots__ = (
        "agreed",
        "asks_agreed",
        "asks_auth_difference",
        "auth_difference",
        "events",
        "rejected",
        "version",
    )

    def __init__(
        self,
        version: RoomVersion,
        rejected: Container[EventId],
        *,
        asks_auth_difference: bool,
        asks_agreed: bool = False,
    ) -> None:
        self.version = version
        self.rejected = rejected
        self.asks_auth_difference = asks_auth_difference
        self.asks_agreed = asks_agreed
        self.agreed: dict[StateKey, EventId | None] = {}
        """What the states agree on, as far as it was asked for; None: nothing."""
        self.events: dict[EventId, Event] = {}
        self.auth_difference: frozenset[EventId] | None = None

    def load(self, event_ids: Iterable[EventId]) -> Steps[None]:
        """Make sure all these are at hand, asking in batches. Raises `MissingEvents` if an answer falls short."""
        wanted = [event_id for event_id in dict.fromkeys(event_ids) if event_id not in self.events]
        for start in range(0, len(wanted), BATCH):
            batch = tuple(
                event_id for event_id in wanted[start : start + BATCH] if event_id not in self.events
            )
            if batch:
                yield NeedsEvents(batch)
            missing = tuple(event_id for event_id in batch if event_id not in self.events)
            if missing:
                raise MissingEvents(missing)

    def auth_ids(self, event: Event) -> tuple[EventId, ...]:
        """What authorises the event: its auth events and, in version 12, the create event its room ID stands for."""
        if self.version.room_id_is_create_hash and event.type != "m.room.create":
            return (*event.auth_event_ids, create_id_of(event))
        return event.auth_event_ids

    def auth_state(self, event: Event) -> dict[StateKey, Event]:
        """The event's auth events by their key, rejected ones included; they must be at hand."""
        found = (self.events[event_id] for event_id in self.auth_ids(event))
        return {auth_event.key: auth_event for auth_event in found if auth_event.key is not None}


class Base:
    """The state that conflicted events are tried on. What is not at hand of it is asked for."""

    __slots__ = ("_asks", "_known", "_pool")

    def __init__(self, known: StateMap, pool: Pool, *, asks: bool) -> None:
        """`known`: all of it, or with `asks` what is at hand."""
        self._known = known
        self._pool = pool
        self._asks = asks

    def load(self, keys: Iterable[StateKey]) -> Steps[None]:
        """Make sure that `get` can tell these, and that their events are at hand."""
        wanted = dict.fromkeys(keys)
        if self._asks:
            missing = tuple(key for key in wanted if key not in self._pool.agreed)
            if missing:
                yield NeedsAgreed(missing)
                for key in missing:
                    self._pool.agreed.setdefault(key, None)
        found = (self.get(key) for key in wanted)
        yield from self._pool.load(event_id for event_id in found if event_id is not None)

    def get(self, key: StateKey) -> EventId | None:
        """The event at a key that was loaded."""
        return self._pool.agreed[key] if self._asks else self._known.get(key)
