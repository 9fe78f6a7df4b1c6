"""Steps 1 to 3 of what is done with a PDU, without looking anything up: on the event loop, in a thread, or, for many, in a process
of its own (`judged_batch`).

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu, #validating-hashes-and-signatures-on-received-events (CHECKLIST
FED-10, FED-11)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from federation.ports import Checked, Dropped
from homeserver.events.auth_rules import required_signers
from homeserver.events.event import Event
from homeserver.events.hashing import content_hash
from homeserver.events.packing import pack
from homeserver.events.parse import EventFormatError, event_from_storage, parse_event
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.events.signatures import KeyRecord, WantedKeys, check_signatures
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.ids import EventId, RoomId, ServerName, domain_of, is_server_name

KeysByServer = Mapping[ServerName, Collection[KeyRecord]]
Outcome = tuple[EventId | None, "Judged"]
"""What became of a PDU, by its event id where it has one."""
SIGNERS: Final = 5
"""Servers whose signatures of an event are looked at when many are judged. An honest event has those of two or three."""
JUDGED_BATCH: Final = "federation.keys.judging:judged_batch"


class Judged(NamedTuple):
    """What became of an event: a result, or the keys that are wanted to say it."""

    result: Checked | Dropped | None
    wanted: Sequence[WantedKeys] = ()


def parse(pdu: bytes | Mapping[str, Any] | Event, version: RoomVersion, *, bounded: bool) -> Event | Dropped:
    """Step 1, which an event has passed."""
    if isinstance(pdu, Event):
        return pdu if pdu.room_version is version else parse(pdu.pdu, version, bounded=bounded)
    try:
        return parse_event(pdu, version, bounded=bounded)
    except EventFormatError as error:
        return Dropped(None, f"not an event of room version {version.id}: {error}")


def wishes(event: Event) -> list[WantedKeys]:
    """Keys that are looked for in memory and the database, whatever their validity."""
    signatures: Mapping[str, Mapping[str, str]] = event.fields["signatures"]
    return [
        WantedKeys(server, frozenset(signatures.get(server, ())), 0) for server in required_signers(event)
    ]


def judge(event: Event, keys: KeysByServer) -> Judged:
    """Steps 2 and 3."""
    try:
        wanted = check_signatures(event, keys)
    except InvalidSignature as error:
        return Judged(Dropped(event.event_id, error.error))
    if wanted:
        return Judged(None, wanted)
    # spec: #checks-performed-on-receipt-of-a-pdu, step 3
    if event.fields["hashes"].get("sha256") != content_hash(event.fields):
        return Judged(Checked(redact_event(event)))
    return Judged(Checked(event))


def unknown(event_id: EventId | None, wanted: Sequence[WantedKeys]) -> Dropped:
    """Keys could not be had."""
    servers = ", ".join(wish.server for wish in wanted)
    return Dropped(event_id, f"the keys of {servers} that it is signed with cannot be had"[:300], retry=True)


# --- many ------------------------------------------------------------------------------------------------------------


class _Signed(msgspec.Struct):
    sender: str
    signatures: dict[str, dict[str, str]]


_decode_signed = msgspec.json.Decoder(_Signed).decode


def likely_wishes(pdus: Iterable[bytes]) -> list[WantedKeys]:
    """Keys that the PDUs are likely to need, read without judging anything: of their senders, and of others who have signed."""
    wanted: dict[ServerName, set[str]] = {}
    for pdu in pdus:
        try:
            signed = _decode_signed(pdu)
        except (ValueError, RecursionError):  # which is said when it is judged
            continue
        for server in {domain_of(signed.sender), *islice(signed.signatures, SIGNERS)}:
            if is_server_name(server):
                wanted.setdefault(ServerName(server), set()).update(signed.signatures.get(server, ()))
    return [WantedKeys(server, frozenset(key_ids), 0) for server, key_ids in wanted.items()]


class _Batch(msgspec.Struct, array_like=True):
    version: str
    bounded: bool
    pdus: list[bytes]
    keys: dict[ServerName, list[KeyRecord]]


class _Outcome(msgspec.Struct, array_like=True, omit_defaults=True):
    event_id: EventId | None = None
    room_id: RoomId = RoomId("")
    pdu: bytes = b""
    """Empty: it was dropped, or keys are wanted."""
    stored: bytes = b""
    reason: str = ""
    wanted: list[WantedKeys] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(_Batch).decode
_decode_outcomes = msgspec.msgpack.Decoder(list[_Outcome]).decode


def batch_of(pdus: Sequence[bytes], version: RoomVersion, keys: KeysByServer, *, bounded: bool) -> bytes:
    """What `judged_batch` is given."""
    signers = {wish.server for wish in likely_wishes(pdus)}
    given = {name: [*each] for name, each in keys.items() if name in signers}
    return _encode(_Batch(version.id, bounded, [*pdus], given))


def judged_batch(frames: Sequence[bytes]) -> bytes:
    """Judge the one batch of `frames`; what it returns is for `outcomes_of`."""
    batch = _decode_batch(frames[0])
    version = ROOM_VERSIONS[batch.version]
    return _encode([_outcome(pdu, version, batch) for pdu in batch.pdus])


def _outcome(pdu: bytes, version: RoomVersion, batch: _Batch) -> _Outcome:
    event = parse(pdu, version, bounded=batch.bounded)
    if isinstance(event, Dropped):
        return _Outcome(reason=event.reason)
    judged = judge(event, batch.keys)
    result = judged.result
    if isinstance(result, Checked):
        event = result.event
        stored = pack(event.pdu, event.room_id, {}) if "state_key" in event.fields else b""
        return _Outcome(event.event_id, event.room_id, event.pdu, stored)
    if result is not None:
        return _Outcome(event.event_id, reason=result.reason)
    return _Outcome(event.event_id, wanted=[*judged.wanted])


def outcomes_of(answer: bytes, version: RoomVersion) -> list[tuple[EventId | None, Judged]]:
    """What became of the PDUs of a batch, in order."""
    return [(each.event_id, _judged(each, version)) for each in _decode_outcomes(answer)]


def _judged(outcome: _Outcome, version: RoomVersion) -> Judged:
    if outcome.wanted:
        return Judged(None, outcome.wanted)
    if outcome.event_id is None or not outcome.pdu:
        return Judged(Dropped(outcome.event_id, outcome.reason))
    event = event_from_storage(outcome.pdu, outcome.event_id, outcome.room_id, version)
    return Judged(Checked(event, outcome.stored or None))
