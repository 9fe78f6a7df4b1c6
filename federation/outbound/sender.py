"""Sends transactions: what the reader hands over, and ephemeral EDUs with it, one under way per destination.

spec: server-server-api/#transactions (CHECKLIST FED-08)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from federation.outbound.edus import MAX_EDU_BYTES, Durable
from federation.outbound.ephemeral import Ephemeral
from federation.outbound.figures import Figures
from federation.outbound.interest import removed_from
from federation.outbound.outcomes import Outcomes
from federation.outbound.relays import RelayEntry
from federation.outbound.transactions import MAX_BYTES, MAX_EDUS, MAX_PDUS, Pending, Transaction, encode
from federation.ports import Ask, BackingOff, Client, NotPermitted, Partners, RemoteError, RemoteFault
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.readers.types import Item, NotNow
from homeserver.matrix.ids import EventId, RoomId, ServerName
from homeserver.runtime.clock import Clock

log = structlog.get_logger(__name__)

TIMEOUT: Final = 60.0
"""Seconds for a transaction, the connection included."""
ANSWER_BYTES: Final = 256 * 1024
"""Of the answer: an honest one has a line for each event."""
PAUSE: Final = 60.0
"""Seconds until a destination is tried again that is being left alone, where nobody knows for how long."""
NOT_PERMITTED_PAUSE: Final = 3_600.0
LONGEST_ASKED_PAUSE: Final = 3_600.0
"""Seconds for which a destination may ask to be left alone."""
REFUSALS: Final = 3
"""How often a single item may be refused as malformed or too large before it is passed over."""
REASON_LENGTH: Final = 200
MAX_REFUSING: Final = 10_000
"""Destinations that do not take all events of which this is remembered."""


class Sender:
    """Delivers for the reader. Owns transactions that are to be repeated, and how much a destination takes at once."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        client: Client,
        events: EventCache,
        ephemeral: Ephemeral,
        outcomes: Outcomes,
        figures: Figures,
        clock: Clock,
        server_name: ServerName,
        partners: Partners,
        nudge: Callable[[str, float], None],
    ) -> None:
        self._client = client
        self._events = events
        self._ephemeral = ephemeral
        self._outcomes = outcomes
        self._figures = figures
        self._clock = clock
        self._server_name = server_name
        self._partners = partners
        self._nudge = nudge
        self._pending = Pending()
        self._refusing: OrderedDict[str, int] = OrderedDict()
        """How many transactions a destination has taken without some of their events; the last ones that did."""
        self._refusals: dict[str, int] = {}
        """How often in a row a destination has refused a transaction as malformed or too large."""

    async def deliver(self, key: str, items: Sequence[Item[Any]]) -> int | None:
        """See `Reader.deliver`. Raises `NotNow`, `RemoteFault`."""
        destination = ServerName(key)
        transaction = self._pending.matching(key, [item.position for item in items])
        if transaction is None or transaction.generation != self._partners.generation:
            if (dropped := self._pending.forget(key)) is not None:
                self._ephemeral.give_back(key, dropped.ephemeral)
            transaction = await self._build(destination, items)
        count = len(transaction.positions)
        if not (transaction.event_ids or transaction.edus):
            await self._tell_sources(destination, items[:count])
            return count
        try:
            answer = await self._client.ask(destination, _request(transaction), dict[str, Any])
        except RemoteFault as fault:
            return self._failed(destination, transaction, fault)
        except BaseException:
            self._keep(key, transaction)  # it may have arrived
            raise
        self._pending.forget(key)
        self._refusals.pop(key, None)
        self._outcomes.succeeded(key)
        self._figures.sent(len(transaction.event_ids), transaction.edus)
        for room_id in transaction.rooms:
            self._partners.done(destination, "sent", room_id)
        self._note_refused(destination, transaction, answer)
        await self._tell_sources(destination, items[:count])
        return count

    # --- building ----------------------------------------------------------------------------------------------------

    async def _build(self, destination: ServerName, items: Sequence[Item[Any]]) -> Transaction:
        """As many of the items, from the first, as go into one transaction, and ephemeral EDUs if there is room."""
        generation = self._partners.generation
        halvings = self._refusals.get(destination, 0)
        items = items[: max(1, (MAX_PDUS + MAX_EDUS) >> halvings)]
        contents = await self._contents(destination, items)
        pdus: list[bytes] = []
        edus: list[bytes] = []
        event_ids: list[EventId] = []
        rooms: list[RoomId] = []
        positions: list[int] = []
        size = last_ts = 0
        for item, content in zip(items, contents, strict=True):
            length = _length(content)
            if size and size + length > MAX_BYTES:
                break
            event = content.event if isinstance(content, PersistedEvent) else None
            said = () if isinstance(content, PersistedEvent) else content
            if len(pdus) + (event is not None) > MAX_PDUS or len(edus) + len(said) > MAX_EDUS:
                break
            positions.append(item.position)
            size += length
            edus += said
            if event is not None:
                pdus.append(event.pdu)
                event_ids.append(event.event_id)
                rooms.append(event.room_id)
                last_ts = event.origin_server_ts
        more, ephemeral = (
            self._ephemeral.take(destination, MAX_EDUS - len(edus)) if not halvings else ([], [])
        )
        # Without EDUs it is made of the log alone: after a crash the same transaction is the same.
        ts_ms = last_ts if pdus and not (edus or more) else self._clock.now_ms()
        txn_id, body = encode(self._server_name, ts_ms, pdus, edus + more)
        return Transaction(
            txn_id=txn_id,
            body=body,
            positions=tuple(positions),
            event_ids=tuple(event_ids),
            rooms=tuple(rooms),
            generation=generation,
            edus=len(edus) + len(more),
            ephemeral=ephemeral,
        )

    async def _contents(
        self, destination: ServerName, items: Sequence[Item[Any]]
    ) -> list[PersistedEvent | Sequence[bytes]]:
        """What each item says: an event, EDUs, or nothing any more."""
        contents: list[PersistedEvent | Sequence[bytes]] = [()] * len(items)
        relayed = [item.value.event_nid for item in items if isinstance(item.value, RelayEntry)]
        events = await self._events.load(relayed) if relayed else {}
        for number, (_, value) in enumerate(items):
            if isinstance(value, PersistedEvent):
                contents[number] = value if await self._is_for(destination, value) else ()
            elif isinstance(value, RelayEntry):
                contents[number] = events.get(value.event_nid) or ()
        for source, numbers in _by_source(items):
            asked = [Item(items[number].position, items[number].value.value) for number in numbers]
            for number, said in zip(numbers, await source.edus(destination, asked), strict=True):
                contents[number] = [each for each in said if len(each) <= MAX_EDU_BYTES]
        return contents

    async def _is_for(self, destination: ServerName, persisted: PersistedEvent) -> bool:
        """Whether it is still to be told: the configuration may have changed while the destination was away."""
        if not self._partners.restricts_rooms or removed_from(persisted) == destination:
            return True
        return await self._partners.may_share(destination, persisted.event.room_id)

    # --- what became of it -------------------------------------------------------------------------------------------

    def _failed(self, destination: ServerName, transaction: Transaction, fault: RemoteFault) -> int:
        """Raises what the reader shall do; returns how many items are passed over."""
        self._figures.failed += 1
        if not isinstance(fault, BackingOff):
            self._outcomes.failed(destination, fault.problem)
        if isinstance(fault, RemoteError) and fault.status in (400, 413):
            return self._refused(destination, transaction, fault)
        self._keep(destination, transaction)
        pause = _pause(fault)
        if not transaction.positions and self._give_back(destination, transaction):
            self._nudge(destination, pause or PAUSE)
        if pause is not None:
            raise NotNow(pause) from fault
        raise fault

    def _refused(self, destination: ServerName, transaction: Transaction, fault: RemoteError) -> int:
        """It will not take this transaction, so it gets smaller ones, until it is plain which item it is."""
        self._pending.forget(destination)
        refusals = self._refusals[destination] = self._refusals.get(destination, 0) + 1
        alone = len(transaction.positions) == 1
        halvings = (MAX_PDUS + MAX_EDUS).bit_length()
        if alone and refusals >= halvings + REFUSALS:
            log.warning(
                "federation.item_refused",
                destination=destination,
                events=transaction.event_ids,
                error=fault.problem[:REASON_LENGTH],
            )
            self._figures.given_up += 1
            self._refusals[destination] = halvings
            return 1
        raise fault

    def _keep(self, destination: str, transaction: Transaction) -> None:
        if transaction.positions:
            for other, dropped in self._pending.keep(destination, transaction):
                self._ephemeral.give_back(other, dropped.ephemeral)
        self._ephemeral.drop_momentary(destination)

    def _give_back(self, destination: str, transaction: Transaction) -> bool:
        return self._ephemeral.give_back(destination, transaction.ephemeral)

    def _note_refused(
        self, destination: ServerName, transaction: Transaction, answer: dict[str, Any]
    ) -> None:
        """Events that it did not take: they are not sent again (FED-08), and now and then there is a line for them."""
        results = answer.get("pdus")
        if not isinstance(results, dict):
            return
        reasons = [
            (event_id, str(result["error"])[:REASON_LENGTH])
            for event_id in transaction.event_ids
            if isinstance(result := results.get(event_id), dict) and result.get("error")
        ]
        if not reasons:
            return
        self._figures.refused += len(reasons)
        times = self._refusing[destination] = self._refusing.pop(destination, 0) + 1
        if len(self._refusing) > MAX_REFUSING:
            self._refusing.popitem(last=False)
        if times & (times - 1) == 0:  # the 1st, 2nd, 4th, 8th … transaction
            event_id, reason = reasons[0]
            log.info(
                "federation.events_refused",
                destination=destination,
                events=len(reasons),
                transactions=times,
                first=event_id,
                reason=reason,
            )

    async def _tell_sources(self, destination: ServerName, items: Sequence[Item[Any]]) -> None:
        for source, numbers in _by_source(items):
            delivered = [Item(items[number].position, items[number].value.value) for number in numbers]
            await source.delivered(destination, delivered)


def _length(content: PersistedEvent | Sequence[bytes]) -> int:
    """Bytes in a transaction."""
    return len(content.event.pdu) if isinstance(content, PersistedEvent) else sum(map(len, content))


def _by_source(items: Sequence[Item[Any]]) -> list[tuple[Any, list[int]]]:
    """The durable sources among the items, each with the numbers of its items."""
    found: dict[int, tuple[Any, list[int]]] = {}
    for number, (_, value) in enumerate(items):
        if isinstance(value, Durable):
            found.setdefault(id(value.source), (value.source, []))[1].append(number)
    return list(found.values())


def _request(transaction: Transaction) -> Ask:
    return Ask(
        method="PUT",
        path=("_matrix", "federation", "v1", "send", transaction.txn_id),
        content=msgspec.Raw(transaction.body),
        timeout=TIMEOUT,
        max_bytes=ANSWER_BYTES,
    )


def _pause(fault: RemoteFault) -> float | None:
    """Seconds that a fault says; None: as always after so many failures."""
    if isinstance(fault, BackingOff):
        return max(fault.retry_in or PAUSE, 1.0)
    if isinstance(fault, NotPermitted):
        return NOT_PERMITTED_PAUSE
    if isinstance(fault, RemoteError) and (fault.retry_after is not None or fault.status == 429):
        asked = fault.retry_after if fault.retry_after is not None else _retry_after_ms(fault) / 1000
        return min(max(asked, 1.0), LONGEST_ASKED_PAUSE)
    return None


class _Limited(msgspec.Struct):
    retry_after_ms: float = PAUSE * 1000


def _retry_after_ms(fault: RemoteError) -> float:
    """spec: client-server-api/#rate-limiting: what there was before `Retry-After`"""
    try:
        return msgspec.json.decode(fault.body, type=_Limited).retry_after_ms
    except (ValueError, RecursionError):
        return PAUSE * 1000
