"""Room versions against the table that comes with the specification."""

from collections.abc import Callable
from typing import Any

import pytest

from homeserver.events.room_version import (
    DEFAULT_ROOM_VERSION,
    ROOM_VERSIONS,
    EventFormat,
    RoomVersion,
    StateResolution,
)
from tests.support.vectors import vectors

_LISTS: dict[str, Callable[[RoomVersion], bool]] = {
    "strict_canonical_json": lambda v: v.strict_canonical_json,
    "signing_key_validity_enforced": lambda v: v.enforce_key_validity,
    "aliases_special_auth_rule": lambda v: v.aliases_auth_rule,
    "redaction_auth_rule": lambda v: v.redaction_auth_rule,
    "notifications_levels_checked": lambda v: v.check_notification_levels,
    "string_power_levels_accepted": lambda v: v.string_power_levels,
    "float_power_levels_accepted": lambda v: v.float_power_levels,
    "creator_field_required": lambda v: v.creator_in_content,
    "knock_join_rule": lambda v: v.knock,
    "restricted_join_rule": lambda v: v.restricted_join,
    "knock_restricted_join_rule": lambda v: v.knock_restricted_join,
    "additional_creators_infinite_power": lambda v: v.privileged_creators,
}

_RANGES: dict[str, Callable[[RoomVersion], Any]] = {
    "event_id_format": lambda v: {
        EventFormat.ID_FIELD: "$opaque:domain field in the event",
        EventFormat.HASH_ID: "$ + unpadded base64(reference hash)",
        EventFormat.URL_SAFE_HASH_ID: "$ + url-safe unpadded base64(reference hash)",
    }[v.event_format],
    "room_id_format": lambda v: (
        "create event's ID with ! for $" if v.room_id_is_create_hash else "!opaque:domain"
    ),
    "auth_prev_events_format": lambda v: (
        "[event_id, ...]" if v.hash_ids else "[[event_id, {sha256: hash}], ...]"
    ),
    "state_resolution": lambda v: {
        StateResolution.V1: "v1",
        StateResolution.V2: "v2",
        StateResolution.V2_1: "v2.1",
    }[v.state_resolution],
    "redacts_location": lambda v: "content" if v.redacts_in_content else "top level",
    "depth_limit": lambda v: v.max_depth,
    "create_in_auth_events": lambda v: "forbidden" if v.room_id_is_create_hash else "required",
    "create_has_room_id": lambda v: not v.room_id_is_create_hash,
}


def test_all_stable_versions_are_here_and_12_is_the_default() -> None:
    """ROOM-09: version 12 for new rooms."""
    features = vectors("room_versions")["features"]
    assert list(ROOM_VERSIONS) == features["stable"]
    assert DEFAULT_ROOM_VERSION.id == features["default_for_new_rooms"]


@pytest.mark.parametrize("name", _LISTS)
def test_the_versions_that_have_a_feature(name: str) -> None:
    found = [version.id for version in ROOM_VERSIONS.values() if _LISTS[name](version)]
    assert found == vectors("room_versions")["features"][name]


@pytest.mark.parametrize("name", _RANGES)
def test_what_each_version_does(name: str) -> None:
    """EVT-01, EVT-02, EVT-04: formats, ids and the limit of depth."""
    for versions, expected in vectors("room_versions")["features"][name].items():
        first, _, last = versions.partition("-")
        for number in range(int(first), int(last or first) + 1):
            assert _RANGES[name](ROOM_VERSIONS[str(number)]) == expected, (number, name)


def test_each_flag_of_the_table_is_tested() -> None:
    special = {
        "stable",
        "default_for_new_rooms",
        "redaction_algorithm",
        "depth_note",
    }  # redaction: test_redaction.py
    assert set(vectors("room_versions")["features"]) == special | set(_LISTS) | set(_RANGES)
