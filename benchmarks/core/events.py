"""What the core does to one event, in microseconds of CPU: `python -m benchmarks.core.events`.

Each number is the best of several rounds, so that what else the machine does matters little; see docs/performance.md.
"""

import time
import timeit
from collections.abc import Callable

from homeserver.events.builder import EventDraft, build_event
from homeserver.events.client_format import client_event_bytes, with_room_id, with_unsigned
from homeserver.events.event import Event
from homeserver.events.hashing import content_hash, reference_hash, signed_bytes
from homeserver.events.parse import event_from_storage, parse_event
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix import canonical_json, json
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey, verify_bytes

KEY = SigningKey(b"\x01" * 32, "a_1")
VERSION = ROOM_VERSIONS["12"]
ROOM = RoomId("!" + "A" * 43)
CONTENT = {
    "body": "A message of ordinary length, as people write them, mentioning someone.",
    "msgtype": "m.text",
    "m.mentions": {"user_ids": ["@bob:example.com"]},
}
DRAFT = EventDraft("m.room.message", None, UserId("@alice:example.com"), CONTENT)


def build() -> Event:
    return build_event(
        DRAFT,
        room_id=ROOM,
        room_version=VERSION,
        prev=[EventId("$" + "B" * 43)],
        auth=[EventId("$" + letter * 43) for letter in "CD"],
        depth=1234,
        origin_server_ts=1_700_000_000_000,
        server_name=ServerName("example.com"),
        signing_key=KEY,
    )


EVENT = build()
FIELDS = dict(EVENT.fields)
SIGNED = signed_bytes(FIELDS, VERSION)
SIGNATURE = KEY.signature_of(SIGNED)
CLIENT = client_event_bytes(EVENT)


def stored() -> Event:
    return event_from_storage(EVENT.pdu, EVENT.event_id, EVENT.room_id, VERSION)


CASES: dict[str, Callable[[], object]] = {
    "build_event": build,
    "  of which sign": lambda: KEY.signature_of(SIGNED),
    "parse_event, as received": lambda: parse_event(EVENT.pdu, VERSION),
    "  verify the signature": lambda: verify_bytes(SIGNED, SIGNATURE, KEY.key_id, KEY.public_key),
    "  check the content hash": lambda: content_hash(FIELDS),
    "event_from_storage": stored,
    "  and its header": lambda: stored().type,
    "  and its content": lambda: stored().content,
    "  and its client form": lambda: client_event_bytes(stored()),
    "client_event_bytes": lambda: client_event_bytes(EVENT),
    "with_room_id": lambda: with_room_id(CLIENT, ROOM),
    "with_unsigned": lambda: with_unsigned(CLIENT, b'{"age":5}'),
    "canonical_json.encode": lambda: canonical_json.encode(FIELDS),
    "canonical_json.encode_strict": lambda: canonical_json.encode_strict(FIELDS),
    "canonical_json.check_strict": lambda: canonical_json.check_strict(FIELDS),
    "json.loads": lambda: json.loads(EVENT.pdu),
    "reference_hash": lambda: reference_hash(FIELDS, VERSION),
    "redact_event": lambda: redact_event(stored()),
}


def measure(work: Callable[[], object], *, rounds: int = 7, seconds: float = 0.05) -> float:
    """The microseconds of CPU one call takes, in the best of some rounds."""
    timer = timeit.Timer(work, timer=time.process_time)
    calls = max(1, int(seconds / (timer.timeit(100) / 100)))
    return min(timer.repeat(rounds, calls)) / calls * 1e6


def main() -> None:
    print(f"one message event of {len(EVENT.pdu)} bytes, room version {VERSION.id}")
    for name, work in CASES.items():
        print(f"{name:32}{measure(work):9.2f} us")


if __name__ == "__main__":
    main()
