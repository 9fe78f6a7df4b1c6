"""Whatever another server sends: an event, or a refusal that says where; never a crash."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.client_format import client_event_bytes, stripped
from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.parse import EventFormatError, parse_event
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.events.validation import check_client_event
from homeserver.matrix import json
from homeserver.matrix.errors import MatrixError
from tests.support.pdus import Pdus

MUTANTS = 1500
STRANGE: list[Any] = [
    None, True, False, 0, -1, 2**53, 2**64, 10**400, 1.5, -0.0, 1e308, "", "x", "\0", "\ud800", "$x", "@x:y", "!x", "x" * 70_000,
    [], {}, [[]], [{}], [None], ["$x"], [["$x"]], [["$x", {}]], [["$x", {"sha256": 5}]], {"x": {}}, {"sha256": None}, {"\ud800": 1},
    {"x": {"y": 5}}, {"signed": {"token": []}}, {"membership": {}},
]  # fmt: skip


def mutants(version: RoomVersion) -> Iterator[dict[str, Any]]:
    """PDUs with one to three values somewhere in them replaced, taken away or added."""
    rng = random.Random(6)
    for pdu in Pdus(version, seed=6).take(MUTANTS):
        for _ in range(rng.randint(1, 3)):
            place: Any = pdu
            while True:
                key = rng.choice(list(place)) if isinstance(place, dict) and place else "extra"
                inner = place.get(key)
                if not isinstance(inner, dict) or not inner or rng.random() < 0.5:
                    break
                place = inner
            if rng.random() < 0.2:
                place.pop(key, None)
            else:
                place[key] = copy.deepcopy(rng.choice(STRANGE))
        yield pdu


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)
def test_evt_01_a_hostile_event_is_refused_with_its_place_or_can_be_handled(version: RoomVersion) -> None:
    accepted = 0
    for pdu in mutants(version):
        try:
            event = parse_event(pdu, version)
        except EventFormatError as refusal:
            str(refusal).encode()  # can be logged and answered
            continue
        accepted += 1
        assert parse_event(event.pdu, version) == redact_event(event) == event
        json.loads(client_event_bytes(event))
        if event.is_state:
            json.loads(stripped(event))
        auth_keys_for(event.type, event.state_key, event.sender, event.content, version)
        _ask_levels(PowerLevels.from_content(event.content, version), event.sender)
        assert event.membership is None or isinstance(event.membership, str)
    assert MUTANTS / 30 < accepted < MUTANTS


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)
def test_hostile_content_of_a_client_is_refused_as_a_matrix_error(version: RoomVersion) -> None:
    for pdu in mutants(version):
        content = pdu.get("content")
        if not isinstance(content, dict):
            continue
        for event_type in ("m.room.power_levels", "m.room.member", "m.room.server_acl", "m.room.join_rules"):
            try:
                check_client_event(event_type, "", content, version)
            except MatrixError as refusal:
                json.dumps(refusal.to_json())


def test_hostile_text_is_refused() -> None:
    rng = random.Random(7)
    for version in ROOM_VERSIONS.values():
        for pdu in Pdus(version, seed=7).take(100):
            text = bytearray(json.dumps(pdu))
            for _ in range(rng.randint(1, 4)):
                text[rng.randrange(len(text))] = rng.randrange(256)
            try:
                parse_event(bytes(text), version)
            except EventFormatError as refusal:
                str(refusal).encode()


def _ask_levels(levels: PowerLevels, user_id: str) -> None:
    for question in (
        lambda: levels.user_level(user_id),
        lambda: levels.event_level("x", state=True),
        lambda: levels.notification_level("room"),
        lambda: list(levels.table("users")),
    ):
        try:
            assert question() is not None
        except BadLevel as problem:
            str(problem).encode()
