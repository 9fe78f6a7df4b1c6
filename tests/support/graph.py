"""The core of a homeserver without HTTP: log, graph and rooms on a real database, for tests of what lies beneath the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from homeserver.config import dev_config
from homeserver.e2ee.entries import DeviceListSink
from homeserver.e2ee.stream import DeviceListStream
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.events.filtering import read_filter
from homeserver.log.entries import Entry
from homeserver.log.host.election import Host, HostFolder
from homeserver.matrix.ids import DeviceId, RoomId, UserId
from homeserver.matrix.signing import SigningKey
from homeserver.matrix.tokens import parse_sync_token
from homeserver.policy.types import Check
from homeserver.presence.entries import PresenceSink
from homeserver.rooms.creation import CreateRoom
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.shared_positions import MOST
from homeserver.storage.database import Database
from homeserver.sync.sliding.extensions import Streams
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest
from homeserver.sync.v3.service import SyncParameters
from homeserver.threads.service import ThreadPage
from homeserver.web.auth import Requester
from homeserver.wiring.account_data import AccountDataFeature
from homeserver.wiring.core import Core
from homeserver.wiring.ephemeral import EphemeralFeature
from homeserver.wiring.manifest import Manifest, connect
from homeserver.wiring.profiles import ProfilesInSyncFeature
from homeserver.wiring.push import PushFeature
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.sliding import SlidingFeature
from homeserver.wiring.sync import SyncFeature
from tests.support.server import changed


class NoProfiles:
    """Nobody has a name."""

    async def membership_fields(self, user_id: UserId) -> dict[str, str]:
        del user_id
        return {}


class Process:
    """What one serving process has, beneath HTTP."""

    def __init__(
        self,
        core: Core,
        rooms: RoomsFeature,
        account_data: AccountDataFeature,
        ephemeral: EphemeralFeature,
        push: PushFeature,
        sync: SyncFeature,
        sliding: SlidingFeature,
        host: Host | None = None,
    ) -> None:
        self.core = core
        self.host = host
        self.rooms = rooms
        self.account_data = account_data
        self.ephemeral = ephemeral
        self.push = push
        self.sync_feature = sync
        self.sliding = sliding
        self._numbers = 0

    async def user(self, name: str) -> Requester:
        """Somebody with a session."""
        user_id = UserId(f"@{name}:{self.core.server_name}")
        nid = await self.core.interning.user_nid(user_id)
        return Requester(user_id=user_id, user_nid=nid, device_id=DeviceId("D"))

    async def room(self, creator: Requester, **wish: Any) -> RoomId:
        return await self.rooms.creation.create(creator, CreateRoom(**wish))

    async def send(self, sender: Requester, room_id: RoomId, body: str, txn_id: str | None = None) -> str:
        self._numbers += 1
        txn = txn_id or f"t{id(self)}.{self._numbers}"
        content = {"msgtype": "m.text", "body": body}
        return await self.rooms.sending.send(sender, room_id, "m.room.message", txn, content)

    async def sync(self, who: Requester, since: str | None = None, **wish: Any) -> dict[str, Any]:
        """One answer of `/sync`, at once. `wish`: `filter` (JSON), `full_state`, `state_after`."""
        await self.core.tail.fresh()
        token = parse_sync_token(since, "since") if since else None
        chosen = SyncParameters(
            token.position if token else None,
            token.to_device if token else 0,
            read_filter(wish.pop("filter", {})),
            timeout_ms=0,
            full_state=wish.pop("full_state", False),
            state_after="state_after" if wish.pop("state_after", False) else None,
            set_presence="offline",
        )
        answer: dict[str, Any] = json.loads(b"".join(await self.sync_feature.service.sync(who, chosen)))
        return answer


class Nothing:
    """A stream without news."""

    always_asked = False

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        del request, rooms
        return NO_NEWS


class NoThreads(Nothing):
    """Nobody subscribes to threads."""

    async def page(self, requester: Requester, after: int, upto: int, limit: int) -> ThreadPage:
        del requester, after, upto, limit
        return ThreadPage({}, None)


class NobodyIsTold:
    """No presence."""

    async def touch(self, requester: Requester, presence: str) -> None:
        del requester, presence


@contextlib.asynccontextmanager
async def process(
    dsn: str,
    folder: Path,
    *,
    alone: bool = True,
    key: SigningKey | None = None,
    policy: Sequence[Check] = (),
    place: int | None = None,
    **sections: Any,
) -> AsyncIterator[Process]:
    """Everything running on the database, until the block ends.

    `policy`: checks of the gate after those of the features. `place`: among the processes of one host, which meet in the folder.
    `sections`: as in `tests.support.server.run`.
    """
    config = changed(dev_config(port=0, data=folder).with_database(dsn), **sections)
    async with Database(dsn) as db:
        key = key or SigningKey(bytes(32), "a_test")
        core = Core(config, db, key, SystemClock(), Entropy(), alone=alone)
        rooms = RoomsFeature(config, core, NoProfiles())
        account_data = AccountDataFeature(core)
        ephemeral = EphemeralFeature(core, account_data)
        push = PushFeature(core, account_data.service)
        tracking = DeviceTracking(core.db, core.rooms, rooms.memberships, core.interning)
        device_lists = DeviceListStream(tracking, rooms.memberships)
        streams = [account_data.stream, ephemeral.stream, push.stream, device_lists]
        sync = SyncFeature(
            core,
            rooms,
            streams,
            account_data.ignores,
            NobodyIsTold(),
            push.counts,
            account_data.service,
            config.limits,
        )
        streams = Streams(
            Nothing(),
            Nothing(),
            device_lists,
            account_data.stream,
            push.stream,
            ephemeral.receipt_source,
            ephemeral.typing,
            NoThreads(),
            ProfilesInSyncFeature(core, rooms.memberships).sliding,
        )
        sliding = SlidingFeature(
            core,
            rooms,
            sync,
            streams,
            account_data.labels,
            account_data.ignores,
            NobodyIsTold(),
            push.counts,
            config.limits,
        )
        features = (core, rooms, account_data, ephemeral, push, sync, sliding)
        manifests = [
            *(each.manifest for each in features),
            Manifest(name="others", sinks=[DeviceListSink(), PresenceSink()]),
        ]
        manifests.append(Manifest(name="policy of the test", policy=policy))
        connect(manifests, core.tail, core.jobs, gate=core.gate)
        host = None
        if place is not None:
            meeting = HostFolder(folder / "run" / "log", place, MOST, complete=True)
            host = Host(meeting, db, core.tail, core.log, core.clock, core.entropy)
        await core.tail.start()
        writer = asyncio.create_task(core.log.run())
        beside = [asyncio.create_task(core.tail.run())]
        if host is not None:
            beside.append(asyncio.create_task(host.run()))
            await host.placed.wait()
        try:
            yield Process(core, rooms, account_data, ephemeral, push, sync, sliding, host)
        finally:
            core.log.close()
            await writer
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if host is not None:
                host.close()
