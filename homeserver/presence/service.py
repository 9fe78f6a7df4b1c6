"""Presence of local users: what they say, what their syncing shows, and when silence means that they are gone.

A change is a log entry; a sync that changes nothing writes nothing (but, with several processes, a beat now and then). What
memory says of a user's presence is what the log says: it changes when an entry is written, never before.

spec: client-server-api/#presence (EPH-09, EPH-10, SYNC-22)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import psycopg
import structlog

from homeserver.config.presence import PresenceSection
from homeserver.graph.interning import Interning
from homeserver.log.entries import Conflict, Position
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound, Unavailable
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.presence import store
from homeserver.presence.store import Row
from homeserver.presence.types import PresenceEntry, Word
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.presence")

State = Literal["online", "offline", "unavailable"]
LONG_POLL_MS = 30 * 1000
"""Clients wait so long in a sync, during which nothing is heard of them."""
BEAT_MS = 20 * 1000
AT_ONCE_MS = 500
"""What a device says twice within this time it has said once."""
ACTIVE_MS = 60 * 1000
"""`currently_active`: did something within this time."""
MAX_STATUS = 1024
MAX_DEVICES = 100
"""Devices of a user whose word is kept."""
MAX_TAKEN_OVER = 20_000
"""Users whose presence a process that begins looks after."""
TOGETHER = 200
"""Changes that are noticed by the clock and wait to be written at a time."""
ATTEMPTS = 3
"""Of a change that other processes were faster with; and of one that the database refuses, a tick each."""
_AWAY = (psycopg.OperationalError, StorageError, Unavailable)
"""The database does not answer: nothing is wrong with what was to be written."""


@dataclass(slots=True)
class Known:
    """A local user who is about, as this process knows."""

    user_id: UserId
    presence: str
    status_msg: str | None
    last_active_ms: int
    last_seen_ms: int
    position: Position = 0
    """Where `presence` and `status_msg` stand in the log."""
    idle: bool = False
    """Whether they are `unavailable` because nothing was heard of them, not because they say so."""
    writing: str | None = None
    """What their presence is about to be."""
    refusals: int = 0
    """How often in a row the database refused to write what they are."""
    devices: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What each device last said of the user by syncing, here or elsewhere, and when: the most present one counts."""
    told: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What of it the other processes know."""

    def heard(self, device: str, presence: str, now_ms: int, kept_ms: int) -> str:
        """A device says how the user is. Returns how they are by all devices heard within `kept_ms`."""
        if presence == "online":
            self.last_active_ms = now_ms
        self.last_seen_ms = now_ms
        self._note(device, presence, now_ms, kept_ms)
        return self.by_devices()

    def by_devices(self) -> str:
        """How the user is by what their devices say."""
        return "online" if any(said == "online" for said, _ in self.devices.values()) else "unavailable"

    def heard_elsewhere(self, word: Word, kept_ms: int) -> None:
        """As `heard`, of another process."""
        self.told[word.device] = (word.presence, word.heard_ms)
        if word.heard_ms >= self.devices.get(word.device, ("", 0))[1]:
            self._note(word.device, word.presence, word.heard_ms, kept_ms)

    def is_news(self, device: str, now_ms: int) -> bool:
        """Whether other processes have to be told what the device says."""
        presence, at_ms = self.told.get(device, ("", 0))
        said = self.devices.get(device)
        return said is not None and (presence != said[0] or now_ms - at_ms >= BEAT_MS)

    def _note(self, device: str, presence: str, at_ms: int, kept_ms: int) -> None:
        if len(self.devices) > 1 or device not in self.devices:
            self.devices = {d: said for d, said in self.devices.items() if at_ms - said[1] <= kept_ms}
            if len(self.devices) >= MAX_DEVICES:
                self.devices.clear()
            self.told = {d: said for d, said in self.told.items() if d in self.devices or d == device}
        self.devices[device] = (presence, at_ms)


class PresenceService:
    """A projection: the presence of users who are about, and what is still to be written of it. Its `tick` writes it."""

    def __init__(
        self,
        db: Database,
        log: LogWriter,
        interning: Interning,
        clock: Clock,
        *,
        config: PresenceSection,
        alone: bool,
        server_name: ServerName | None = None,
    ) -> None:
        """`server_name`: whose users are looked after here; None: all."""
        self._server_name = server_name
        self._db = db
        self._log = log
        self._interning = interning
        self._clock = clock
        self._enabled = config.enabled
        self._idle_ms = round(config.idle_after * 1000)
        self._gone_ms = LONG_POLL_MS + round(config.offline_after * 1000)
        self._alone = alone
        self._known: dict[int, Known] = {}
        self._began = False

    async def touch(self, requester: Requester, presence: str) -> None:
        """A sync: the user is about, unless they ask not to be noticed. spec: op:sync `set_presence`

        Does not raise: who asks for messages gets them, also if nobody can be told that they are about.
        """
        if not self._enabled or presence == "offline":
            return
        try:
            await self._touch(requester, presence)
        except Exception as error:  # noqa: BLE001  # the next sync says it again
            _log.warning("presence_not_written", error=type(error).__name__)

    async def _touch(self, requester: Requester, presence: str) -> None:
        now, device = self._clock.now_ms(), requester.device_id or ""
        known = self._known.get(requester.user_nid) or await self._load(requester, now)
        said = known.devices.get(device)
        if said is not None and said[0] == presence and now - said[1] < AT_ONCE_MS:
            return
        word = Word(device, presence, now)
        by_devices = known.heard(device, presence, now, self._gone_ms)
        for _ in range(ATTEMPTS):
            changes = (known.writing or known.presence) != by_devices
            if not changes and (self._alone or not known.is_news(device, now)):
                return
            if await self._write(requester.user_nid, known, by_devices, beat=not changes, word=word):
                return

    def acted(self, user_nid: int) -> None:
        """The user did something: sent an event, wrote a receipt, types. No I/O; `tick` tells who was thought idle."""
        known = self._known.get(user_nid)
        if known is not None and known.presence != "offline":
            known.last_active_ms = known.last_seen_ms = self._clock.now_ms()

    async def set(self, requester: Requester, presence: State, status_msg: str | None) -> None:
        """The user says how they are. Raises `InvalidParam` for a status that is too long."""
        if status_msg is not None and len(status_msg) > MAX_STATUS:
            raise InvalidParam(f"status_msg: at most {MAX_STATUS} characters")
        if not self._enabled:
            return
        now = self._clock.now_ms()
        known = self._known.get(requester.user_nid) or await self._load(requester, now)
        entry = PresenceEntry(requester.user_nid, known.user_id, presence, status_msg, now, said=True)
        self.heard(entry, (await self._log.append(entry))[-1])

    async def get(self, requester: Requester, user_id: UserId) -> Row:
        """What is known of a user who shares a room with the requester; who never said anything is offline.

        Raises `Forbidden`, and `NotFound` for who does not exist. (EPH-10)
        """
        nid = (await self._interning.find_user_nids([user_id])).get(user_id)
        if nid is None:
            raise NotFound("Nothing is known of this user")
        async with self._db.read() as tx:
            if nid != requester.user_nid and not await store.share_a_room(tx, requester.user_nid, nid):
                raise Forbidden("You share no room with this user")
            row = await store.find(tx, nid)
        if row is None:
            return Row(nid, user_id, "offline", None, 0)
        known = self._known.get(nid)
        return row if known is None else row._replace(last_active_ms=known.last_active_ms)

    async def is_online(self, user_nid: int) -> bool:
        """Whether a local user has a client in front of them, as far as clients say; never without presence. One query."""
        if not self._enabled:
            return False
        async with self._db.read() as tx:
            row = await store.find(tx, user_nid)
        return row is not None and row.presence == "online"

    def last_active_ms(self, user_nid: int, otherwise: int) -> int:
        """Fresh, if this process knows better than the log (EPH-09)."""
        known = self._known.get(user_nid)
        return max(otherwise, known.last_active_ms) if known else otherwise

    async def tick(self) -> None:
        """Once: end the presence of those who have been silent; what cannot be written is tried again at the next tick."""
        if not self._began:
            await self._take_over()
        while True:
            now = self._clock.now_ms()
            known = ((nid, each, self._due(nid, each, now)) for nid, each in list(self._known.items()))
            due = list(islice(((nid, each, what) for nid, each, what in known if what), TOGETHER))
            written = await asyncio.gather(*(self._end(*each) for each in due))
            if len(due) < TOGETHER or not all(written):
                return

    async def _take_over(self) -> None:
        """Who was about when this process began may have gone with the one before: they have some time to be heard of."""
        async with self._db.read() as tx:
            rows = await store.find_present(tx, MAX_TAKEN_OVER)
        now = self._clock.now_ms()
        for row, position in rows:
            if row.user_nid not in self._known and self._is_ours(row.user_id):
                self._known[row.user_nid] = Known(
                    UserId(row.user_id), row.presence, row.status_msg, row.last_active_ms, now, position
                )
        self._began = True

    def _is_ours(self, user_id: str) -> bool:
        return self._server_name is None or domain_of(user_id) == self._server_name

    def _due(self, user_nid: int, known: Known, now: int) -> str | None:
        """What the user has become by the clock; None: nothing else than they are."""
        if now - known.last_seen_ms > self._gone_ms:
            if known.presence != "offline":
                return "offline"
            del self._known[user_nid]
        elif known.presence == "online" and now - known.last_active_ms > self._idle_ms:
            return "unavailable"
        elif known.idle and now - known.last_active_ms <= self._idle_ms:
            return "online"
        return None

    async def _end(self, user_nid: int, known: Known, presence: str) -> bool:
        """Write what `_due` says. False if it was not written: the next tick sees what is to be done then."""
        try:
            await self._write(user_nid, known, presence)
            if presence == "offline" and self._clock.now_ms() - known.last_seen_ms <= self._gone_ms:
                await self._write(user_nid, known, known.by_devices())  # they came while it was written
        except _AWAY as error:
            _log.warning("presence_not_written", error=type(error).__name__)
            return False
        except Exception as error:  # noqa: BLE001  # those of others are written
            known.refusals += 1
            _log.warning("presence_refused", error=type(error).__name__, times=known.refusals)
            if known.refusals >= ATTEMPTS:
                self._known.pop(user_nid, None)
            return False
        known.refusals = 0
        if known.presence == "offline":
            self._known.pop(user_nid, None)
        return True

    def heard(self, entry: PresenceEntry, position: Position) -> None:
        """An entry of the log; of another process's too: the user is about there."""
        known = self._known.get(entry.user_nid)
        if known is None:
            if entry.word is None or self._alone:
                return
            # They may come here next: then it matters by what device they are about elsewhere.
            active, seen = entry.last_active_ms, entry.word.heard_ms
            known = self._known[entry.user_nid] = Known(
                UserId(entry.user_id), entry.presence, entry.status_msg, active, seen
            )
        if entry.word is not None:
            known.heard_elsewhere(entry.word, self._gone_ms)
            known.last_seen_ms = max(known.last_seen_ms, entry.word.heard_ms)
        known.last_seen_ms = max(known.last_seen_ms, entry.last_active_ms)
        known.last_active_ms = max(known.last_active_ms, entry.last_active_ms)
        if entry.beat or position <= known.position:
            return
        if entry.said:
            known.devices.clear()
            known.told.clear()
        known.presence, known.status_msg, known.position = entry.presence, entry.status_msg, position
        by_the_clock = entry.word is None and not entry.said
        known.idle = by_the_clock and entry.presence == "unavailable"

    async def _load(self, requester: Requester, now: int) -> Known:
        known = Known(requester.user_id, "offline", None, now, now)
        await self._see(requester.user_nid, known)
        return self._known.setdefault(requester.user_nid, known)

    async def _see(self, user_nid: int, known: Known) -> None:
        """Take over what is written."""
        async with self._db.snapshot() as tx:
            position, row = await store.find_position(tx, user_nid), await store.find(tx, user_nid)
        presence, status = (row.presence, row.status_msg) if row else ("offline", None)
        known.presence, known.status_msg, known.position, known.idle = presence, status, position, False

    async def _write(
        self, user_nid: int, known: Known, presence: str, *, beat: bool = False, word: Word | None = None
    ) -> bool:
        """False if another process was faster; then `known` is what that one has written."""
        entry = PresenceEntry(
            user_nid,
            known.user_id,
            presence,
            known.status_msg,
            known.last_active_ms,
            beat,
            word,
            built_on=known.position,
        )
        if not beat:
            known.writing = presence
        try:
            self.heard(entry, (await self._log.append(entry))[-1])
        except Conflict:
            await self._see(user_nid, known)
            return False
        finally:
            if not beat:
                known.writing = None
        return True
