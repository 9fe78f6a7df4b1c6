"""Sending messages to devices.

spec: client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from homeserver.graph.interning import Interning
from homeserver.log.entries import AlreadyDone, Append, Entry, Position, TransactionId
from homeserver.log.transactions import Transactions
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, TooLarge
from homeserver.matrix.ids import ServerName, UserId, domain_of, is_user_id
from homeserver.storage.database import Database
from homeserver.to_device import store
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.to_device.known import KnownDevices
from homeserver.to_device.ports import Messages, RemoteDevices
from homeserver.to_device.store import Page
from homeserver.web.auth import Requester
from homeserver.web.rate_limit import RateLimiter

ALL_DEVICES = "*"
MAX_POSITION = 2**62
PAGE = Page(100, 2**20)
"""What a device is given at once."""
MAX_RECIPIENTS = 10_000
MAX_MESSAGE = 65_536
MAX_TOTAL = 4 * 2**20
"""Bytes that one request puts into all queues together."""
MAX_COPIES = 2**20
"""Bytes that one message to `*` becomes in the queues of all devices of a user: it is written once and makes many."""
PERISHABLE = frozenset({"m.room_key_request", "m.secret.request"})
"""Asked again when it matters; also each has a cancellation. Verifications end after ten minutes."""


class ToDeviceService:
    """Sends to-device messages. Keeps nothing in memory but which devices there are."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        transactions: Transactions,
        interning: Interning,
        server_name: ServerName,
        limiter: RateLimiter,
        devices: KnownDevices,
    ) -> None:
        self._db = db
        self._log = log
        self._transactions = transactions
        self._interning = interning
        self._server_name = server_name
        self._limiter = limiter
        self._devices = devices
        self._remote: RemoteDevices | None = None

    def send_elsewhere_with(self, remote: RemoteDevices) -> None:
        """Who takes what is for users of other servers. Without, it is passed over."""
        self._remote = remote

    async def send(self, requester: Requester, event_type: str, txn_id: str, messages: Messages) -> None:
        """Send each device its content, once per transaction id; unknown devices are passed over (TD-01).

        Raises `InvalidParam` (a key that is no user ID, too many recipients), `TooLarge`, `LimitExceeded`.
        """
        key = TransactionId(
            requester.user_nid, requester.device_id or "", f"sendToDevice/{event_type}", txn_id
        )

        async def work() -> Position:
            here = await self.entries(requester.user_id, event_type, messages)
            elsewhere, size = self._elsewhere(requester.user_id, event_type, messages)
            entries = [*here, *elsewhere]
            if requester.rate_limited:
                kilobytes = (size + sum(len(entry.message) for entry in here)) / 1024
                self._limiter.hit("to_device", requester.user_id, guest=requester.is_guest, cost=kilobytes)
            await self._log.add(Append(entries, key))
            return 0

        await self._transactions.run(key, work)

    async def hear(
        self, origin: ServerName, message_id: str, sender: UserId, event_type: str, messages: Messages
    ) -> Callable[[], Awaitable[None]] | None:
        """Take what another server's user sends to devices here, once for each id of a message of that server.

        Nothing is written yet: what is returned gives it its place behind what has one, and returns what is over when it is
        written; so many are written together. None: there is nothing to write. Raises `InvalidParam`, `TooLarge`.

        spec: server-server-api/#mdirect_to_device-edu (FED-34)
        """
        entries = await self.entries(sender, event_type, messages)
        if entries:
            key = TransactionId(0, origin, "m.direct_to_device", message_id)
            return lambda: _once(self._log.add(Append(entries, key)))
        return None

    async def waiting(self, user_nid: int, device_id: str, after: Position) -> list[tuple[Position, bytes]]:
        """A page of messages that wait for a device after a position, in order; they go on waiting."""
        async with self._db.read() as tx:
            return await store.find(tx, user_nid, device_id, after, MAX_POSITION, PAGE)

    async def delivered(self, devices: Mapping[tuple[int, str], Position]) -> None:
        """(user_nid, device_id) -> up to where its messages have arrived by another way than its own sync."""
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            for (user_nid, device_id), upto in sorted(devices.items()):
                store.delete_upto(batch, user_nid, device_id, upto)

    async def entries(self, sender: UserId, event_type: str, messages: Messages) -> Sequence[ToDeviceEntry]:
        """What is to be written: one entry per local device."""
        if sum(map(len, messages.values())) > MAX_RECIPIENTS:
            raise InvalidParam(f"messages: more than {MAX_RECIPIENTS} devices")
        for user_id in messages:
            if not is_user_id(user_id):
                raise InvalidParam("messages: a key is not a user ID")
        local = [UserId(user) for user in messages if domain_of(user) == self._server_name]
        nids = await self._interning.find_user_nids(local)
        everywhere = [nid for user, nid in nids.items() if ALL_DEVICES in messages[user]]
        named = [
            (nid, device_id)
            for user, nid in nids.items()
            if ALL_DEVICES not in messages[user]
            for device_id in messages[user]
            if "\0" not in device_id  # which no device has
        ]
        devices = await self._devices.find(everywhere, named)
        head = b'{"sender":%b,"type":%b,"content":' % (json.dumps(sender), json.dumps(event_type))
        perishable = _perishes(event_type)
        entries: list[ToDeviceEntry] = []
        total = 0
        for user_id, nid in nids.items():
            encoded = {device_id: head + _encode(content) for device_id, content in messages[user_id].items()}
            everybody = encoded.get(ALL_DEVICES)
            copies = 0
            for device_id in devices.get(nid, ()):
                message = encoded.get(device_id, everybody)
                if message is not None:
                    entries.append(ToDeviceEntry(nid, device_id, message, perishable))
                    total += len(message)
                    copies += len(message) if message is everybody else 0
            if copies > MAX_COPIES:
                raise TooLarge(
                    f"messages: a message to * of more than {MAX_COPIES} bytes for all devices together"
                )
            if len(entries) > MAX_RECIPIENTS:
                raise InvalidParam(f"messages: more than {MAX_RECIPIENTS} devices")
            if total > MAX_TOTAL:
                raise TooLarge(f"messages: more than {MAX_TOTAL} bytes for all devices together")
        return entries

    def _elsewhere(self, sender: UserId, event_type: str, messages: Messages) -> tuple[Sequence[Entry], int]:
        """The same for users of other servers, and how many bytes it is. Raises `TooLarge`."""
        by_server: dict[ServerName, dict[str, Mapping[str, Mapping[str, Any]]]] = {}
        for user_id, devices in messages.items():
            if devices and (server := domain_of(user_id)) != self._server_name:
                by_server.setdefault(server, {})[user_id] = devices
        if self._remote is None or not by_server:
            return (), 0
        for theirs in by_server.values():
            for devices in theirs.values():
                for content in devices.values():
                    _encode(content)
        sent = self._remote.entries(sender, event_type, by_server, perishable=_perishes(event_type))
        if sent.size > MAX_TOTAL:
            raise TooLarge(f"messages: more than {MAX_TOTAL} bytes for all devices together")
        return sent.entries, sent.size


def _perishes(event_type: str) -> bool:
    return event_type in PERISHABLE or event_type.startswith("m.key.verification.")


def _encode(content: Mapping[str, Any]) -> bytes:
    data = json.dumps(content)
    if len(data) > MAX_MESSAGE:
        raise TooLarge(f"messages: a message of more than {MAX_MESSAGE} bytes")
    return data + b"}"


async def _once(written: asyncio.Future[range]) -> None:
    """Wait until it is written, now or when it came before."""
    with contextlib.suppress(AlreadyDone):
        await written
