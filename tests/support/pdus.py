"""Events of every room version: one by one for tests of the format, and by the thousand for properties."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from homeserver.events.builder import EventDraft, build_event
from homeserver.events.event import Event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey

KEY = SigningKey(b"\x05" * 32, "a_1")
SERVER = ServerName("one.example")
ALICE = UserId("@alice:one.example")
START_MS = 1_700_000_000_000
VERSIONS = tuple(ROOM_VERSIONS)
HASH = "A" * 43


def reference(version: RoomVersion, name: str = "A") -> Any:
    """Something that names an event in that version."""
    if version.hash_ids:
        return EventId("$" + name * 43)
    return EventId(f"${name}:one.example"), HASH


def event(
    version_id: str,
    event_type: str = "m.room.message",
    content: Mapping[str, Any] | None = None,
    *,
    state_key: str | None = None,
    **more: Any,
) -> Event:
    """A built and signed event; `more` are arguments of `build_event`, or `sender` and `redacts` of the draft."""
    version = ROOM_VERSIONS[version_id]
    content = {"msgtype": "m.text", "body": "hello"} if content is None else content
    draft = EventDraft(event_type, state_key, more.pop("sender", ALICE), content, more.pop("redacts", None))
    makes_room = version.room_id_is_create_hash and event_type == "m.room.create"
    arguments: dict[str, Any] = {
        "room_id": None if makes_room else RoomId("!room:one.example"),
        "prev": [] if event_type == "m.room.create" else [reference(version)],
        "auth": [] if event_type == "m.room.create" else [reference(version, "B")],
        "depth": 7,
        "origin_server_ts": START_MS,
        "server_name": SERVER,
        "signing_key": KEY,
        **more,
    }
    return build_event(draft, room_version=version, **arguments)


def pdu_of(built: Event, **changes: Any) -> dict[str, Any]:
    """The fields of an event, changed; a value of `...` takes the field away."""
    fields = {**built.fields, **changes}
    return {name: value for name, value in fields.items() if value is not ...}


# --- by the thousand ----------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
strict_numbers = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
loose_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def json_values(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any decoded JSON, with these numbers."""
    scalars = st.none() | st.booleans() | numbers | text
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    )


# Every key that some version's redaction keeps, so that the tables are exercised and not only missed.
_POWER_LEVELS = [
    "ban",
    "kick",
    "redact",
    "invite",
    "events",
    "events_default",
    "state_default",
    "users",
    "users_default",
]
_CONTENT_KEYS = [
    *_POWER_LEVELS,
    *["membership", "join_authorised_via_users_server", "creator", "room_version", "join_rule", "allow"],
    *["history_visibility", "aliases", "redacts", "body"],
]
_KINDS = [
    "member",
    "create",
    "join_rules",
    "power_levels",
    "history_visibility",
    "aliases",
    "redaction",
    "message",
]
_TYPES = [*(f"m.room.{kind}" for kind in _KINDS), "org.example.custom"]
_TOP_LEVEL_KEYS = ["origin", "prev_state", "membership", "redacts", "extra"]
_TEXTS = [
    "",
    "a",
    "A",
    "é",
    "\0",
    "\x1f\n\t",
    "\x7f",
    '"\\/',
    "\u2028",
    "\uffff",
    "\U0001f600",
    "日本",
    " b ",
    "1.5",
    "e\u0301",
]
_NUMBERS = [0, 1, -1, 50, 100, 2**31, 2**53 - 1, 1 - 2**53]
_LOOSE_NUMBERS = [
    *_NUMBERS,
    2**53,
    2**63,
    -(2**64),
    10**30,
    0.5,
    -0.0,
    1e10,
    1e22,
    1e-7,
    5.114698e4,
    1.7976931348623157e308,
]


class Pdus:
    """Federation forms as some server might send them; hashes and signatures are placeholders. Repeatable by seed."""

    def __init__(self, version: RoomVersion, seed: int, *, strict: bool = True) -> None:
        """`strict` false: also numbers that the version may not allow."""
        self.version = version
        self._random = random.Random(seed)
        self._numbers = _NUMBERS if strict and version.strict_canonical_json else _LOOSE_NUMBERS

    def take(self, count: int) -> Iterator[dict[str, Any]]:
        return (self.pdu() for _ in range(count))

    def pdu(self) -> dict[str, Any]:
        version, pick = self.version, self._random.choice
        pdu = {
            **self._object(_TOP_LEVEL_KEYS, 2),
            "type": pick(_TYPES),
            "sender": f"@{self.text().replace(chr(0), '')}:one.example",
            "content": self._content(),
            "depth": pick([0, 1, 12, 2**53 - 1]),
            "origin_server_ts": pick([0, START_MS, 2**53 - 1]),
            "prev_events": self._references(),
            "auth_events": self._references(),
            "hashes": {"sha256": HASH},
            "signatures": {"one.example": {"ed25519:a_1": "A" * 86}},
        }
        if self._maybe():
            pdu["state_key"] = self.text()
        if self._maybe():
            pdu["unsigned"] = self._object(["age", "age_ts", "redacted_because", "x"], 3)
        if version.room_id_is_create_hash and pdu["type"] == "m.room.create":
            pdu["state_key"] = ""
        else:
            pdu["room_id"] = "!room:one.example"
        if not version.hash_ids:
            pdu["event_id"] = "$event:one.example"
        if not isinstance(pdu.get("redacts", ""), str) and not version.redacts_in_content:
            pdu["redacts"] = "$target:one.example"
        return pdu

    def text(self) -> str:
        return "".join(self._random.choices(_TEXTS, k=self._random.randrange(4)))

    def value(self, depth: int = 0) -> Any:
        """Any decoded JSON that the version allows."""
        kind = self._random.randrange(7 if depth < 3 else 4)
        if kind == 0:
            return self._random.choice([None, True, False])
        if kind in {1, 2}:
            return self._random.choice(self._numbers)
        if kind == 3:
            return self.text()
        values = [self.value(depth + 1) for _ in range(self._random.randrange(4))]
        return values if kind == 4 else {self.text(): value for value in values}

    def _content(self) -> dict[str, Any]:
        content = {**self._object(_CONTENT_KEYS, 4), **self._object(_TEXTS, 2)}
        if self._maybe():
            content["third_party_invite"] = (
                self._object(["signed", "display_name"], 2) if self._maybe() else self.value()
            )
        return content

    def _object(self, keys: Sequence[str], most: int) -> dict[str, Any]:
        return {self._random.choice(keys): self.value(1) for _ in range(self._random.randrange(most + 1))}

    def _references(self) -> list[Any]:
        names = self._random.sample("ABCDEFGHIJ", self._random.randrange(5))
        given = [reference(self.version, name) for name in names]
        return (
            given if self.version.hash_ids else [[event_id, {"sha256": sha256}] for event_id, sha256 in given]
        )

    def _maybe(self) -> bool:
        return self._random.random() < 0.5
