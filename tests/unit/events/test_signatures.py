"""Signatures of events, judged by the keys at hand (EVT-06, EVT-23)."""

from __future__ import annotations

import pytest

from homeserver.events.builder import EventDraft, build_event
from homeserver.events.event import Event
from homeserver.events.hashing import signed_bytes
from homeserver.events.parse import parse_event
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.events.signatures import (
    MAX_VALIDITY_MS,
    KeyRecord,
    WantedKeys,
    check_signatures,
    valid_until,
)
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey
from tests.support.factory import ALL_VERSIONS, versions

ONE, TWO = ServerName("one.example"), ServerName("two.example")
KEY, OTHER = SigningKey(bytes(32), "a"), SigningKey(bytes(31) + b"1", "b")
NOW = 1_700_000_000_000
DAY = 24 * 3600 * 1000


def message(version: str, *, ts: int = NOW, key: SigningKey = KEY) -> Event:
    room_version = ROOM_VERSIONS[version]
    return build_event(
        EventDraft("m.room.message", None, UserId("@a:one.example"), {"body": "x", "msgtype": "m.text"}),
        room_id=RoomId("!r:one.example"),
        room_version=room_version,
        prev=[],
        auth=[],
        depth=1,
        origin_server_ts=ts,
        server_name=ONE,
        signing_key=key,
    )


def changed(event: Event, **fields: object) -> Event:
    return Event(
        pdu=json.dumps({**event.fields, **fields}),
        event_id=event.event_id,
        room_id=event.room_id,
        room_version=event.room_version,
    )


def record(
    key: SigningKey = KEY, *, until: int = NOW + DAY, received: int = NOW, old: bool = False
) -> KeyRecord:
    return KeyRecord(key.key_id, key.public_key, until, received, old)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_an_event_signed_with_a_valid_key_is_good_and_stays_so_when_redacted(version: str) -> None:
    event = message(version)
    assert check_signatures(event, {ONE: [record()]}) == []
    assert check_signatures(redact_event(event), {ONE: [record()]}) == []


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_what_was_changed_or_signed_by_another_key_is_refused(version: str) -> None:
    event = message(version)
    with pytest.raises(InvalidSignature):
        check_signatures(changed(event, depth=2), {ONE: [record()]})
    stranger = record()._replace(public_key=OTHER.public_key)
    with pytest.raises(InvalidSignature):
        check_signatures(event, {ONE: [stranger]})


@pytest.mark.parametrize("signatures", [{}, {"two.example": {"ed25519:a": "x"}}, {"one.example": {}}])
def test_an_event_without_its_servers_signature_is_refused(signatures: object) -> None:
    with pytest.raises(InvalidSignature):
        check_signatures(changed(message("11"), signatures=signatures), {ONE: [record()]})


def test_algorithms_nobody_knows_do_not_count() -> None:
    event = changed(message("11"), signatures={"one.example": {"rsa:a": "x"}})
    with pytest.raises(InvalidSignature):
        check_signatures(event, {ONE: [record()]})


def test_a_key_that_is_not_known_is_asked_for() -> None:
    event = message("11")
    assert check_signatures(event, {}) == [WantedKeys(ONE, frozenset({"ed25519:a"}), NOW)]
    assert check_signatures(event, {ONE: [record(OTHER)]})[0].key_ids == {"ed25519:a"}


def test_one_good_signature_of_a_server_is_enough() -> None:
    event = message("11")
    both = {**event.fields["signatures"][ONE], "ed25519:unknown": "AAAA"}
    assert check_signatures(changed(event, signatures={ONE: both}), {ONE: [record()]}) == []


def test_fed_11_of_several_signatures_by_known_keys_all_have_to_match() -> None:
    event = message("11")
    for other, good in ((message("11", key=OTHER), True), (message("11", ts=NOW + 1, key=OTHER), False)):
        both = {**event.fields["signatures"][ONE], **other.fields["signatures"][ONE]}
        signed = changed(event, signatures={ONE: both})
        if good:
            assert check_signatures(signed, {ONE: [record(), record(OTHER)]}) == []
        else:
            with pytest.raises(InvalidSignature):
                check_signatures(signed, {ONE: [record(), record(OTHER)]})
            assert check_signatures(signed, {ONE: [record()]}) == [], (
                "of a key that is not known it cannot be told"
            )


@pytest.mark.parametrize("version", versions(5))
def test_evt_06_the_key_must_have_been_valid_when_the_event_was_made(version: str) -> None:
    event = message(version)
    assert check_signatures(event, {ONE: [record(until=NOW)]}) == []
    stale = record(until=NOW - 1, received=NOW - DAY)
    assert check_signatures(event, {ONE: [stale]}) == [WantedKeys(ONE, frozenset({"ed25519:a"}), NOW)]


@pytest.mark.parametrize("version", versions(1, 4))
def test_evt_06_before_version_5_it_need_not(version: str) -> None:
    event = message(version)
    keys = [record(until=NOW - 100 * DAY, received=NOW - 200 * DAY)]
    signers = {ONE: keys}
    assert check_signatures(event, signers) == []
    assert check_signatures(event, {}) == [WantedKeys(ONE, frozenset({"ed25519:a"}), 0)]


@pytest.mark.parametrize("version", versions(5))
def test_evt_06_no_key_is_valid_for_more_than_seven_days_after_it_was_heard_of(version: str) -> None:
    forever = record(until=NOW + 10_000 * DAY, received=NOW)
    assert valid_until(forever) == NOW + MAX_VALIDITY_MS == NOW + 7 * DAY
    assert check_signatures(message(version, ts=NOW + 7 * DAY), {ONE: [forever]}) == []
    later = message(version, ts=NOW + 7 * DAY + 1)
    assert check_signatures(later, {ONE: [forever]}) == [
        WantedKeys(ONE, frozenset({"ed25519:a"}), NOW + 7 * DAY + 1)
    ]


@pytest.mark.parametrize("version", versions(5))
def test_evt_06_an_old_key_is_good_for_what_it_signed_while_it_was_used(version: str) -> None:
    """Also long after: it is not heard of anew. What is later than its end is no question of fetching."""
    old = record(until=NOW, received=NOW + 300 * DAY, old=True)
    assert check_signatures(message(version, ts=NOW), {ONE: [old]}) == []
    with pytest.raises(InvalidSignature):
        check_signatures(message(version, ts=NOW + 1), {ONE: [old]})


@pytest.mark.parametrize("version", versions(1, 2))
def test_evt_23_the_server_named_in_the_event_id_must_have_signed_too(version: str) -> None:
    event = changed(message(version), event_id="$1:two.example")
    room_version = event.room_version
    signed = signed_bytes(event.fields, room_version)
    signatures = {
        "one.example": {KEY.key_id: KEY.signature_of(signed)},
        "two.example": {OTHER.key_id: OTHER.signature_of(signed)},
    }
    both = parse_event(json.dumps({**event.fields, "signatures": signatures}), room_version)
    assert check_signatures(both, {ONE: [record()], TWO: [record(OTHER)]}) == []
    only = parse_event(
        json.dumps({**event.fields, "signatures": {"one.example": signatures["one.example"]}}), room_version
    )
    with pytest.raises(InvalidSignature, match=r"two\.example"):
        check_signatures(only, {ONE: [record()], TWO: [record(OTHER)]})
