"""Redaction: what is left of an event when its text has to go. Five algorithms, one table each.

The same stripped form is what is hashed into the event id and what is signed, so that both outlive a redaction.

spec: rooms/v1/#redactions and the "Redactions" of versions 6, 8, 9 and 11 (CHECKLIST RED-01)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from homeserver.events.event import Event
from homeserver.events.room_version import RedactionAlgorithm, RoomVersion
from homeserver.matrix import canonical_json

_ALL: Final = None
"""Every key of the content is kept."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one algorithm keeps."""

    top_level: frozenset[str]
    content: Mapping[str, frozenset[str] | None]
    """By event type; nothing for the types not named."""
    signed_of_third_party_invite: bool = False

    def but(self, **content: frozenset[str] | None) -> _Rules:
        """These rules with other content keys for some types (`m.room.` is understood)."""
        return replace(self, content={**self.content, **{f"m.room.{k}": v for k, v in content.items()}})


def _keys(names: str) -> frozenset[str]:
    return frozenset(names.split())


_POWER_LEVELS: Final = _keys("ban events events_default kick redact state_default users users_default")
_TOP_LEVEL: Final = _keys(
    "event_id type room_id sender state_key content hashes signatures depth prev_events auth_events origin_server_ts"
)

# spec: rooms/v1/#redactions
_V1: Final = _Rules(top_level=_TOP_LEVEL | _keys("prev_state origin membership"), content={}).but(
    member=_keys("membership"),
    create=_keys("creator"),
    join_rules=_keys("join_rule"),
    power_levels=_POWER_LEVELS,
    history_visibility=_keys("history_visibility"),
    aliases=_keys("aliases"),
)
# spec: rooms/v6/#redactions: m.room.aliases is nothing special any more
_V6: Final = _V1.but(aliases=frozenset())
# spec: rooms/v8/#redactions: m.room.join_rules keeps `allow`
_V8: Final = _V6.but(join_rules=_keys("join_rule allow"))
# spec: rooms/v9/#redactions: m.room.member keeps `join_authorised_via_users_server`
_V9: Final = _V8.but(member=_keys("membership join_authorised_via_users_server"))
# spec: rooms/v11/#redactions
_V11: Final = replace(
    _V9.but(create=_ALL, power_levels=_POWER_LEVELS | _keys("invite"), redaction=_keys("redacts")),
    top_level=_TOP_LEVEL,
    signed_of_third_party_invite=True,
)

_RULES: Final[Mapping[RedactionAlgorithm, _Rules]] = {
    RedactionAlgorithm.V1: _V1,
    RedactionAlgorithm.V6: _V6,
    RedactionAlgorithm.V8: _V8,
    RedactionAlgorithm.V9: _V9,
    RedactionAlgorithm.V11: _V11,
}


def redact(fields: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
    """The stripped copy of an event in federation form. `unsigned` goes; hashes and signatures stay and stay valid."""
    rules = _RULES[version.redaction]
    kept = {key: value for key, value in fields.items() if key in rules.top_level}
    kept["content"] = _redact_content(fields["type"], fields["content"], rules)
    return kept


def redact_event(event: Event) -> Event:
    """The event as it is after a redaction: the same id, room and place in the graph. Of a redacted event: equal."""
    fields = redact(event.fields, event.room_version)
    return Event(
        pdu=canonical_json.encode(fields),
        fields=fields,
        event_id=event.event_id,
        room_id=event.room_id,
        room_version=event.room_version,
    )


def _redact_content(event_type: str, content: Mapping[str, Any], rules: _Rules) -> dict[str, Any]:
    keys = rules.content.get(event_type, frozenset())
    if keys is _ALL:
        return dict(content)
    if not keys:
        return {}
    kept = {key: value for key, value in content.items() if key in keys}
    # spec: rooms/v11/#redactions: of `third_party_invite`, m.room.member keeps `signed` alone
    if rules.signed_of_third_party_invite and event_type == "m.room.member":
        invite = content.get("third_party_invite")
        if isinstance(invite, Mapping):
            kept["third_party_invite"] = {key: invite[key] for key in ("signed",) if key in invite}
    return kept
