"""Hashes, ids and signatures of events, from the vectors of the specification."""

import pytest

from homeserver.events.hashing import (
    content_hash,
    event_id_of,
    reference_hash,
    room_id_of_create,
    signed_bytes,
)
from homeserver.events.parse import parse_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix import base64, signing
from tests.support import pdus
from tests.support.vectors import signing_key, vectors


def test_cry_01_signed_events_of_the_specification() -> None:
    key = signing_key()
    for case in vectors("event_signing")["cases"]:
        expected = case["signed"]
        assert content_hash(case["input"]) == expected["hashes"]["sha256"]
        for number in case["holds_for_room_versions"]:
            signed = signed_bytes({**case["input"], "hashes": expected["hashes"]}, ROOM_VERSIONS[str(number)])
            assert key.signature_of(signed) == expected["signatures"]["domain"]["ed25519:1"]


def test_evt_02_event_ids() -> None:
    for case in vectors("event_ids")["cases"]:
        version = ROOM_VERSIONS[case["room_version"]]
        fields = case["event"]
        assert event_id_of(fields, version) == case["event_id"]
        assert content_hash(fields) == fields["hashes"]["sha256"]
        signature = signing.signature_in(fields, "domain", "ed25519:1")
        signing.verify_bytes(signed_bytes(fields, version), signature, "ed25519:1", signing_key().public_key)


def test_evt_10_the_room_id_of_version_12() -> None:
    given = vectors("room_v12_ids")
    event = parse_event(given["create_event"], ROOM_VERSIONS["12"])
    assert (event.event_id, event.room_id) == (given["event_id"], given["room_id"])
    assert room_id_of_create(event.event_id) == given["room_id"]


def test_evt_01_in_versions_1_and_2_the_id_is_what_the_event_says() -> None:
    for version_id in ("1", "2"):
        event = pdus.event(version_id)
        assert event_id_of(event.fields, event.room_version) == event.fields["event_id"]


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_what_is_unsigned_and_who_signed_does_not_change_the_hashes(version_id: str) -> None:
    event = pdus.event(version_id)
    more = pdus.pdu_of(event, unsigned={"age": 5}, signatures={"other": {"ed25519:1": "x"}})
    assert content_hash(more) == content_hash(event.fields)
    assert reference_hash(more, event.room_version) == reference_hash(event.fields, event.room_version)


def test_the_content_hash_covers_what_a_redaction_takes_away() -> None:
    event = pdus.event("12")
    changed = pdus.pdu_of(event, content={"msgtype": "m.text", "body": "another"})
    assert content_hash(changed) != content_hash(event.fields)
    assert reference_hash(changed, event.room_version) == reference_hash(event.fields, event.room_version)
    assert len(base64.decode(content_hash(changed))) == 32
