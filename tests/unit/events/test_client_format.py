"""Events as clients see them."""

import pytest

from homeserver.events.client_format import (
    MAX_STRIPPED,
    client_event_bytes,
    stripped,
    stripped_from_elsewhere,
    with_room_id,
    with_unsigned,
)
from homeserver.events.parse import event_from_storage
from homeserver.matrix import json
from homeserver.matrix.ids import EventId, RoomId
from tests.support import pdus
from tests.support.pdus import event

TARGET = EventId("$target:one.example")


def test_filt_06_filt_10_a_message_in_sync() -> None:
    """FILT-06, FILT-10: no federation fields, and no `room_id`."""
    message = event("12", content={"msgtype": "m.text", "body": "é"})
    expected = (
        '{"content":{"body":"é","msgtype":"m.text"},'
        f'"event_id":"{message.event_id}","origin_server_ts":{pdus.START_MS},'
        '"sender":"@alice:one.example","type":"m.room.message"}'
    )
    assert client_event_bytes(message).decode() == expected
    persisted = event_from_storage(message.pdu, message.event_id, message.room_id, message.room_version)
    assert client_event_bytes(persisted).decode() == expected


def test_filt_06_properties_nobody_knows_stay_inside() -> None:
    shown = json.loads(client_event_bytes(event("1", state_key="")))
    assert set(shown) == {"content", "event_id", "origin_server_ts", "sender", "state_key", "type"}
    assert shown["state_key"] == ""


def test_filt_10_elsewhere_the_room_is_named() -> None:
    shown = json.loads(with_room_id(client_event_bytes(event("12")), RoomId('!a"b:x')))
    assert shown["room_id"] == '!a"b:x'


def test_unsigned_is_added_last() -> None:
    shown = json.loads(with_unsigned(client_event_bytes(event("12")), b'{"age":5,"transaction_id":"t"}'))
    assert shown["unsigned"] == {"age": 5, "transaction_id": "t"}


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_red_05_clients_find_the_target_of_a_redaction_in_both_places(version_id: str) -> None:
    shown = json.loads(
        client_event_bytes(event(version_id, "m.room.redaction", {"reason": "x"}, redacts=TARGET))
    )
    assert shown["redacts"] == TARGET
    assert shown["content"] == {"reason": "x", "redacts": TARGET}


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_red_05_what_names_no_target_shows_none(version_id: str) -> None:
    assert "redacts" not in json.loads(
        client_event_bytes(event(version_id, "m.room.redaction", {"reason": "x"}))
    )
    message = json.loads(client_event_bytes(event(version_id, content={"redacts": "$x", "body": ""})))
    assert "redacts" not in message
    assert message["content"] == {"redacts": "$x", "body": ""}


def test_filt_08_stripped_state_has_four_properties() -> None:
    name = event("12", "m.room.name", {"name": "x"}, state_key="")
    assert (
        stripped(name)
        == b'{"content":{"name":"x"},"sender":"@alice:one.example","state_key":"","type":"m.room.name"}'
    )


def test_filt_09_state_of_invites_from_elsewhere_is_reduced_to_four_properties() -> None:
    """Whole events, as servers send them since v1.16, and stripped ones alike."""
    whole = {
        "auth_events": ["$a"],
        "content": {"name": "x"},
        "depth": 3,
        "event_id": "$x:two.example",
        "hashes": {"sha256": "x"},
        "origin_server_ts": 1,
        "prev_events": ["$p"],
        "room_id": "!r:two.example",
        "sender": "@bob:two.example",
        "signatures": {"two.example": {"ed25519:a": "x"}},
        "state_key": "",
        "type": "m.room.name",
        "unsigned": {"secret": 1},
    }
    short = {"content": {}, "sender": "@bob:two.example", "state_key": "", "type": "m.room.topic"}
    shown = [json.loads(entry) for entry in stripped_from_elsewhere([whole, short])]
    reduced = {key: whole[key] for key in ("content", "sender", "state_key", "type")}
    assert shown == [reduced, short]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "m.room.name",
        [],
        {},
        {"content": {}, "sender": "@b:x", "type": "m.room.message"},
        {"content": {}, "sender": "@b:x", "state_key": 1, "type": "m.room.name"},
        {"content": [], "sender": "@b:x", "state_key": "", "type": "m.room.name"},
        {"content": {}, "sender": "bob", "state_key": "", "type": "m.room.name"},
        {"content": {}, "sender": "@b:x", "state_key": "", "type": None},
    ],
)
def test_filt_09_what_is_no_state_is_left_out(entry: object) -> None:
    good = {"content": {}, "sender": "@b:x", "state_key": "", "type": "m.room.topic"}
    assert [json.loads(each) for each in stripped_from_elsewhere([entry, good])] == [good]


def test_filt_09_one_entry_for_a_key_and_no_end_of_them() -> None:
    many = [
        {"content": {"n": n}, "sender": "@b:x", "state_key": str(n), "type": "x"}
        for n in range(2 * MAX_STRIPPED)
    ]
    assert len(stripped_from_elsewhere(many)) == MAX_STRIPPED
    twice = [{**many[0], "content": {"n": n}} for n in (1, 2)]
    assert [json.loads(each)["content"] for each in stripped_from_elsewhere(twice)] == [{"n": 1}]
