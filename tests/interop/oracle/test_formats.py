"""The format of events against Synapse's own functions, in every room version.

Known differences are in docs/differences.md; the generator keeps out of their way and each has a test here.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from homeserver.events.hashing import content_hash, event_id_of, reference_hash, signed_bytes
from homeserver.events.parse import EventFormatError, parse_event
from homeserver.events.redaction import redact
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix import base64, canonical_json
from tests.interop.oracle.client import Oracle
from tests.support.pdus import KEY, Pdus

pytestmark = pytest.mark.interop

EVENTS = 500
"""Of every version; 6000 in all."""


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)
def test_cry_01_evt_02_red_01_synapse_computes_the_same(version: RoomVersion, oracle: Oracle) -> None:
    """CRY-01, EVT-02, RED-01: canonical JSON, hashes, ids, signatures and redaction of thousands of events."""
    pdus = list(Pdus(version, seed=2).take(EVENTS))
    question = {"version": version.id, "pdus": pdus, "seed": base64.encode(KEY.seed)}
    for pdu, answer in zip(pdus, oracle.ask("formats.examine", question), strict=True):
        assert _ours(pdu, version) == answer, pdu


def _ours(pdu: dict[str, Any], version: RoomVersion) -> dict[str, Any]:
    return {
        "canonical": canonical_json.encode(pdu).decode(),
        "content_hash": content_hash(pdu),
        "reference_hash": base64.encode(reference_hash(pdu, version)),
        "event_id": event_id_of(pdu, version),
        "room_id": parse_event(pdu, version).room_id,
        "redacted": redact(pdu, version),
        "signature": KEY.signature_of(signed_bytes(pdu, version)),
    }


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)
def test_evt_05_what_synapse_accepts_we_accept(version: RoomVersion, oracle: Oracle) -> None:
    """EVT-05: strict canonical JSON from version 6 on, and not before."""
    pdus = list(Pdus(version, seed=3, strict=False).take(EVENTS))
    answers = oracle.ask("formats.receive", {"version": version.id, "pdus": copy.deepcopy(pdus)})
    for pdu, answer in zip(pdus, answers, strict=True):
        assert (answer is None) == (_refusal(pdu, version) is None), (pdu, answer, _refusal(pdu, version))
    assert version.strict_canonical_json == any(answers)


def _refusal(pdu: dict[str, Any], version: RoomVersion) -> str | None:
    try:
        parse_event(pdu, version)
    except EventFormatError as error:
        return str(error)
    return None


# --- where Synapse and we differ: docs/differences.md -------------------------------------------------------------


@pytest.mark.parametrize("name", ["age_ts", "outlier", "destinations"])
def test_known_difference_synapse_leaves_names_of_its_own_out_of_the_content_hash(
    name: str, oracle: Oracle
) -> None:
    version = ROOM_VERSIONS["10"]
    pdu = {**next(Pdus(version, seed=4).take(1)), name: 1}
    question = {"version": version.id, "pdus": [pdu], "seed": base64.encode(KEY.seed)}
    (answer,) = oracle.ask("formats.examine", question)
    without = {key: value for key, value in pdu.items() if key != name}
    assert answer["content_hash"] == content_hash(without) != content_hash(pdu)
    assert answer["event_id"] == event_id_of(pdu, version)


@pytest.mark.parametrize(
    "change",
    [
        {"sender": "nobody"},
        {"type": "t" * 256},
        {"state_key": "é" * 256},
        {"prev_events": ["not an id"]},
        {"prev_events": ["$" + "A" * 43] * 21},
        {"auth_events": ["$" + "A" * 43] * 11},
        {"redacts": 5},
    ],
    ids=str,
)
def test_known_difference_we_hold_the_schema_against_an_event_before_anything_else(
    change: dict[str, Any], oracle: Oracle
) -> None:
    """EVT-01, EVT-03, API-23: Synapse drops or rejects most of these later; it never asks about `redacts`."""
    version = ROOM_VERSIONS["10"]
    pdu = {**next(Pdus(version, seed=5).take(1)), **change}
    assert oracle.ask("formats.receive", {"version": version.id, "pdus": [pdu]}) == [None]
    assert _refusal(pdu, version) is not None
