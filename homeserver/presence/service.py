"""Presence of local users: what they say, what their syncing shows, and when silence means that they are gone.

A change is a log entry; a sync that changes nothing writes nothing (but, with several processes, a beat now and then).
spec: client-server-api/#presence (EPH-09, EPH-10, SYNC-22)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from homeserver.config.presence import PresenceSection
from homeserver.graph.interning import Interning
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import UserId
from homeserver.presence import store
from homeserver.presence.entries import PresenceEntry, Word
from homeserver.presence.store import Row
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

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


@dataclass(slots=True)
class Known:
    """A local user who is about, as this process knows."""

    user_id: UserId
    presence: str
    status_msg: str | None
    last_active_ms: int
    last_seen_ms: int
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
        return "online" if any(said == "online" for said, _ in self.devices.values()) else "unavailable"

    def heard_elsewhere(self, word: Word, kept_ms: int) -> None:
        """As `heard`, of another process."""
        self.told[word.device] = (word.presence, word.heard_ms)
        if word.heard_ms >= self.devices.get(word.device, ("", 0))[1]:
            self._note(word.device, word.presence, word.heard_ms, kept_ms)

    def is_news(self, device: str, now_ms: int) -> bool:
        """Whether other processes have to be told what the device says."""
        presence, at_ms = self.told.get(device, ("", 0))
        return presence != self.devices[device][0] or now_ms - at_ms >= BEAT_MS

    def _note(self, device: str, presence: str, at_ms: int, kept_ms: int) -> None:
        if len(self.devices) > 1 or device not in self.devices:
            self.devices = {d: said for d, said in self.devices.items() if at_ms - said[1] <= kept_ms}
            if len(self.devices) >= MAX_DEVICES:
                self.devices.clear()
            self.told = {d: said for d, said in self.told.items() if d in self.devices or d == device}
        self.devices[device] = (presence, at_ms)


class PresenceService:
    """One per process; also a projection of the log."""

    def __init__(
        self,
        db: Database,
        log: LogWriter,
        interning: Interning,
        clock: Clock,
        *,
        config: PresenceSection,
        alone: bool,
    ) -> None:
        self._db = db
        self._log = log
        self._interning = interning
        self._clock = clock
        self._enabled = config.enabled
        self._idle_ms = round(config.idle_after * 1000)
        self._gone_ms = LONG_POLL_MS + round(config.offline_after * 1000)
        self._alone = alone
        self._known: dict[int, Known] = {}

    async def touch(self, requester: Requester, presence: str) -> None:
        """A sync: the user is about, unless they ask not to be noticed. spec: op:sync `set_presence`"""
        if not self._enabled or presence == "offline":
            return
        now = self._clock.now_ms()
        known = self._known.get(requester.user_nid) or await self._load(requester, now)
        device = requester.device_id or ""
        said = known.devices.get(device)
        if said is not None and said[0] == presence and now - said[1] < AT_ONCE_MS:
            return
        word = Word(device, presence, now)
        presence = known.heard(device, presence, now, self._gone_ms)
        changes = known.presence != presence
        if changes or (not self._alone and known.is_news(device, now)):
            known.presence = presence
            known.told[device] = known.devices[device]
            await self._append(requester.user_nid, known, beat=not changes, word=word)

    async def acted(self, requester: Requester) -> None:
        """The user did something: sent a message, wrote a receipt."""
        known = self._known.get(requester.user_nid)
        if known is not None:
            known.last_active_ms = self._clock.now_ms()

    async def set(self, requester: Requester, presence: State, status_msg: str | None) -> None:
        """The user says how they are. Raises `InvalidParam` for a status that is too long."""
        if status_msg is not None and len(status_msg) > MAX_STATUS:
            raise InvalidParam(f"status_msg: at most {MAX_STATUS} characters")
        if not self._enabled:
            return
        now = self._clock.now_ms()
        known = self._known.get(requester.user_nid) or await self._load(requester, now)
        known.presence, known.status_msg = presence, status_msg
        known.devices.clear()
        known.last_active_ms = known.last_seen_ms = now
        await self._append(requester.user_nid, known)

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

    def last_active_ms(self, user_nid: int, otherwise: int) -> int:
        """Fresh, if this process knows better than the log (EPH-09)."""
        known = self._known.get(user_nid)
        return max(otherwise, known.last_active_ms) if known else otherwise

    async def run(self) -> None:
        """Notice who has gone or is idle, until cancelled."""
        while True:
            await self._clock.sleep(5.0)
            await self.tick()

    async def tick(self) -> None:
        """Once: end the presence of those who have been silent."""
        now = self._clock.now_ms()
        for user_nid, known in list(self._known.items()):
            if now - known.last_seen_ms > self._gone_ms:
                del self._known[user_nid]
                if known.presence != "offline":
                    known.presence = "offline"
                    await self._append(user_nid, known)
            elif known.presence == "online" and now - known.last_active_ms > self._idle_ms:
                known.presence = "unavailable"
                await self._append(user_nid, known)

    def heard(self, entry: PresenceEntry) -> None:
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
        known.presence, known.status_msg = entry.presence, entry.status_msg

    async def _load(self, requester: Requester, now: int) -> Known:
        async with self._db.read() as tx:
            row = await store.find(tx, requester.user_nid)
        presence, status = (row.presence, row.status_msg) if row else ("offline", None)
        known = Known(requester.user_id, presence, status, now, now)
        return self._known.setdefault(requester.user_nid, known)

    async def _append(
        self, user_nid: int, known: Known, *, beat: bool = False, word: Word | None = None
    ) -> None:
        entry = PresenceEntry(
            user_nid, known.user_id, known.presence, known.status_msg, known.last_active_ms, beat, word
        )
        await self._log.append(entry)
