"""Filling gaps: what events refer to and is not here is asked for, from who sent them first, then from others in the room.

First the events between (`get_missing_events`), which become part of the timeline; where these do not reach back to what is
here, the state before the oldest of them (`state_ids`, then what of it is missing); then auth events that are missing still.
What lies before a join of ours through another server is no part of the timeline: it becomes history (`below.py`), and is asked
for only as far as others build on it.

spec: server-server-api/#backfilling-and-retrieving-missing-events (FED-14)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import structlog

from federation.inbound.below import Histories, Past, add_history
from federation.inbound.known import Here
from federation.inbound.remote import Allowance, Budget, Remote, StateIds
from federation.ports import Checked, EventChecker, RemoteError, RemoteFault
from homeserver.events.event import Event
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import EventId, ServerName, domain_of
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn, pieces

_log = structlog.get_logger("atrium.federation.inbound")

MAX_SERVERS: Final = 4
"""Servers that are asked, the one that sent the events included."""
MAX_ROUNDS: Final = 20
"""Calls of `get_missing_events` for one gap."""
PER_ROUND: Final = 50
"""Events that are asked for in one call; servers give 10 to 20 of their own accord."""
MAX_STATES: Final = 5
"""Places in the graph whose state is asked for in one filling."""
ONE_BY_ONE: Final = 50
"""So many events of a state may be asked for each by itself; of more the whole state is."""
MAX_STATE: Final = 100_000
"""Events of one state, and of what authorises it, that are fetched: as many as a room that is joined may have."""
MAX_LACKING: Final = 0.1
"""The part of a state that may be missing if no server has it or can prove it."""
AT_ONCE: Final = 8
"""Events asked for at once."""
REQUESTS: Final = 200
EVENTS: Final = 250_000
EVENTS_PER_SECOND: Final = 20.0
"""What of them an origin may cause again after it has caused so many."""
BYTES: Final = 192 << 20
SECONDS: Final = 120.0
"""The budget of one filling."""
LOOKED_AT_ONCE: Final = 2_000
"""Events that are looked at in one turn of the event loop."""
LATEST: Final = 20
"""Events that one question names, and extremities of ours."""
BELOW: Final = 100
"""Events before a join of ours that are asked for at once: to find what others build on, or whether what seems older is."""
BELOW_ROUNDS: Final = 5


class OutlierStore(Protocol):
    """Keeps events whose state is not known. Fulfilled by `homeserver.graph.write.outliers`."""

    async def add(
        self, room: RoomIdentity, events: Sequence[Event], stored: Mapping[EventId, bytes] = ...
    ) -> None:
        """Those that are here already are passed over. `stored`: stored forms of some of them."""
        ...


@dataclass(slots=True)
class Filled:
    """What was fetched for a gap."""

    events: list[Event] = field(default_factory=list)
    """Checked; they become part of the timeline. What was found below a join of ours is written already."""
    states: dict[EventId, list[EventId]] = field(default_factory=dict)
    """The state before events whose previous events are not to be had."""
    unreachable: bool = False
    """Something is missing still, and some server could not be asked: another attempt may succeed."""


class Gaps:
    """Fills gaps. Keeps nothing in memory between two."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        remote: Remote,
        checker: EventChecker,
        here: Here,
        outliers: OutlierStore,
        history: Histories,
        clock: Clock,
    ) -> None:
        self._history = history
        self._remote = remote
        self._checker = checker
        self._here = here
        self._outliers = outliers
        self._clock = clock
        self._allowance = Allowance(clock, burst=EVENTS, per_second=EVENTS_PER_SECOND)
        self._large = asyncio.Semaphore(1)
        """Of whole states one is in memory at a time."""

    async def fill(
        self,
        room: Room,
        origin: ServerName,
        roots: Sequence[Event],
        held: Collection[EventId],
        own: ServerName,
    ) -> Filled:
        """Get what `roots` refer to. `held`: events that are being worked on anyway; `own`: our name.

        Raises nothing for what others do: what could not be had is missing still.
        """
        events = min(EVENTS, self._allowance.left(origin))
        budget = Budget(self._clock, requests=REQUESTS, events=events, size=BYTES, seconds=SECONDS)
        servers = await self._remote.sharing(_servers(room, origin, own), room.name.room_id)
        filling = _Filling(self, room, servers, budget, set(held))
        try:
            return await filling.run(roots)
        except RemoteFault as fault:
            if fault.is_news:
                name, problem = room.name.room_id, fault.problem[:200]
                _log.info("inbound.gap_not_filled", room=name, origin=origin, problem=problem)
            filling.filled.unreachable = True
            return filling.filled
        finally:
            self._allowance.spend(origin, events - budget.events)

    async def under(
        self, room: Room, servers: Sequence[ServerName], events: Sequence[Event], budget: Budget
    ) -> Filled:
        """Get what older events rest on: the states before those whose previous events are neither here nor among them, and auth
        events. Raises nothing for what others do: what could not be had is missing still.
        """
        filling = _Filling(self, room, servers, budget, {event.event_id for event in events})
        try:
            return await filling.ground(events)
        except RemoteFault:
            filling.filled.unreachable = True
            return filling.filled

    async def check(self, room: Room, pdus: Sequence[msgspec.Raw], *, bounded: bool = True) -> list[Checked]:
        """Those that are events of the room with the right signatures. `bounded`: see `EventChecker`."""
        checked = await self._checker.check([bytes(pdu) for pdu in pdus], room.name.version, bounded=bounded)
        good: list[Checked] = []
        for piece in pieces(checked, LOOKED_AT_ONCE):
            await next_turn()
            good += [
                each
                for each in piece
                if isinstance(each, Checked) and each.event.room_id == room.name.room_id
            ]
        return good


class _Filling:
    """One gap being filled."""

    def __init__(
        self, gaps: Gaps, room: Room, servers: Sequence[ServerName], budget: Budget, held: set[EventId]
    ) -> None:
        self._gaps = gaps
        self._remote = gaps._remote  # noqa: SLF001  # two halves of one thing
        self._room = room
        self._servers = list(servers)
        self._budget = budget
        self._held = held
        self._whole: set[EventId] = set()
        self._outliers: set[EventId] = set()
        self._looked: set[EventId] = set()
        self._past: Past | None = None
        self.filled = Filled()

    async def run(self, roots: Sequence[Event]) -> Filled:
        found: dict[EventId, Event] = {}
        bottom = await self._gaps._history.bottom(self._room.name.nid)  # noqa: SLF001  # likewise
        self._past = Past(bottom) if bottom is not None else None
        await self._between(roots, found)
        if self._past is not None:
            past = await self._below(self._past, roots, found)
            roots = [event for event in roots if event.event_id not in past]
        self.filled.events = list(found.values())
        everything = [*roots, *found.values()]
        await self._states(everything, found)
        await self._auth([*roots, *found.values()])
        return self.filled

    async def ground(self, events: Sequence[Event]) -> Filled:
        """What these rest on, and nothing between them and what is here."""
        await self._states(events, {})
        await self._auth(events)
        return self.filled

    # --- what is here ----------------------------------------------------------------------------------------------

    async def _look(self, event_ids: Iterable[EventId]) -> None:
        new = set(event_ids) - self._looked
        if new:
            known = await self._gaps._here.find(self._room.name.nid, new)  # noqa: SLF001  # likewise
            self._whole |= known.whole
            self._outliers |= known.outliers
            self._looked |= new

    async def _missing_prev(
        self, events: Iterable[Event], found: Mapping[EventId, Event]
    ) -> dict[EventId, Event]:
        """Of each event that has a previous event which is neither here nor found: itself, by its id."""
        events = list(events)
        await self._look(each for event in events for each in event.prev_event_ids)
        known = self._whole | self._held | found.keys()
        return {event.event_id: event for event in events if not known.issuperset(event.prev_event_ids)}

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _first(self, what: str, ask: Any) -> Any:
        """The answer of the first server that has one; None: nobody has. Who could not be reached is not asked again."""
        for server in [*self._servers]:
            try:
                return await ask(server)
            except RemoteError as error:
                _log.debug("inbound.refused", server=server, what=what, status=error.status)
                self.filled.unreachable |= error.status >= 500 or error.status == 429
            except RemoteFault:
                self._servers.remove(server)
                self.filled.unreachable = True
        return None

    async def _between(self, roots: Sequence[Event], found: dict[EventId, Event]) -> None:
        """The events between the roots, or what was found, and what is here."""
        wanting = self._worth(await self._missing_prev([*roots, *found.values()], found))
        ours = [ref.event_id for ref in self._room.extremities[-LATEST:]]
        for _ in range(MAX_ROUNDS):
            if not wanting:
                return
            latest = sorted(wanting.values(), key=lambda event: event.depth)[:LATEST]

            async def ask(server: ServerName, latest: Sequence[Event] = latest) -> list[msgspec.Raw]:
                names = (ours, [event.event_id for event in latest])
                return await self._remote.missing_events(
                    server, self._room.name.room_id, names, PER_ROUND, self._budget
                )

            pdus = await self._first("get_missing_events", ask)
            checked = await self._gaps.check(self._room, pdus) if pdus else []
            known = self._held | self._whole
            known = known | found.keys()
            new = {each.event.event_id: each.event for each in checked if each.event.event_id not in known}
            wanted = {each for event in latest for each in event.prev_event_ids}
            if not _connected(new, wanted):
                return
            found.update(new)
            wanting = self._worth(await self._missing_prev([*wanting.values(), *new.values()], found))

    def _worth(self, wanting: dict[EventId, Event]) -> dict[EventId, Event]:
        """Those that something may have come before since our join."""
        past = self._past
        if past is None:
            return wanting
        known = self._whole | self._held
        return {
            event_id: event
            for event_id, event in wanting.items()
            if event_id not in past.events and not past.may_hold(event) and not past.bounds(event, known)
        }

    async def _below(self, past: Past, roots: Sequence[Event], found: dict[EventId, Event]) -> set[EventId]:
        """Write down as history what lies below our join, and take it out of `found`. All of it, roots included.

        Where others build on what is not here, or what came says that it is older, history is asked for, to see whether they are
        part of it. What is not is news, as other servers say it that do not know of our join yet. What may be, because history
        of that depth is not told, is left out: it is found by paging.
        """
        older: dict[EventId, Event] = {}
        for left in reversed(range(BELOW_ROUNDS)):
            told = {**older, **{event.event_id: event for event in (*roots, *found.values())}}
            await self._learn(past, told)
            if not await self._unclear(past, [*roots, *found.values()], left):
                break
            new = {each: event for each, event in (await self._older(past)).items() if each not in told}
            if not new:
                break
            older |= new
            await self._learn(past, {**told, **new})
            named = {event.event_id for event in roots}
            found.update((each, event) for each, event in past.events.items() if each not in named)
            await self._between(roots, found)
        await self._learn(past, {**older, **{event.event_id: event for event in (*roots, *found.values())}})
        return await self._becomes_history(past, found)

    async def _learn(self, past: Past, told: Mapping[EventId, Event]) -> None:
        past.learn(told, ())
        await self._look(past.open)
        past.learn(told, self._whole)

    async def _unclear(self, past: Past, events: Sequence[Event], left: int) -> bool:
        """Whether asking for older events, and `left` times after that, may show what of these is history."""
        rest = [event for event in events if event.event_id not in past.events]
        doubtful = [event for event in rest if past.may_hold(event)]
        if doubtful and past.steps_to(doubtful) <= BELOW * (left + 1):
            return True
        if left < BELOW_ROUNDS - 1:
            return False
        loose = await self._missing_prev(rest, {event.event_id: event for event in events})
        return any(past.may_hold(event) or past.named_by(event) for event in loose.values())

    async def _becomes_history(self, past: Past, found: dict[EventId, Event]) -> set[EventId]:
        events, ids = [*past.events.values()], {*past.events}
        if events:
            under = await self._gaps.under(self._room, self._servers, events, self._budget)
            await add_history(self._gaps._history, self._room.name, events, under.states)  # noqa: SLF001  # likewise
        self._looked -= ids
        await self._look(ids)
        for event in [*found.values()]:
            if event.event_id in ids or past.may_hold(event):
                del found[event.event_id]
        return ids

    async def _older(self, past: Past) -> dict[EventId, Event]:
        """The next of what lies below our join."""
        named = past.open[:LATEST]
        if not named:
            return {}

        async def ask(server: ServerName) -> list[msgspec.Raw]:
            return await self._remote.backfill(server, self._room.name.room_id, named, BELOW, self._budget)

        pdus = await self._first("backfill", ask)
        checked = await self._gaps.check(self._room, pdus, bounded=False) if pdus else []
        return {each.event.event_id: each.event for each in checked}

    async def _states(self, events: Sequence[Event], found: dict[EventId, Event]) -> None:
        """The state before each event whose previous events were not to be had."""
        wanting = await self._missing_prev(events, found)
        for event in sorted(wanting.values(), key=lambda event: event.depth)[:MAX_STATES]:
            state = await self._state_before(event)
            if state is not None:
                self.filled.states[event.event_id] = state

    async def _state_before(self, event: Event) -> list[EventId] | None:
        """Whole, or, where no server gives all of it (the keys of some who are long gone are not to be had), nearly."""
        room_id = self._room.name.room_id
        nearly: list[EventId] | None = None
        for server in [*self._servers]:

            async def ask(_: ServerName, server: ServerName = server) -> StateIds:
                return await self._remote.state_ids(server, room_id, event.event_id, self._budget)

            ids = await self._first_of(server, "state_ids", ask)
            if ids is None:
                continue
            lacking = await self._fetch_state(event, ids, server)
            here = [each for each in dict.fromkeys(ids.pdu_ids) if each not in lacking]
            if not lacking:
                return here
            if len(lacking) <= len(ids.pdu_ids) * MAX_LACKING and len(here) > len(nearly or ()):
                nearly = here
        return nearly

    async def _first_of(self, server: ServerName, what: str, ask: Any) -> Any:
        rest, self._servers = self._servers, [server]
        try:
            return await self._first(what, ask)
        finally:
            self._servers = [each for each in rest if each != server or server in self._servers]

    async def _fetch_state(self, event: Event, ids: StateIds, server: ServerName) -> set[EventId]:
        """Fetch what of a state is not here. What is not to be had."""
        await self._look([*ids.pdu_ids, *ids.auth_chain_ids])
        missing = self._lacking(ids.pdu_ids) | self._lacking(ids.auth_chain_ids)
        if len(missing) > MAX_STATE:
            _log.warning("inbound.state_too_large", room=event.room_id, origin=server, missing=len(missing))
        elif missing:
            fetched = (
                await self._one_by_one(missing)
                if len(missing) <= ONE_BY_ONE
                else await self._whole_state(event, server)
            )
            await self._keep(fetched)
        return self._lacking(ids.pdu_ids)

    def _lacking(self, event_ids: Iterable[EventId]) -> set[EventId]:
        return {each for each in event_ids if each not in self._whole and each not in self._outliers}

    async def _one_by_one(self, event_ids: Collection[EventId]) -> list[Checked]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(event_id: EventId) -> msgspec.Raw | None:
            async def ask(server: ServerName) -> msgspec.Raw:
                return await self._remote.event(server, event_id, self._budget)

            async with turns:
                found: msgspec.Raw | None = await self._first("event", ask)
                return found

        pdus = await asyncio.gather(*(one(event_id) for event_id in sorted(event_ids)))
        checked = await self._gaps.check(self._room, [pdu for pdu in pdus if pdu is not None])
        return [each for each in checked if each.event.event_id in event_ids]

    async def _whole_state(self, event: Event, server: ServerName) -> list[Checked]:
        async with self._gaps._large:  # noqa: SLF001  # likewise
            state = await self._remote.state(server, self._room.name.room_id, event.event_id, self._budget)
            return await self._gaps.check(self._room, [*state.auth_chain, *state.pdus])

    async def _auth(self, events: Sequence[Event]) -> None:
        """Auth events that are missing still: with the chain of the event that names them, else by themselves."""
        await self._look(each for event in events for each in event.auth_event_ids)
        own = self._held | {event.event_id for event in events}
        for event in events:
            if not self._lacking(event.auth_event_ids) - own:
                continue

            async def ask(server: ServerName, event: Event = event) -> list[msgspec.Raw]:
                return await self._remote.event_auth(
                    server, self._room.name.room_id, event.event_id, self._budget
                )

            pdus = await self._first("event_auth", ask)
            await self._keep(await self._gaps.check(self._room, pdus) if pdus else [])
            if left := self._lacking(event.auth_event_ids) - own:
                await self._keep(await self._one_by_one(left))

    async def _keep(self, checked: Sequence[Checked]) -> None:
        """As outliers, in an order in which each comes after its auth events."""
        lacking = self._lacking(each.event.event_id for each in checked)
        new = {each.event.event_id: each.event for each in checked if each.event.event_id in lacking}
        stored = {each.event.event_id: each.stored for each in checked if each.stored is not None}
        await self._look(new)
        for some in pieces(new.values(), LOOKED_AT_ONCE):
            await next_turn()
            await self._look(each for event in some for each in event.auth_event_ids)
        known = self._whole | self._outliers
        many = len(new) > LOOKED_AT_ONCE
        ordered = await asyncio.to_thread(_placed, new, known) if many else _placed(new, known)
        if ordered:
            await self._gaps._outliers.add(self._room.name, ordered, stored)  # noqa: SLF001  # likewise
            self._looked.difference_update(event.event_id for event in ordered)
            await self._look(event.event_id for event in ordered)


def _connected(new: Mapping[EventId, Event], wanted: Collection[EventId]) -> bool:
    """Whether an answer has something of what was asked for: else it is noise."""
    return any(event_id in new for event_id in wanted)


def _placed(events: Mapping[EventId, Event], known: Collection[EventId]) -> list[Event]:
    """Those whose auth events are all known or among them, each after its own. What refers to itself is left out."""
    followers: dict[EventId, list[EventId]] = {}
    waits: dict[EventId, int] = {}
    for event in events.values():
        mine = {each for each in event.auth_event_ids if each not in known}
        waits[event.event_id] = len(mine)
        for each in mine:
            followers.setdefault(each, []).append(event.event_id)
    ready = [event_id for event_id, count in waits.items() if not count]
    ordered: list[Event] = []
    while ready:
        event_id = ready.pop()
        ordered.append(events[event_id])
        for follower in followers.get(event_id, ()):
            waits[follower] -= 1
            if not waits[follower]:
                ready.append(follower)
    return ordered


def _servers(room: Room, origin: ServerName, own: ServerName) -> list[ServerName]:
    """Whom to ask: who has sent it, then the servers with the most people in the room."""
    counted = Counter(domain_of(user) for user, member in room.members.items() if member.membership == JOIN)
    others = [name for name, _ in counted.most_common(MAX_SERVERS + 2) if name not in {origin, own}]
    return [origin, *others[: MAX_SERVERS - 1]]
