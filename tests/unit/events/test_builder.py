"""This server's own events."""

from typing import Any

import pytest

from homeserver.events.builder import EventDraft, build_event, next_depth, reference_to
from homeserver.events.event import Event
from homeserver.events.hashing import content_hash, reference_hash, signed_bytes
from homeserver.events.parse import MAX_EVENT_BYTES, parse_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix import base64, canonical_json, signing
from homeserver.matrix.errors import BadJson, TooLarge
from homeserver.matrix.ids import EventId, ServerName
from tests.support import pdus
from tests.support.pdus import KEY, SERVER, event
from tests.support.vectors import signing_key, vectors

each_version = pytest.mark.parametrize("version_id", pdus.VERSIONS)


def test_evt_02_cry_01_the_vectors_of_the_specification() -> None:
    """EVT-02, CRY-01: the same draft gives the same hash, signature and id, byte for byte."""
    for case in [
        *vectors("event_ids")["cases"],
        {"event": vectors("room_v12_ids")["create_event"], "room_version": "12"},
    ]:
        expected = parse_event(case["event"], ROOM_VERSIONS[case["room_version"]])
        built = build_event(
            EventDraft(expected.type, expected.state_key, expected.sender, expected.content),
            room_id=None if "room_id" not in expected.fields else expected.room_id,
            room_version=expected.room_version,
            prev=expected.prev_event_ids,
            auth=expected.auth_event_ids,
            depth=expected.depth,
            origin_server_ts=expected.origin_server_ts,
            server_name=ServerName("domain"),
            signing_key=signing_key(),
        )
        assert (built.pdu, built.event_id, built.room_id) == (
            expected.pdu,
            expected.event_id,
            expected.room_id,
        )


@each_version
def test_a_built_event_stands_every_check(version_id: str) -> None:
    built = event(version_id, "m.room.member", {"membership": "join"}, state_key=pdus.ALICE)
    read = parse_event(built.pdu, built.room_version)
    assert all(getattr(built, name) == getattr(read, name) for name in Event.__slots__)
    assert read.fields["hashes"] == {"sha256": content_hash(read.fields)}
    signature = signing.signature_in(read.fields, SERVER, KEY.key_id)
    signing.verify_bytes(signed_bytes(read.fields, read.room_version), signature, KEY.key_id, KEY.public_key)
    assert canonical_json.encode(read.fields) == built.pdu


@each_version
def test_evt_01_references_are_written_as_the_version_wants_them(version_id: str) -> None:
    first = event(version_id)
    second = event(version_id, prev=[reference_to(first)], auth=[reference_to(first)])
    assert second.prev_event_ids == second.auth_event_ids == (first.event_id,)
    if not first.room_version.hash_ids:
        sha256 = base64.encode(reference_hash(first.fields, first.room_version))
        assert second.fields["prev_events"] == [[first.event_id, {"sha256": sha256}]]


def test_in_versions_1_and_2_an_id_alone_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="reference_to"):
        event("1", prev=[EventId("$a:b")])


def test_evt_01_ids_of_versions_1_and_2_name_this_server_and_differ() -> None:
    one, other = event("1"), event("1", depth=8)
    assert one.event_id.endswith(f":{SERVER}")
    assert one.event_id != other.event_id


@pytest.mark.parametrize("version_id", ["5", "6", "12"])
def test_evt_04_depth_is_one_more_than_the_deepest_parent_up_to_the_limit(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    assert next_depth([], version) == 1
    assert next_depth([3, 7, 5], version) == 8
    assert next_depth([version.max_depth], version) == version.max_depth


@each_version
def test_api_23_an_event_has_at_most_65536_bytes_with_its_signature(version_id: str) -> None:
    empty = len(event(version_id, content={"body": ""}).pdu)
    assert len(event(version_id, content={"body": "x" * (MAX_EVENT_BYTES - empty)}).pdu) == MAX_EVENT_BYTES
    with pytest.raises(TooLarge):
        event(version_id, content={"body": "x" * (MAX_EVENT_BYTES - empty + 1)})


def test_api_23_type_and_state_key_have_at_most_255_bytes() -> None:
    event("12", "t" * 255, state_key="é" * 127)
    with pytest.raises(TooLarge, match="type"):
        event("12", "t" * 256)
    with pytest.raises(TooLarge, match="state_key"):
        event("12", state_key="é" * 128)


@pytest.mark.parametrize("value", [1.5, 2**53, "\ud800"])
def test_api_22_what_canonical_json_cannot_say_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(BadJson, match=r"content\.a\.b\[1\]"):
        event("6", content={"a": {"b": [0, value]}})


def test_api_22_in_old_rooms_floats_are_allowed_but_text_is_text() -> None:
    assert event("5", content={"a": 1.5, "b": 2**70}).content_json == b'{"a":1.5,"b":1180591620717411303424}'
    for value in ("\ud800", float("nan")):
        with pytest.raises(BadJson, match="content"):
            event("5", content={"a": value})


@pytest.mark.parametrize("version_id", ["5", "12"])
def test_deep_content_is_refused_so_that_what_we_send_can_be_read(version_id: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    built = event(version_id, content=nested(canonical_json.MAX_DEPTH - 1))
    assert parse_event(built.pdu, built.room_version) == built
    for levels in (canonical_json.MAX_DEPTH, 100_000):
        with pytest.raises(BadJson, match="nested"):
            event(version_id, content=nested(levels))


@each_version
def test_red_06_the_target_of_a_redaction_goes_where_the_version_has_it(version_id: str) -> None:
    """RED-06: whether the draft names it, or the client wrote it into the content as in version 11."""
    target = EventId("$target:one.example")
    named = event(version_id, "m.room.redaction", {"reason": "spam"}, redacts=target)
    written = event(version_id, "m.room.redaction", {"reason": "spam", "redacts": target})
    assert named.pdu == written.pdu
    assert named.redacts == target
    assert ("redacts" in named.fields) != named.room_version.redacts_in_content
    assert parse_event(named.pdu, named.room_version).redacts == target


def test_redacts_means_something_in_redactions_alone() -> None:
    built = event("10", content={"redacts": "$x"}, redacts=EventId("$y"))
    assert built.content == {"redacts": "$x"}
    assert "redacts" not in built.fields
    assert event("10", "m.room.redaction", {"redacts": 5}).content == {"redacts": 5}
