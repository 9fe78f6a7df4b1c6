"""Encrypted rooms, by matrix-nio (the extra `atrium-homeserver[bots]`).

The bot has a device of its own, which it is logged in with as an application service may. That device syncs what is about keys and
members; events come by transactions as in other rooms, and are decrypted here, what is sent is encrypted here. The device is
signed by its owner (`cross_signing`). Devices of people are not verified: whoever is in the room can read what the bot says.

spec: client-server-api/#end-to-end-encryption, application-service-api/#inhibiting-login-and-appservice-login
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from typing_extensions import override

from appservices.bots.client import V3, Client, Crypto
from appservices.bots.cross_signing import CrossSigning
from appservices.bots.errors import NotConfigured, Refused, Unreachable

_log = logging.getLogger("atrium.bots")
ENCRYPTION: Final = "m.room.encryption"
KEY_SECONDS: Final = 20.0
"""How long a key is waited for that is needed for an event: it often comes after the event."""
_SYNC_MS: Final = 30_000
_PAUSE: Final = 2.0
_FILTER: Final = {
    "presence": {"types": []},
    "account_data": {"types": []},
    "room": {
        "timeline": {"types": ["m.room.member", ENCRYPTION], "limit": 100},
        "state": {"types": ["m.room.member", ENCRYPTION, "m.room.create"]},
        "ephemeral": {"types": []},
        "account_data": {"types": []},
    },
}


class NioCrypto(Crypto):
    """The keys of a bot, in a folder that nobody else uses."""

    def __init__(self, client: Client, homeserver: str, folder: Path) -> None:
        """Raises `NotConfigured` where matrix-nio is not installed."""
        try:
            self._nio: Any = importlib.import_module("nio")
            importlib.import_module("nio.crypto").Olm  # noqa: B018  # absent without vodozemac
        except (ImportError, AttributeError):
            raise NotConfigured("For encrypted rooms: pip install 'atrium-homeserver[bots]'") from None
        self._client = client
        self._homeserver = homeserver
        self._folder = folder
        self._encrypted: dict[str, bool] = {}
        self._synced = asyncio.Event()
        self._turn = asyncio.Lock()
        self._device: Any = None
        self._signing: CrossSigning | None = None
        """What signs the device; None once that is done."""

    @contextlib.asynccontextmanager
    async def running(self, device_id: str, name: str) -> AsyncIterator[None]:
        """Logs in, and follows keys as long as the block lasts."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._signing = CrossSigning(self._client, self._folder)
        body = {
            "type": "m.login.application_service",
            "identifier": {"type": "m.id.user", "user": self._client.user_id},
            "device_id": device_id,
            "initial_device_display_name": name,
        }
        found = await self._client.transport.request("POST", f"{V3}/login", body=body)
        options = self._nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
        self._device = self._nio.AsyncClient(
            self._homeserver, self._client.user_id, device_id, store_path=str(self._folder), config=options
        )
        self._device.restore_login(self._client.user_id, found["device_id"], found["access_token"])
        try:
            await self._publish()
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follow())
                try:
                    yield
                finally:
                    following.cancel()
        finally:
            await self._device.close()

    @override
    async def encrypt(
        self, room_id: str, kind: str, content: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        if not await self._is_encrypted(room_id):
            return kind, content
        async with self._turn:
            await self._until_known(room_id)
            if not self._device.rooms[room_id].members_synced:
                await self._device.joined_members(room_id)
            if self._device.should_query_keys:
                await self._device.keys_query()
            if self._device.olm.should_share_group_session(room_id):
                await self._device.share_group_session(room_id, ignore_unverified_devices=True)
            sealed: tuple[str, Mapping[str, Any]] = self._device.encrypt(room_id, kind, dict(content))
        return sealed

    @override
    async def decrypt(self, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
        event = self._nio.Event.parse_encrypted_event(dict(raw))
        if not isinstance(event, self._nio.MegolmEvent):
            return None
        event.room_id = str(raw.get("room_id"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEY_SECONDS):
                while True:
                    with contextlib.suppress(self._nio.EncryptionError):
                        found = dict(self._device.decrypt_event(event).source)
                        return {**raw, "type": found.get("type"), "content": found.get("content")}
                    self._synced.clear()
                    await self._synced.wait()
        _log.warning("there is no key for an event; it is passed over")
        return None

    @override
    def note(self, room_id: str) -> None:
        self._encrypted[room_id] = True

    @override
    def knows_encrypted(self, room_id: str) -> bool:
        return self._encrypted.get(room_id, False)

    async def _is_encrypted(self, room_id: str) -> bool:
        known = self._encrypted.get(room_id)
        if known is None:
            known = await self._client.state(room_id, ENCRYPTION) is not None
            self._encrypted.setdefault(room_id, known)
        return self._encrypted[room_id]

    async def _until_known(self, room_id: str) -> None:
        """Waits until a sync has told of the room: who is in it. Raises `Unreachable`."""
        try:
            async with asyncio.timeout(KEY_SECONDS):
                while True:
                    room = self._device.rooms.get(room_id)
                    if room is not None and room.encrypted:
                        return
                    self._synced.clear()
                    await self._synced.wait()
        except TimeoutError:
            raise Unreachable("no sync has told of the room yet") from None

    async def _publish(self) -> None:
        """Before the bot comes into a room its device has to be known: what is said there is encrypted for those that are."""
        try:
            await self._keep_up()
        except (OSError, TimeoutError, aiohttp.ClientError, self._nio.LocalProtocolError) as error:
            _log.warning("the keys are uploaded later: %s", type(error).__name__)

    async def _follow(self) -> None:
        """Syncs for ever; what fails is tried again."""
        full = True
        while True:
            try:
                reply = await self._device.sync(
                    timeout=0 if full else _SYNC_MS, sync_filter=_FILTER, full_state=full
                )
                if isinstance(reply, self._nio.SyncResponse):
                    full = False
                    await self._keep_up()
                    self._synced.set()
                    await self._sign()
                    continue
                _log.warning("a sync was refused")
            except (OSError, TimeoutError, aiohttp.ClientError, self._nio.LocalProtocolError) as error:
                _log.warning("a sync has failed: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE)

    async def _sign(self) -> None:
        """Signs the device, once in the life of the process. What keeps it from that keeps it from nothing else."""
        if self._signing is None:
            return
        try:
            if await self._signing.sign(
                self._device.device_id, self._device.olm.account.identity_keys["ed25519"]
            ):
                self._signing = None
        except Refused as refusal:
            self._signing = None
            _log.warning("the homeserver does not let the bot sign its device: %s", refusal)
        except Unreachable:
            _log.warning("the bot could not sign its device yet")

    async def _keep_up(self) -> None:
        """What a sync has told to be done about keys."""
        async with self._turn:
            if self._device.should_upload_keys:
                await self._device.keys_upload()
            if self._device.should_query_keys:
                await self._device.keys_query()
            if self._device.should_claim_keys:
                await self._device.keys_claim(self._device.get_users_for_key_claiming())
            await self._device.send_to_device_messages()
