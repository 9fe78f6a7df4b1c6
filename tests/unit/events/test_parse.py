"""What is an event of a room version, and what is dropped."""

import copy
import functools
from typing import Any

import jsonschema_rs
import pytest

from homeserver.events.parse import MAX_EVENT_BYTES, EventFormatError, parse_event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix import canonical_json, json
from tests.support import pdus
from tests.support.pdus import event, pdu_of
from tests.support.spec_files import ABSENT, inline, read, schema_only, spec_dir
from tests.support.vectors import vectors

each_version = pytest.mark.parametrize("version_id", pdus.VERSIONS)
OLD, NEW = ROOM_VERSIONS["5"], ROOM_VERSIONS["6"]


def _refused(pdu: Any, version: RoomVersion, **options: Any) -> EventFormatError:
    with pytest.raises(EventFormatError) as refusal:
        parse_event(pdu, version, **options)
    return refusal.value


# --- the schema: EVT-01 -------------------------------------------------------------------------------------------


@functools.cache
def _schema(version_id: str) -> jsonschema_rs.Draft202012Validator:
    folder = spec_dir()
    if folder is None:
        pytest.skip(ABSENT)
    since = max(number for number in (1, 3, 4, 6, 11, 12) if number <= int(version_id))
    path = folder / f"data/api/server-server/definitions/pdu_v{since}.yaml"
    return jsonschema_rs.Draft202012Validator(schema_only(inline(read(path), path)))


@each_version
def test_evt_01_what_the_schema_refuses_is_refused(version_id: str) -> None:
    """EVT-01: each top-level property taken away, or of another type."""
    version = ROOM_VERSIONS[version_id]
    good = pdu_of(event(version_id, state_key=""))
    assert _schema(version_id).is_valid(good)
    assert parse_event(good, version).pdu == event(version_id, state_key="").pdu
    refused = 0
    for name in [*good, "redacts"]:
        for value in (..., None, 5, 1.5, "x", True, [], [5], {}, {"x": 5}, {"x": {"y": 5}}, [["$x:y"]]):
            changed = pdu_of(event(version_id, state_key=""), **{name: value})
            if not _schema(version_id).is_valid(changed):
                refused += 1
                problem = _refused(changed, version)
                assert name in problem.path or name in problem.problem
    assert refused > 80


@each_version
def test_evt_01_the_examples_of_the_specification_are_events(version_id: str) -> None:
    folder = spec_dir()
    if folder is None:
        pytest.skip(ABSENT)
    since = max(number for number in (1, 3, 4, 11, 12) if number <= int(version_id))
    path = folder / f"data/api/server-server/examples/pdu_v{since}.json"
    document = inline(read(path), path, example=True)
    parts = document.pop("allOf", [])
    example = functools.reduce(lambda merged, part: {**merged, **part}, [*parts, document], {})
    parsed = parse_event(json.dumps(example), ROOM_VERSIONS[version_id])
    assert parsed.type == example["type"]


@pytest.mark.parametrize("pdu", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(pdu: bytes) -> None:
    _refused(pdu, NEW)


def test_evt_01_a_version_12_create_event_makes_its_room() -> None:
    create = event("12", "m.room.create", {"room_version": "12"}, state_key="")
    assert "room_id" not in create.fields
    assert create.room_id == "!" + create.event_id[1:]
    version = ROOM_VERSIONS["12"]
    for change in ({"room_id": create.room_id}, {"state_key": "x"}, {"state_key": ...}):
        assert next(iter(change)) in str(_refused(pdu_of(create, **change), version))
    _refused(pdu_of(event("12"), room_id=...), version)


def test_an_event_is_what_it_says_and_not_what_surrounds_it() -> None:
    pdu = pdu_of(event("12"), unsigned={"age": 5, "prev_content": {}})
    before = copy.deepcopy(pdu)
    assert parse_event(pdu, ROOM_VERSIONS["12"]).pdu == event("12").pdu
    assert pdu == before


def test_properties_nobody_knows_are_kept() -> None:
    parsed = parse_event(pdu_of(event("12"), **{"org.example.x": 1}), ROOM_VERSIONS["12"])
    assert parsed.fields["org.example.x"] == 1
    assert b"org.example.x" in parsed.pdu


# --- identifiers --------------------------------------------------------------------------------------------------


def test_evt_24_historical_user_ids_send_events() -> None:
    for localpart in vectors("identifiers")["user_id_localpart"]["must_accept_over_federation"]:
        sender = f"@{localpart}:domain"
        assert parse_event(pdu_of(event("12"), sender=sender), NEW).sender == sender


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"sender": "alice"}, "sender"),
        ({"sender": "@alice"}, "sender"),
        ({"sender": "@a\0:x"}, "sender"),
        ({"sender": "@" + "a" * 255 + ":x"}, "sender"),
        ({"room_id": "room:x"}, "room_id"),
        ({"room_id": "!:x"}, "room_id"),
        ({"type": "t" * 256}, "type"),
        ({"state_key": "é" * 256}, "state_key"),
        ({"prev_events": ["$a", "b"]}, "prev_events[1]"),
        ({"auth_events": ["$" + "a" * 255]}, "auth_events[0]"),
    ],
)
def test_cry_03_api_23_identifiers_are_checked(change: dict[str, Any], path: str) -> None:
    assert _refused(pdu_of(event("6"), **change), NEW).path == path


@pytest.mark.parametrize("event_id", ["$x", "x:domain", "$:domain", "$x:", "$" + "x" * 250 + ":domain"])
def test_evt_01_in_versions_1_and_2_the_id_names_a_server(event_id: str) -> None:
    assert _refused(pdu_of(event("1"), event_id=event_id), ROOM_VERSIONS["1"]).path == "event_id"


@each_version
@pytest.mark.parametrize("name", ["type", "state_key"])
def test_api_23_until_version_10_an_event_may_have_255_characters(version_id: str, name: str) -> None:
    """As other servers took them; where they are in a room, what follows is not lost."""
    pdu = pdu_of(event(version_id), **{name: "💥" * 70})
    if int(version_id) <= 10:
        parse_event(pdu, ROOM_VERSIONS[version_id])
    else:
        assert _refused(pdu, ROOM_VERSIONS[version_id]).path == name


def test_api_23_exactly_255_bytes_are_allowed() -> None:
    parse_event(pdu_of(event("12"), type="t" * 255, state_key="é" * 127), ROOM_VERSIONS["12"])


# --- bounds -------------------------------------------------------------------------------------------------------


@each_version
def test_api_23_an_event_has_at_most_65536_bytes(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    empty = len(event(version_id, content={"body": ""}).pdu)
    largest = pdu_of(event(version_id), content={"body": "x" * (MAX_EVENT_BYTES - empty)})
    assert len(parse_event({**largest, "unsigned": {"x": "x" * 1000}}, version).pdu) == MAX_EVENT_BYTES
    largest["content"]["body"] += "x"
    assert "65536" in str(_refused(largest, version))


@each_version
def test_evt_03_references_are_bounded_but_not_in_backfill(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    for name, limit in (("auth_events", 10), ("prev_events", 20)):
        one = event(version_id).fields["prev_events"][0]
        parse_event(pdu_of(event(version_id), **{name: [one] * limit}), version)
        too_many = pdu_of(event(version_id), **{name: [one] * (limit + 1)})
        assert _refused(too_many, version).path == name
        parse_event(too_many, version, bounded=False)


@each_version
def test_evt_04_depth_lies_between_zero_and_the_limit_of_the_version(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    for depth in (0, version.max_depth):
        assert parse_event(pdu_of(event(version_id), depth=depth), version).depth == depth
    for depth in (-1, version.max_depth + 1, 10**30):
        assert _refused(pdu_of(event(version_id), depth=depth), version).path == "depth"


@each_version
def test_deep_nesting_is_refused_in_any_version(version_id: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return {"msgtype": "m.text", "body": "", "x": value}

    version = ROOM_VERSIONS[version_id]
    parse_event(pdu_of(event(version_id), content=nested(canonical_json.MAX_DEPTH - 3)), version)
    for levels in (canonical_json.MAX_DEPTH, 5_000):
        assert "nested" in str(_refused(pdu_of(event(version_id), content=nested(levels)), version)).lower()


# --- canonical JSON: EVT-05 ---------------------------------------------------------------------------------------

ODD_NUMBERS = [1.5, 1e10, 2**53, -(2**53), 10**30]


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_evt_05_from_version_6_on_only_canonical_json_is_an_event(number: float) -> None:
    for content in ({"x": number}, {"x": [{"y": number}]}):
        for version_id in pdus.VERSIONS[5:]:
            problem = _refused(pdu_of(event("6"), content=content), ROOM_VERSIONS[version_id])
            assert problem.path.startswith("content.x")
        assert parse_event(pdu_of(event("5"), content=content), OLD).content == content


def test_evt_05_lone_surrogates_are_no_text_in_any_version() -> None:
    text = event("5").pdu.replace(b"hello", rb"\ud800")
    for version in (OLD, NEW):
        _refused(text, version)
        _refused(pdu_of(event("5"), content={"x": "\ud800"}), version)
        _refused(pdu_of(event("5"), content={"\ud800": "x"}), version)
        _refused(pdu_of(event("5"), signatures={"\ud800": {}}), version)


def test_evt_05_what_old_rooms_hold_keeps_its_spelling() -> None:
    """EVT-05: the hash is over what other servers computed, so numbers are neither rounded nor rewritten."""
    text = event("5").pdu.replace(b'"hello"', b"[1e3,123456789012345678901234567890,0.10]")
    parsed = parse_event(text, OLD)
    assert b'"body":[1000.0,123456789012345678901234567890,0.1]' in parsed.pdu
    assert parse_event(parsed.pdu, OLD).event_id == parsed.event_id
