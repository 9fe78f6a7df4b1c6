"""Steps 1 to 3 of what is done with PDUs of other servers, and signatures of other JSON: `EventChecker`, `JsonVerifier`.

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu, #validating-hashes-and-signatures-on-received-events (CHECKLIST
FED-10, FED-11), appendices/#checking-for-a-signature (CRY-02)
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

from federation.keys.judging import (
    JUDGED_BATCH,
    Judged,
    KeysByServer,
    Outcome,
    batch_of,
    judge,
    likely_wishes,
    outcomes_of,
    parse,
    unknown,
    wishes,
)
from federation.keys.ring import KeyRing
from federation.ports import Checked, Dropped
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.events.signatures import MAX_SIGNATURES, KeyRecord, WantedKeys, valid_until
from homeserver.matrix.errors import InvalidSignature, Unauthorized
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import verify_json
from homeserver.runtime.computing import ComputeProcesses
from homeserver.runtime.turns import next_turn, pieces

R = TypeVar("R")

ON_LOOP: Final = 3
"""Events that are checked on the event loop, at most; each takes some 0.2 ms."""
BATCH: Final = 50
"""Events that a thread checks without looking up."""
MANY: Final = 400
"""From so many events on, they are checked in processes of their own."""
PROCESS_BATCH: Final = 200
"""Events that a process checks without looking up, in some 50 ms."""
LOOKED_AT_ONCE: Final = 1_000
"""Events of which is read, in one turn of the event loop, who has signed them."""
MAX_SIGNERS: Final = 20_000
MAX_FETCHED: Final = 2_000
"""Servers whose keys are looked for here, and asked for, for many events that are checked together."""
THREADS: Final = 2
"""Checking is little more than ed25519, which lets other threads run; more threads would compete with the event loop."""


class _Wishes:
    """What keys many events want, each said once."""

    def __init__(self) -> None:
        self._latest: dict[tuple[ServerName, frozenset[str]], int] = {}
        self._counts: Counter[ServerName] = Counter()

    def add(self, wishes: Iterable[WantedKeys]) -> None:
        """Those of some events."""
        for server, key_ids, until in wishes:
            self._latest[server, key_ids] = max(until, self._latest.get((server, key_ids), 0))
            self._counts[server] += 1

    def most(self, limit: int) -> list[WantedKeys]:
        """Of so many servers, those that are wanted most: anybody can name a hundred thousand."""
        servers = {server for server, _ in self._counts.most_common(limit)}
        return [
            WantedKeys(server, key_ids, until)
            for (server, key_ids), until in self._latest.items()
            if server in servers
        ]


class SignatureChecker:
    """Fulfils `EventChecker` and `JsonVerifier`. `close` when it ends."""

    def __init__(self, ring: KeyRing, computing: ComputeProcesses) -> None:
        self._ring = ring
        self._computing = computing
        self._threads = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), thread_name_prefix="signatures")

    def close(self) -> None:
        """Wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(
        self,
        pdus: Sequence[bytes | Mapping[str, Any] | Event],
        version: RoomVersion,
        *,
        bounded: bool = True,
    ) -> list[Checked | Dropped]:
        """See `EventChecker.check`."""
        if len(pdus) >= MANY and all(isinstance(pdu, bytes) for pdu in pdus):
            return await self._check_many(cast("Sequence[bytes]", pdus), version, bounded=bounded)
        parsed = await self._each(lambda pdu: parse(pdu, version, bounded=bounded), pdus)
        events = {place: event for place, event in enumerate(parsed) if isinstance(event, Event)}
        wanted = [wish for event in events.values() for wish in wishes(event)]
        keys = await self._ring.find(wanted, fetch=False)
        judged = await self._judge(events, keys)
        wanted = [wish for each in judged.values() for wish in each.wanted]
        if wanted:
            keys = {**keys, **await self._ring.find(wanted)}
            again = {place: events[place] for place, each in judged.items() if each.wanted}
            judged.update(await self._judge(again, keys))
        return [
            judged[place].result or unknown(events[place].event_id, judged[place].wanted)
            if isinstance(found, Event)
            else found
            for place, found in enumerate(parsed)
        ]

    async def _check_many(
        self, pdus: Sequence[bytes], version: RoomVersion, *, bounded: bool
    ) -> list[Checked | Dropped]:
        """In processes, in batches. Events come back without what was decoded to check them: there may be many."""
        self._computing.warm()
        likely = _Wishes()
        for some in pieces(pdus, LOOKED_AT_ONCE):
            await next_turn()
            likely.add(likely_wishes(some))
        keys = await self._ring.find(likely.most(MAX_SIGNERS), fetch=False)
        if strangers := [wish for wish in likely.most(MAX_FETCHED) if wish.server not in keys]:
            keys = {**keys, **await self._ring.find(strangers)}
        found = await self._judged_many(pdus, version, keys, bounded=bounded)
        again = [place for place, (_, each) in enumerate(found) if each.wanted]
        if again:
            wanted = _Wishes()
            for some_places in pieces(again, LOOKED_AT_ONCE):
                await next_turn()
                wanted.add(wish for place in some_places for wish in found[place][1].wanted)
            keys = {**keys, **await self._ring.find(wanted.most(MAX_FETCHED))}
            judged = await self._judged_many([pdus[place] for place in again], version, keys, bounded=bounded)
            for place, outcome in zip(again, judged, strict=True):
                found[place] = outcome
        return [each.result or unknown(event_id, each.wanted) for event_id, each in found]

    async def _judged_many(
        self, pdus: Sequence[bytes], version: RoomVersion, keys: KeysByServer, *, bounded: bool
    ) -> list[Outcome]:
        async def judged(batch: Sequence[bytes]) -> list[Outcome]:
            frame = batch_of(batch, version, keys, bounded=bounded)
            return outcomes_of(await self._computing.run(JUDGED_BATCH, [frame]), version)

        batches = await self._computing.each(judged, [*pieces(pdus, PROCESS_BATCH)])
        return [outcome for batch in batches for outcome in batch]

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

    async def _judge(self, events: Mapping[int, Event], keys: KeysByServer) -> dict[int, Judged]:
        judged = await self._each(lambda event: judge(event, keys), list(events.values()))
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


def _verify(obj: Mapping[str, Any], server_name: ServerName, keys: Sequence[KeyRecord]) -> None:
    """Every key that is known must match."""
    try:
        for key in keys:
            verify_json(obj, server_name, key.key_id, key.public_key)
    except InvalidSignature as error:
        raise Unauthorized(error.error) from None
