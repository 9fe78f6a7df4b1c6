"""Room versions as data: each is "the previous one, but…". No `if version >= 6` anywhere else.

spec: rooms/ ; every flag names the page of the version that introduced it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class EventFormat(Enum):
    """How a PDU names itself and others."""

    ID_FIELD = 1
    """v1-2: an `event_id` field; `prev_events` and `auth_events` are `[id, {"sha256": hash}]` pairs."""
    HASH_ID = 3
    """v3: the id is the reference hash in standard unpadded base64; plain id lists. spec: rooms/v3/#event-ids"""
    URL_SAFE_HASH_ID = 4
    """v4+: the same in URL-safe base64. spec: rooms/v4/#event-ids"""


class StateResolution(Enum):
    V1 = "v1"
    V2 = "v2"
    V2_1 = "v2.1"


class RedactionAlgorithm(Enum):
    """Named after the first version that uses it; the key tables are in `redaction.py`."""

    V1 = 1
    V6 = 6
    V8 = 8
    V9 = 9
    V11 = 11


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """Everything in which room versions differ, one flag each."""

    id: str
    event_format: EventFormat = EventFormat.ID_FIELD
    state_resolution: StateResolution = StateResolution.V1
    redaction: RedactionAlgorithm = RedactionAlgorithm.V1
    max_depth: int = 2**63 - 1
    """EVT-04: depth is clamped here."""

    strict_canonical_json: bool = False
    """v6+: floats and integers beyond ±(2^53-1) make an event invalid. spec: rooms/v6/#canonical-json"""
    enforce_key_validity: bool = False
    """v5+: the signing key must have been valid at `origin_server_ts`. spec: rooms/v5/#signing-key-validity-period"""
    aliases_auth_rule: bool = True
    """v1-5: `m.room.aliases` only for the sender's own domain. spec: rooms/v1/#authorization-rules rule 4"""
    redaction_auth_rule: bool = True
    """v1-2: the auth rules look at the redact level. spec: rooms/v3/#authorization-rules"""
    check_notification_levels: bool = False
    """v6+: changes of `notifications` are bounded by the sender's level. spec: rooms/v6/#authorization-rules"""
    string_power_levels: bool = True
    """v1-9: levels may be integer strings. spec: rooms/v10/#values-in-mroompower_levels-events-must-be-integers"""
    float_power_levels: bool = True
    """v1-5: levels may be floats, truncated (v6+ canonical JSON has none)."""
    knock: bool = False
    """v7+: `knock` membership and join rule. spec: rooms/v7/"""
    restricted_join: bool = False
    """v8+: `restricted` join rule. spec: rooms/v8/"""
    knock_restricted_join: bool = False
    """v10+: `knock_restricted` join rule. spec: rooms/v10/"""
    creator_in_content: bool = True
    """v1-10: `content.creator` is required; later the sender is the creator. spec: rooms/v11/#remove-the-creator-property"""
    redacts_in_content: bool = False
    """v11+: `redacts` moved into `content`. spec: rooms/v11/#moving-the-redacts-property-of-mroomredaction-events"""
    lengths_in_characters: bool = True
    """v1-10: other servers took an event's type and state key of up to 255 characters, whatever their bytes; such events are in
    rooms, and what follows them would not be understood without. spec: client-server-api/#size-limits (bytes)"""
    room_id_is_create_hash: bool = False
    """v12: the room id is the create event's id with `!`; the create event has no `room_id` and is never an auth event."""
    privileged_creators: bool = False
    """v12: creators (sender and `additional_creators`) have infinite power. spec: rooms/v12/"""

    url_safe_ids: bool = field(init=False)
    """v4+: event ids are URL-safe."""
    hash_ids: bool = field(init=False)
    """v3+: an event's id is its hash."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url_safe_ids", self.event_format is EventFormat.URL_SAFE_HASH_ID)
        object.__setattr__(self, "hash_ids", self.event_format is not EventFormat.ID_FIELD)


V1 = RoomVersion("1")
V2 = replace(V1, id="2", state_resolution=StateResolution.V2)
V3 = replace(V2, id="3", event_format=EventFormat.HASH_ID, redaction_auth_rule=False)
V4 = replace(V3, id="4", event_format=EventFormat.URL_SAFE_HASH_ID)
V5 = replace(V4, id="5", enforce_key_validity=True)
V6 = replace(
    V5,
    id="6",
    strict_canonical_json=True,
    float_power_levels=False,
    aliases_auth_rule=False,
    check_notification_levels=True,
    redaction=RedactionAlgorithm.V6,
    max_depth=2**53 - 1,
)
V7 = replace(V6, id="7", knock=True)
V8 = replace(V7, id="8", restricted_join=True, redaction=RedactionAlgorithm.V8)
V9 = replace(V8, id="9", redaction=RedactionAlgorithm.V9)
V10 = replace(V9, id="10", string_power_levels=False, knock_restricted_join=True)
V11 = replace(
    V10,
    id="11",
    creator_in_content=False,
    redacts_in_content=True,
    lengths_in_characters=False,
    redaction=RedactionAlgorithm.V11,
)
V12 = replace(
    V11,
    id="12",
    room_id_is_create_hash=True,
    privileged_creators=True,
    state_resolution=StateResolution.V2_1,
)

ROOM_VERSIONS: dict[str, RoomVersion] = {v.id: v for v in (V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12)}
DEFAULT_ROOM_VERSION = V12
"""spec: rooms/#complete-list-of-room-versions (v1.16 and later: 12)"""
