"""Steps 1 to 3 of what is done with PDUs of other servers, and signatures of other JSON: `EventChecker`, `JsonVerifier`.

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu, #validating-hashes-and-signatures-on-received-events (CHECKLIST
FED-10, FED-11), appendices/#checking-for-a-signature (CRY-02)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

from federation.keys.ring import KeyRing
from federation.ports import Checked, Dropped
from homeserver.events.auth_rules import required_signers
from homeserver.events.event import Event
from homeserver.events.hashing import content_hash
from homeserver.events.parse import EventFormatError, parse_event
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import RoomVersion
from homeserver.events.signatures import MAX_SIGNATURES, KeyRecord, WantedKeys, check_signatures, valid_until
from homeserver.matrix.errors import InvalidSignature, Unauthorized
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import verify_json
from homeserver.runtime.turns import pieces

R = TypeVar("R")

ON_LOOP: Final = 3
"""Events that are checked on the event loop, at most; each takes some 0.2 ms."""
BATCH: Final = 50
"""Events that a thread checks without looking up."""
THREADS: Final = 2
"""Checking is little more than ed25519, which lets other threads run; more threads would compete with the event loop."""

KeysByServer = Mapping[ServerName, Collection[KeyRecord]]


class _Judged(NamedTuple):
    """What became of an event: a result, or the keys that are wanted to say it."""

    result: Checked | Dropped | None
    wanted: Sequence[WantedKeys] = ()


class SignatureChecker:
    """Fulfils `EventChecker` and `JsonVerifier`. `close` when it ends."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._threads = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), thread_name_prefix="signatures")

    def close(self) -> None:
        """Wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(
        self,
        pdus: Sequence[bytes | Mapping[str, Any]],
        version: RoomVersion,
        *,
        bounded: bool = True,
    ) -> list[Checked | Dropped]:
        """See `EventChecker.check`."""
        parsed = await self._each(lambda pdu: _parse(pdu, version, bounded=bounded), pdus)
        events = {place: event for place, event in enumerate(parsed) if isinstance(event, Event)}
        wishes = [wish for event in events.values() for wish in _wishes(event)]
        keys = await self._ring.find(wishes, fetch=False)
        judged = await self._judge(events, keys)
        wanted = [wish for each in judged.values() for wish in each.wanted]
        if wanted:
            keys = {**keys, **await self._ring.find(wanted)}
            again = {place: events[place] for place, each in judged.items() if each.wanted}
            judged.update(await self._judge(again, keys))
        return [
            judged[place].result or _unknown(events[place], judged[place].wanted)
            if isinstance(found, Event)
            else found
            for place, found in enumerate(parsed)
        ]

    async def verify(self, obj: Mapping[str, Any], server_name: ServerName, *, at_ms: int) -> None:
        """See `JsonVerifier.verify`."""
        signatures = obj.get("signatures")
        by_key = signatures.get(server_name) if isinstance(signatures, Mapping) else None
        if not isinstance(by_key, Mapping) or not by_key:
            raise Unauthorized(f"Not signed by {server_name}")
        key_ids = sorted(key_id for key_id in by_key if key_id.startswith("ed25519:"))[:MAX_SIGNATURES]
        wanted = WantedKeys(server_name, frozenset(key_ids), at_ms)
        found = (await self._ring.find([wanted])).get(server_name, ())
        keys = [key for key in found if key.key_id in key_ids and valid_until(key) >= at_ms]
        if not keys:
            raise Unauthorized(f"No key of {server_name} is known that was valid when it signed")
        await self._run(lambda: _verify(obj, server_name, keys))

    async def _judge(self, events: Mapping[int, Event], keys: KeysByServer) -> dict[int, _Judged]:
        judged = await self._each(lambda event: _judge(event, keys), list(events.values()))
        return dict(zip(events, judged, strict=True))

    async def _each(self, work: Callable[[Any], R], items: Sequence[Any]) -> list[R]:
        """Some on the event loop, many in threads, in the order of the items."""
        if len(items) <= ON_LOOP:
            return [work(item) for item in items]
        batches = [
            self._run(lambda batch=batch: [work(item) for item in batch])  # type: ignore[misc]  # bound at once
            for batch in pieces(items, BATCH)
        ]
        return [result for batch in await asyncio.gather(*batches) for result in batch]

    async def _run(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _parse(pdu: bytes | Mapping[str, Any], version: RoomVersion, *, bounded: bool) -> Event | Dropped:
    try:
        return parse_event(pdu, version, bounded=bounded)
    except EventFormatError as error:
        return Dropped(None, f"not an event of room version {version.id}: {error}")


def _wishes(event: Event) -> list[WantedKeys]:
    """Keys that are looked for in memory and the database, whatever their validity."""
    signatures: Mapping[str, Mapping[str, str]] = event.fields["signatures"]
    return [
        WantedKeys(server, frozenset(signatures.get(server, ())), 0) for server in required_signers(event)
    ]


def _judge(event: Event, keys: KeysByServer) -> _Judged:
    try:
        wanted = check_signatures(event, keys)
    except InvalidSignature as error:
        return _Judged(Dropped(event.event_id, error.error))
    if wanted:
        return _Judged(None, wanted)
    # spec: #checks-performed-on-receipt-of-a-pdu, step 3
    if event.fields["hashes"].get("sha256") != content_hash(event.fields):
        return _Judged(Checked(redact_event(event)))
    return _Judged(Checked(event))


def _unknown(event: Event, wanted: Sequence[WantedKeys]) -> Dropped:
    servers = ", ".join(wish.server for wish in wanted)
    return Dropped(
        event.event_id, f"the keys of {servers} that it is signed with cannot be had"[:300], retry=True
    )


def _verify(obj: Mapping[str, Any], server_name: ServerName, keys: Sequence[KeyRecord]) -> None:
    """Every key that is known must match."""
    try:
        for key in keys:
            verify_json(obj, server_name, key.key_id, key.public_key)
    except InvalidSignature as error:
        raise Unauthorized(error.error) from None
