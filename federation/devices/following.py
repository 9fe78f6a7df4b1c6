"""What other servers say of changes of their users' devices and keys: kept where it follows what is kept, else fetched anew.

Of users of whom nobody here has asked nothing is kept; clients hear that something has changed if they share a room.
spec: server-server-api/#mdevice_list_update, #msigning_key_update (FED-30, FED-31, FED-33)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog

from federation.devices.asking import RemoteDevices
from federation.devices.own import FIELDS
from federation.devices.reading import device_of, is_name, signing_key_of
from federation.inbound.edus import EduDispatcher, InvalidEdu
from federation.ports import NotPermitted, RemoteFault
from homeserver.e2ee.remote_lists import DeviceChange, RemoteLists
from homeserver.graph.interning import Interning
from homeserver.jobs.service import Jobs
from homeserver.jobs.types import GiveUp, JobKind, Retry, TooManyJobs, TryLater
from homeserver.matrix.canonical_json import MAX_INTEGER
from homeserver.matrix.errors import LimitExceeded
from homeserver.matrix.ids import ServerName, UserId, domain_of, is_user_id
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.web.rate_limit import Rate, RateLimiter

log = structlog.get_logger(__name__)

MAX_PREVIOUS: Final = 100
CHANGES_OF_USER: Final = Rate(0.2, 50)
CHANGES_OF_SERVER: Final = Rate(20, 1_000)
"""How often a user's changes are told to clients one by one. Beyond, the list is doubtful, which is said once."""


class Resync(msgspec.Struct):
    """The device list of a user is to be fetched."""

    user_id: str


RESYNC: Final = JobKind(
    "federation.device_list",
    Resync,
    retry=Retry(first=5.0, factor=3.0, longest=3_600.0, attempts=10),
    at_once=20,
    timeout=60.0,
    most=100_000,
)
"""One of a user at a time: the user is its key. What is doubtful is fetched, too, when a client asks; so it may be given up."""


class Following:
    """Handlers of EDUs, and the job. Keeps in memory how much has come, in bounded size."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        lists: RemoteLists,
        remote: RemoteDevices,
        memberships: Memberships,
        interning: Interning,
        jobs: Jobs,
        db: Database,
        clock: Clock,
    ) -> None:
        self._lists = lists
        self._remote = remote
        self._memberships = memberships
        self._interning = interning
        self._jobs = jobs
        self._db = db
        rates = {"user": CHANGES_OF_USER, "server": CHANGES_OF_SERVER}
        self._limiter = RateLimiter(clock, rates, max_keys=20_000)

    def register(self, edus: EduDispatcher) -> None:
        """Say what is handled here."""
        edus.register("m.device_list_update", self.device)
        edus.register("m.signing_key_update", self.signing_keys)
        edus.register("org.matrix.signing_key_update", self.signing_keys)

    async def device(self, origin: ServerName, content: Mapping[str, Any]) -> None:
        """See `EduHandler`."""
        user_id = user_of(origin, content.get("user_id"))
        stream_id, device_id = content.get("stream_id"), content.get("device_id")
        if not _is_stream_id(stream_id) or not is_name(device_id):
            raise InvalidEdu("stream_id or device_id: missing or malformed")
        assert isinstance(stream_id, int)
        previous = content.get("prev_id", [])
        if (
            not isinstance(previous, list)
            or len(previous) > MAX_PREVIOUS
            or not all(map(_is_stream_id, previous))
        ):
            raise InvalidEdu(f"prev_id: no list of at most {MAX_PREVIOUS} numbers")
        nid = await self._of_interest(user_id)
        if nid is None:
            return
        device = None
        if content.get("deleted") is not True:
            name = content.get("device_display_name")
            device = device_of(user_id, nid, str(device_id), content.get("keys"), name)
        before = previous[0] if len(set(previous)) == 1 else None
        change = DeviceChange(device, str(device_id), stream_id, before)
        if await self._is_too_much(origin, nid, user_id):
            return
        if await self._lists.change(nid, user_id, change):
            await self._fetch_soon(user_id)

    async def signing_keys(self, origin: ServerName, content: Mapping[str, Any]) -> None:
        """See `EduHandler`."""
        user_id = user_of(origin, content.get("user_id"))
        nid = await self._of_interest(user_id)
        if nid is None:
            return
        rows = []
        for usage, field in FIELDS.items():
            if content.get(field) is not None:
                row = signing_key_of(user_id, nid, usage, content[field])
                if row is None:
                    raise InvalidEdu(f"{field}: no key of this user")
                rows.append(row)
        if not await self._is_too_much(origin, nid, user_id):
            await self._lists.change_signing_keys(nid, user_id, rows)

    async def fetch(self, job: Resync) -> None:
        """A job: see `RESYNC`. Raises `TryLater`, `GiveUp`."""
        user_id = UserId(job.user_id)
        try:
            changed = await self._remote.fetch(domain_of(user_id), user_id)
        except NotPermitted:
            raise GiveUp("this server may not speak with it") from None
        except RemoteFault as fault:
            raise TryLater(f"the server did not answer as it has to: {type(fault).__name__}") from None
        if changed:
            nid = await self._interning.user_nid(user_id)
            await self._lists.tell(nid, user_id)

    # ------------------------------------------------------------------------------------------------------------ inside

    async def _of_interest(self, user_id: UserId) -> int | None:
        """The user's number, if they are, or were, in a room that is known here."""
        nid = (await self._interning.find_user_nids([user_id])).get(user_id)
        if nid is None or not (await self._memberships.of(nid)).joined:
            return None
        return nid

    async def _is_too_much(self, origin: ServerName, nid: int, user_id: UserId) -> bool:
        """Whether so many changes come that single ones are not looked at: then what is kept is doubtful, and nothing is written
        for those that follow.
        """
        try:
            self._limiter.hit("user", user_id)
            self._limiter.hit("server", origin)
        except LimitExceeded:
            known = await self._lists.find(nid)
            if known is not None and known.fresh:
                log.info("devices.too_many_changes", origin=origin)
                await self._lists.distrust({nid: user_id}, tell=True)
            elif known is not None:
                await self._lists.disregard(nid)
            return True
        return False

    async def _fetch_soon(self, user_id: UserId) -> None:
        try:
            async with self._db.transaction() as tx:
                await self._jobs.add(tx, RESYNC, Resync(user_id), key=user_id)
        except TooManyJobs:
            return  # it is fetched when a client asks
        self._jobs.wake()


def user_of(origin: ServerName, user_id: object) -> UserId:
    """Raises `InvalidEdu` for who is not the origin's."""
    if not isinstance(user_id, str) or not is_user_id(user_id) or domain_of(user_id) != origin:
        raise InvalidEdu("a user of another server")
    return UserId(user_id)


def _is_stream_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER
