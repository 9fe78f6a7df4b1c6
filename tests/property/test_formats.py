"""What holds for every event of every room version, whatever is in it."""

import copy
from collections.abc import Callable
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.events.builder import EventDraft, build_event
from homeserver.events.client_format import client_event_bytes, stripped, with_room_id, with_unsigned
from homeserver.events.event import Event
from homeserver.events.hashing import content_hash, event_id_of, reference_hash, signed_bytes
from homeserver.events.parse import event_from_storage, parse_event
from homeserver.events.redaction import redact, redact_event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix import canonical_json, json, signing
from homeserver.matrix.ids import RoomId
from homeserver.matrix.property_path import join_path, split_path
from tests.support import pdus
from tests.support.pdus import Pdus

EVENTS = 200
_versions = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)


def each_pdu(test: Callable[[RoomVersion, dict[str, Any]], None]) -> Any:
    """Run a test of one PDU on many of every room version; a failure shows the PDU."""

    @_versions
    def many(version: RoomVersion) -> None:
        for pdu in Pdus(version, seed=1).take(EVENTS):
            test(version, pdu)

    many.__name__ = test.__name__
    return many


@given(pdus.json_values(pdus.loose_numbers))
def test_cry_01_canonical_json_equals_canonicaljson(value: Any) -> None:
    encoded = canonical_json.encode(value)
    assert encoded == canonicaljson.encode_canonical_json(value)
    assert canonical_json.encode(json.loads(encoded)) == encoded


@given(pdus.json_values(pdus.strict_numbers))
def test_what_passes_the_strict_check_takes_the_fast_encoder_unchanged(value: Any) -> None:
    canonical_json.check_strict(value)
    assert canonical_json.encode_strict(value) == canonicaljson.encode_canonical_json(value)


@given(
    st.dictionaries(pdus.text, pdus.json_values(pdus.loose_numbers)), st.dictionaries(pdus.text, pdus.text)
)
def test_spliced_members_are_members(base: dict[str, Any], more: dict[str, str]) -> None:
    more = {key: value for key, value in more.items() if key not in base}
    spliced = json.object_with(json.dumps(base), json.dumps(more)[1:-1])
    assert json.loads(spliced) == {**base, **more}


@given(st.lists(pdus.text, min_size=1))
def test_a_joined_path_splits_into_its_keys(keys: list[str]) -> None:
    assert split_path(join_path(keys)) == keys


@each_pdu
def test_red_01_redaction_is_idempotent_and_keeps_the_id(version: RoomVersion, pdu: dict[str, Any]) -> None:
    before = copy.deepcopy(pdu)
    once = redact(pdu, version)
    assert pdu == before
    assert redact(once, version) == once
    assert "unsigned" not in once
    assert reference_hash(once, version) == reference_hash(pdu, version)

    event = parse_event(pdu, version)
    redacted = redact_event(event)
    assert (redacted.event_id, redacted.room_id, redacted.key) == (event.event_id, event.room_id, event.key)
    assert redact_event(redacted).pdu == redacted.pdu
    assert (redacted.prev_event_ids, redacted.auth_event_ids) == (event.prev_event_ids, event.auth_event_ids)


@each_pdu
def test_an_event_rebuilt_from_storage_is_the_same(version: RoomVersion, pdu: dict[str, Any]) -> None:
    event = parse_event(pdu, version)
    again = event_from_storage(event.pdu, event.event_id, event.room_id, version)
    for name in Event.__slots__:
        assert getattr(again, name) == getattr(event, name), name
    assert parse_event(event.pdu, version).pdu == event.pdu
    assert event_id_of(again.fields, version) == event.event_id
    assert content_hash(again.fields) == content_hash(event.fields)
    assert (again.membership, again.redacts, again.is_state) == (
        event.membership,
        event.redacts,
        event.is_state,
    )


@each_pdu
def test_the_bytes_an_event_came_in_do_not_matter(version: RoomVersion, pdu: dict[str, Any]) -> None:
    shuffled = dict(reversed(pdu.items()))
    assert parse_event(json.dumps(shuffled), version).pdu == parse_event(pdu, version).pdu


@each_pdu
def test_a_built_event_is_what_another_server_would_read(version: RoomVersion, pdu: dict[str, Any]) -> None:
    draft = EventDraft(pdu["type"], pdu.get("state_key"), pdu["sender"], pdu["content"])
    makes_room = version.room_id_is_create_hash and pdu["type"] == "m.room.create"
    built = build_event(
        draft,
        room_id=None if makes_room else RoomId("!room:one.example"),
        room_version=version,
        prev=[pdus.reference(version, "A"), pdus.reference(version, "B")],
        auth=[pdus.reference(version, "C")],
        depth=pdu["depth"],
        origin_server_ts=pdu["origin_server_ts"],
        server_name=pdus.SERVER,
        signing_key=pdus.KEY,
    )
    read = parse_event(built.pdu, version)
    for name in Event.__slots__:
        assert getattr(built, name) == getattr(read, name), name
    assert read.fields["hashes"]["sha256"] == content_hash(read.fields)
    signature = signing.signature_in(read.fields, pdus.SERVER, pdus.KEY.key_id)
    signing.verify_bytes(signed_bytes(read.fields, version), signature, pdus.KEY.key_id, pdus.KEY.public_key)


@each_pdu
def test_filt_06_the_client_form_shows_what_clients_may_see(
    version: RoomVersion, pdu: dict[str, Any]
) -> None:
    event = parse_event(pdu, version)
    shown = json.loads(client_event_bytes(event))
    assert shown.keys() <= {
        "content",
        "event_id",
        "origin_server_ts",
        "sender",
        "state_key",
        "type",
        "redacts",
    }
    content = dict(event.content)
    if event.redacts is not None:
        content["redacts"] = event.redacts
    assert shown["content"] == content
    assert shown.get("state_key") == event.state_key
    full = json.loads(with_unsigned(with_room_id(client_event_bytes(event), event.room_id), b'{"age":1}'))
    assert full == {**shown, "room_id": event.room_id, "unsigned": {"age": 1}}
    if event.is_state:
        assert json.loads(stripped(event)) == {
            "content": event.content,
            "sender": event.sender,
            "state_key": event.state_key,
            "type": event.type,
        }
