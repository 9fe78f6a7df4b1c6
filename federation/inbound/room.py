"""One room at work: what is staged for it is checked, put in order, filled up and received, until nothing is left.

The checks are those of the specification, by their numbers: format (1, again: it was checked before staging), signatures (2) and
hashes (3) by the `EventChecker`; auth events (4), state before (5), current state (6) and policy server by the `Receiver`.

What waits for another server (keys, missing events) waits beside the rest, by sender and by origin, so that nobody delays others.
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (FED-10)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import psycopg
import structlog

from federation.inbound import store
from federation.inbound.below import add_history
from federation.inbound.held import Held, objection, pause_after, references
from federation.inbound.known import NOTHING, Known
from federation.inbound.missing import Filled
from federation.inbound.parts import Parts
from federation.inbound.types import Deferred, RoomStaged, Staged
from federation.ports import Checked, Dropped
from homeserver.events.event import Event
from homeserver.events.parse import EventFormatError
from homeserver.graph.write.receive import BelowJoin, EventIdTaken
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import EventId, ServerName
from homeserver.runtime.causes import cause_of
from homeserver.runtime.turns import next_turn
from homeserver.storage.errors import StorageError

_log = structlog.get_logger("atrium.federation.inbound")

MAX_HELD: Final = 500
"""Events of a room in memory, and of one origin among them `MAX_EACH`: who sends much that cannot go on does not block others."""
MAX_EACH: Final = 100
AT_ONCE: Final = 100
"""Events handed to the graph at once."""
KEYS_PATIENCE: Final = 0.5
"""Seconds for which all wait for the keys of some sender; then the others go on."""
MAX_ATTEMPTS: Final = 20
"""Then an event is given up: some seven hours after the first."""
REFUSED_ATTEMPTS: Final = 5
"""Attempts where all servers were asked and none had what is missing."""
BUSY_PAUSE: Final = 5.0
"""Seconds until a room is looked at again whose origin has too many gaps being filled."""


AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, StorageError, Unavailable)
"""Nothing is wrong with what has come: it waits until the database, or who has to be asked here, is back."""


class RoomWork:
    """What one process knows of a room that it works on. Owned by its task."""

    def __init__(self, room_nid: int, parts: Parts, lease_valid: Callable[[], bool]) -> None:
        self._room_nid = room_nid
        self._parts = parts
        self._lease_valid = lease_valid
        self._new: dict[ServerName, list[Held]] = {}
        """Not checked yet, by who has sent it."""
        self._held: dict[EventId, Held] = {}
        """Checked, and waiting for what they refer to."""
        self._rows: dict[int, int] = {}
        """All rows in memory, with their bytes."""
        self._version = 0
        self._unread = True
        """There may be rows that are not in memory."""
        self._states: dict[EventId, list[EventId]] = {}
        self._known: Known = NOTHING
        self._finished: list[int] = []
        self._deferred: list[Deferred] = []
        self._tasks: dict[tuple[str, ServerName], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    # --- what the service calls --------------------------------------------------------------------------------------

    def offer(self, staged: RoomStaged) -> None:
        """A transaction was staged. Its events need not be read if nothing else was staged between."""
        gapless = staged.version == self._version + 1 and (self._version == 0 or not self._unread)
        if gapless and len(self._rows) + len(staged.rows) <= MAX_HELD and self._parts.memory.left:
            self._unread = False
            self._version = staged.version
            self._add(staged.rows)
        else:
            self._unread = True
        self._wake.set()

    def wake(self) -> None:
        """Something was staged by another process."""
        self._unread = True
        self._wake.set()

    async def run(self) -> None:
        """Until nothing is left to do, or the lease is lost. Raises what the database says; then all is as it was."""
        try:
            while self._lease_valid():
                self._wake.clear()
                self._reap()
                if self._unread and self._may_load() and not await self._load():
                    return
                await self._check_new()
                async with self._parts.turns:
                    progress = await self._receive_ready()
                self._fill_gaps()
                over = not (self._held or self._new or self._tasks)
                if await self._write_down(release=over) and not self._unread:
                    return
                if not progress and self._tasks and not self._wake.is_set():
                    await self._wake.wait()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._forget([*self._rows])

    def _reap(self) -> None:
        """Raises what has ended a task."""
        for key, task in [*self._tasks.items()]:
            if task.done():
                del self._tasks[key]
                task.result()

    # --- rows --------------------------------------------------------------------------------------------------------

    def _may_load(self) -> bool:
        """Whether there is room in memory; a room that has nothing there always gets something."""
        return not self._rows or (len(self._rows) < MAX_HELD and self._parts.memory.left > 0)

    async def _load(self) -> bool:
        """False: the room is no longer ours."""
        self._unread = False
        bounds = (MAX_HELD - len(self._rows), MAX_EACH, self._parts.memory.left)
        async with self._parts.db.read() as tx, tx.pipeline() as batch:
            version = store.find_version(batch, self._room_nid, self._parts.owner)
            found = store.find_staged(batch, self._room_nid, self._rows, bounds)
            left = store.count_due(batch, self._room_nid, self._rows)
        if version.result is None:
            return False
        self._version = version.result[0]
        self._unread |= left.result is not None and len(found.result) < left.result[0]
        self._add(found.result)
        return True

    def _add(self, rows: Sequence[Staged]) -> None:
        for row in rows:
            self._rows[row.staged_nid] = len(row.pdu)
            self._parts.memory.used += len(row.pdu)
            held = self._held.get(row.event_id)
            if held is not None:
                held.rows.append(row)
            else:  # a copy that another server has sent may have other signatures
                self._new.setdefault(row.origin, []).append(Held(row.event_id, row.origin, [row]))

    async def _write_down(self, *, release: bool) -> bool:
        """Note what is done and what is to be tried later; give the room up if asked to. True: it was given up."""
        if not (self._finished or self._deferred or release):
            return False
        finished, deferred = [*self._finished], [*self._deferred]
        async with self._parts.db.transaction() as tx, tx.pipeline(commit=True) as batch:
            store.finish(batch, finished)
            if deferred:
                store.defer(batch, deferred)
            released = (
                store.release(batch, self._room_nid, self._parts.owner, self._version) if release else None
            )
        del self._finished[: len(finished)], self._deferred[: len(deferred)]
        self._forget([*finished, *(row.staged_nid for row in deferred)])
        if deferred:  # some may have come since it was looked for
            self._parts.awaited.again([self._room_nid])
        if released is None:
            return False
        self._unread |= not any(each.result for each in released)
        return True

    def _forget(self, staged_nids: Sequence[int]) -> None:
        """These are no longer in memory."""
        for staged_nid in staged_nids:
            self._parts.memory.used -= self._rows.pop(staged_nid, 0)

    # --- steps 1 to 3 ------------------------------------------------------------------------------------------------

    async def _check_new(self) -> None:
        """Check what is new, by origin: the keys of one may be long in coming."""
        begun = [origin for origin in self._new if ("check", origin) not in self._tasks]
        for origin in begun:
            self._begin("check", origin, self._check(self._new.pop(origin)))
        if begun:
            checking = [task for (kind, _), task in self._tasks.items() if kind == "check"]
            await asyncio.wait(checking, timeout=KEYS_PATIENCE)
            self._reap()

    async def _check(self, new: Sequence[Held]) -> None:
        room = await self._parts.rooms.get(self._room_nid)
        try:
            pdus = [held.rows[0].event or held.rows[0].pdu for held in new]
            results = await self._parts.checker.check(pdus, room.name.version)
        except Exception as error:  # noqa: BLE001  # a fault of ours with one event must not stop the others
            _raise_if_away(error)
            if len(new) == 1:
                self._try_later(new[0], "not checked", refused=True, error=error)
                return
            for held in new:
                await self._check([held])
            return
        good: list[tuple[Held, Event]] = []
        for held, result in zip(new, results, strict=True):
            reason = objection(held, result, room)
            if reason is None and isinstance(result, Checked):
                good.append((held, result.event))
                continue
            if isinstance(result, Dropped) and result.retry:
                self._try_later(held, result.reason, refused=False)
                continue
            self._finished += [row.staged_nid for row in held.rows]
            _log.info("inbound.dropped", event_id=held.event_id, origin=held.origin, reason=reason)
        complete = await self._parts.policy.complete(room, [event for _, event in good])
        for (held, _), event in zip(good, complete, strict=True):
            self._accept(held, event)

    def _accept(self, held: Held, event: Event) -> None:
        """It has passed steps 1 to 3. Of the same event from several servers one copy is enough."""
        there = self._held.get(held.event_id)
        if there is not None:
            there.rows += held.rows
        else:
            held.event = event
            self._held[held.event_id] = held

    # --- steps 4 to 6 ------------------------------------------------------------------------------------------------

    async def _receive_ready(self) -> bool:
        """Hand over all that refers only to what is here. Whether something was done."""
        if not self._held:
            return False
        await self._look()
        for event_id, held in [*self._held.items()]:
            if event_id in self._known.whole:
                self._done(held)
            elif self._known.elsewhere and not self._known.elsewhere.isdisjoint(references(held)):
                _log.info("inbound.dropped", event_id=event_id, origin=held.origin, reason="another room")
                self._done(held)
        ready = self._ready()
        for start in range(0, len(ready), AT_ONCE):
            await next_turn()
            if not self._lease_valid():
                return False
            await self._receive(ready[start : start + AT_ONCE])
        return bool(ready)

    async def _look(self) -> None:
        """What of these, and of what they refer to, is here: one query, or none where they refer to what is in memory or among
        them. Of those that are here already the receiver knows, too.
        """
        named = {each for held in self._held.values() for each in references(held)}
        known = self._parts.here.from_memory(self._room_nid, named - self._held.keys())
        self._known = known or await self._parts.here.find(self._room_nid, named | self._held.keys())

    def _ready(self) -> list[Held]:
        """Those of which everything is here or among them, each after what it refers to."""
        followers: dict[EventId, list[EventId]] = {}
        waits: dict[EventId, int] = {}
        for event_id, held in self._held.items():
            missing = self._missing(held)
            waits[event_id] = len(missing)
            for each in missing:
                followers.setdefault(each, []).append(event_id)
        ready = [event_id for event_id, count in waits.items() if not count]
        for event_id in ready:  # which grows meanwhile
            for follower in followers.get(event_id, ()):
                waits[follower] -= 1
                if not waits[follower]:
                    ready.append(follower)
        return [self._held[event_id] for event_id in ready]

    def _missing(self, held: Held) -> set[EventId]:
        """What an event refers to that is not here."""
        prev, auth = self._lacking(held)
        return prev | auth

    def _lacking(self, held: Held) -> tuple[set[EventId], set[EventId]]:
        """The same: previous events, auth events."""
        event, known = held.checked, self._known
        auth = set(event.auth_event_ids) - known.whole - known.outliers
        prev = set() if event.event_id in self._states else set(event.prev_event_ids) - known.whole
        return prev, auth

    async def _receive(self, ready: Sequence[Held]) -> None:
        """One call of the graph; where it fails for what the events are, each by itself."""
        if not ready:
            return
        events = [held.checked for held in ready]
        ids = [event.event_id for event in events]
        states = {event_id: self._states[event_id] for event_id in ids if event_id in self._states}
        try:
            await self._parts.receiver.receive_many(self._room_nid, events, states=states)
        except BelowJoin as below:
            await self._receive(await self._receive_past(ready, below.event_ids))
            return
        except Exception as error:  # noqa: BLE001  # one event must not stop the others of its room
            _raise_if_away(error)
            if len(ready) == 1 and isinstance(error, EventIdTaken | EventFormatError):
                _log.info("inbound.dropped", event_id=ids[0], origin=ready[0].origin, reason=str(error)[:200])
                self._done(ready[0])
                return
            if len(ready) == 1:
                self._try_later(ready[0], f"not received: {cause_of(error)}", refused=True, error=error)
                return
            for held in ready:
                await self._receive([held])
            return
        for held in ready:
            self._done(held)

    async def _receive_past(self, ready: Sequence[Held], below: Collection[EventId]) -> list[Held]:
        """Some of these were said before our join, as somebody has sent them: they become history. Returns the others."""
        room = await self._parts.rooms.get(self._room_nid)
        await add_history(self._parts.history, room.name, [held.checked for held in ready], {})
        known = await self._parts.here.find(self._room_nid, [held.event_id for held in ready])
        for held in ready:
            if held.event_id in known.whole:
                self._done(held)
            elif held.event_id in below:
                self._try_later(held, "history that was not added", refused=True)
        return [held for held in ready if held.event_id in self._held]

    def _done(self, held: Held) -> None:
        self._held.pop(held.event_id, None)
        self._states.pop(held.event_id, None)
        self._finished += [row.staged_nid for row in held.rows]

    def _try_later(self, held: Held, reason: str, *, refused: bool, error: Exception | None = None) -> None:
        """A failed attempt. `refused`: nobody can help; it is given up sooner."""
        self._held.pop(held.event_id, None)
        self._states.pop(held.event_id, None)
        for row in held.rows:
            attempts = row.attempts + 1
            if attempts >= (REFUSED_ATTEMPTS if refused else MAX_ATTEMPTS):
                self._finished.append(row.staged_nid)
                _log.warning(
                    "inbound.given_up",
                    event_id=held.event_id,
                    origin=row.origin,
                    attempts=attempts,
                    reason=reason,
                    exc_info=error,
                )
                continue
            self._put_down(held, row, attempts, pause_after(attempts))

    def _leave(self, held: Held, pause: float) -> None:
        """Put down without having been tried: what comes before it is not there yet."""
        self._held.pop(held.event_id, None)
        for row in held.rows:
            self._put_down(held, row, row.attempts, pause)

    def _put_down(self, held: Held, row: Staged, attempts: int, pause: float) -> None:
        """To be tried again later, or when something has come that is missing."""
        prev, auth = self._lacking(held) if held.event is not None else (set(), set())
        self._parts.awaited.wait(self._room_nid, prev | auth)
        self._deferred.append(Deferred(row.staged_nid, attempts, pause, sorted(prev), sorted(auth)))

    # --- gaps --------------------------------------------------------------------------------------------------------

    def _fill_gaps(self) -> None:
        """Begin to fill what is missing, by origin, where that is not under way."""
        coming = self._held.keys() | {held.event_id for new in self._new.values() for held in new}
        roots: dict[ServerName, list[Held]] = {}
        for held in self._held.values():
            missing = self._missing(held)
            if missing and missing.isdisjoint(coming):
                roots.setdefault(held.origin, []).append(held)
        if self._held and not (roots or self._tasks or self._new):
            self._drop_circles()
        for origin, mine in roots.items():
            if ("fill", origin) in self._tasks:
                continue
            if self._parts.filling.begin(origin):
                for held in mine:  # it may come before it was fetched
                    self._parts.awaited.wait(self._room_nid, self._missing(held))
                self._begin("fill", origin, self._fill(origin, mine))
            else:
                self._put_off(mine)

    def _drop_circles(self) -> None:
        """Events that wait for each other, as only ids that servers choose themselves allow (room versions 1 and 2)."""
        for held in [*self._held.values()]:
            if self._missing(held):
                self._try_later(held, "refers to itself", refused=True)

    def _put_off(self, roots: Sequence[Held]) -> None:
        """The origin has too many gaps: others go first."""
        for held in [*roots, *self._dependents(roots)]:
            self._leave(held, BUSY_PAUSE)

    async def _fill(self, origin: ServerName, roots: Sequence[Held]) -> None:
        try:
            room = await self._parts.rooms.get(self._room_nid)
            filled = await self._parts.gaps.fill(
                room, origin, [held.checked for held in roots], [*self._held], self._parts.server_name
            )
            fetched = await self._parts.policy.complete(room, filled.events)
        except Exception as error:  # noqa: BLE001  # likewise
            _raise_if_away(error)
            for held in roots:
                self._try_later(held, "what it refers to was not fetched", refused=True, error=error)
            return
        finally:
            self._parts.filling.end(origin)
        for event in fetched:
            self._held.setdefault(event.event_id, Held(event.event_id, origin, [], event))
        self._states.update(filled.states)
        await self._settle(roots, filled)

    async def _settle(self, roots: Sequence[Held], filled: Filled) -> None:
        """What can still not go on is tried later, with what follows it."""
        await self._look()
        ready = {held.event_id for held in self._ready()} | self._known.whole
        for event in filled.events:
            held = self._held.get(event.event_id)
            if held is not None and not held.rows and event.event_id not in ready:
                del self._held[event.event_id]
        failed = [held for held in roots if held.event_id not in ready and held.event_id in self._held]
        if not failed:
            return
        pause = pause_after(max((row.attempts for held in failed for row in held.rows), default=0) + 1)
        followers = self._dependents(failed)
        for held in failed:
            self._try_later(held, "what it refers to is not to be had", refused=not filled.unreachable)
        for held in followers:
            self._leave(held, pause)

    def _dependents(self, roots: Sequence[Held]) -> list[Held]:
        """What refers to these, directly or not."""
        gone = {held.event_id for held in roots}
        found: list[Held] = []
        again = True
        while again:
            again = False
            for held in self._held.values():
                if held.event_id not in gone and not gone.isdisjoint(references(held)):
                    gone.add(held.event_id)
                    found.append(held)
                    again = True
        return found

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, origin: ServerName, work: Any) -> None:
        key = (kind, origin)
        task = asyncio.create_task(work, name=f"inbound.{kind}")
        self._tasks[key] = task

        def ended(_: asyncio.Task[None]) -> None:
            self._wake.set()

        task.add_done_callback(ended)


def _raise_if_away(error: Exception) -> None:
    """Raises it again, if nothing is wrong with what has come. What takes the database longer than it may has failed."""
    if isinstance(error, AWAY) and not isinstance(error, psycopg.errors.QueryCanceled):
        raise error
