"""Signing JSON: the vectors, the key file, and every way in which a check has to fail."""

import copy
from typing import Any

import pytest
import signedjson.key
import signedjson.sign

from homeserver.matrix import base64, signing
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.signing import SigningKey
from tests.support.vectors import signing_key, vectors

KEY = SigningKey(b"\x01" * 32, "a_1")


def test_cry_01_the_public_key_of_the_vectors() -> None:
    assert (
        base64.encode(signing_key().public_key)
        == vectors("signing_key")["derived_public_key_unpadded_base64"]
    )


def test_cry_01_the_vectors_of_the_specification() -> None:
    key = signing_key()
    for case in vectors("json_signing")["cases"]:
        assert signing.sign_json(case["input"], "domain", key) == case["signed"]
        signing.verify_json(case["signed"], "domain", "ed25519:1", key.public_key)


def test_x_matrix_signatures_of_the_vectors() -> None:
    for case in vectors("x_matrix")["cases"]:
        signed = signing.sign_json(case["signed_object_without_signatures"], "domain", signing_key())
        assert signed["signatures"]["domain"]["ed25519:1"] in case["authorization"]


def test_signing_leaves_the_given_object_and_other_signatures_alone() -> None:
    given = {
        "a": 1,
        "unsigned": {"age": 5},
        "signatures": {"other": {"ed25519:x": "abc"}, "us": {"ed25519:0": "old"}},
    }
    before = copy.deepcopy(given)
    signed = signing.sign_json(given, "us", KEY)
    assert given == before
    assert signed["unsigned"] == {"age": 5}
    assert signed["signatures"]["other"] == {"ed25519:x": "abc"}
    assert set(signed["signatures"]["us"]) == {"ed25519:0", "ed25519:a_1"}
    signing.verify_json({**signed, "unsigned": {"age": 6}}, "us", "ed25519:a_1", KEY.public_key)


def test_others_read_our_signatures_and_we_theirs() -> None:
    theirs = signedjson.key.decode_signing_key_base64("ed25519", "a_1", base64.encode(KEY.seed))
    verify_key = signedjson.key.decode_verify_key_bytes("ed25519:a_1", KEY.public_key)
    signedjson.sign.verify_signed_json(signing.sign_json({"a": "é"}, "us", KEY), "us", verify_key)
    signed = signedjson.sign.sign_json({"a": "é"}, "us", theirs)
    signing.verify_json(signed, "us", "ed25519:a_1", KEY.public_key)


def _signed() -> dict[str, Any]:
    return signing.sign_json({"a": 1}, "us", KEY)


@pytest.mark.parametrize(
    ("entity", "key_id", "change"),
    [
        ("them", "ed25519:a_1", lambda o: None),
        ("us", "ed25519:other", lambda o: None),
        ("us", "ed25519:a_1", lambda o: o.update(a=2)),
        ("us", "ed25519:a_1", lambda o: o.pop("signatures")),
        ("us", "ed25519:a_1", lambda o: o.update(signatures=[])),
        ("us", "ed25519:a_1", lambda o: o.update(signatures={"us": "x"})),
        ("us", "ed25519:a_1", lambda o: o["signatures"]["us"].update({"ed25519:a_1": 5})),
        ("us", "ed25519:a_1", lambda o: o["signatures"]["us"].update({"ed25519:a_1": "!"})),
        ("us", "ed25519:a_1", lambda o: o["signatures"]["us"].update({"ed25519:a_1": "AAAA"})),
        ("us", "ed25519:a_1", lambda o: o["signatures"]["us"].update({"ed25519:a_1": "A" * 86})),
        ("us", "rsa:a_1", lambda o: o["signatures"]["us"].update({"rsa:a_1": "A" * 86})),
        ("us", "ed25519:a_1", lambda o: o.update(bad="\ud800")),
    ],
)
def test_cry_02_a_check_fails(entity: str, key_id: str, change: Any) -> None:
    """CRY-02: unknown entity, missing key, unsupported algorithm, bad Base64, or another object."""
    signed = _signed()
    change(signed)
    with pytest.raises(InvalidSignature):
        signing.verify_json(signed, entity, key_id, KEY.public_key)


def test_cry_02_a_check_fails_with_another_key_or_none() -> None:
    for public_key in (
        SigningKey(b"\x02" * 32, "a_1").public_key,
        b"",
        b"\x00" * 31,
        b"\x00" * 32,
        b"\xff" * 32,
    ):
        with pytest.raises(InvalidSignature):
            signing.verify_json(_signed(), "us", "ed25519:a_1", public_key)


def test_a_key_survives_its_file() -> None:
    text = KEY.to_text()
    assert text.startswith("ed25519 a_1 ")
    assert text.endswith("\n")
    again = SigningKey.from_text(text)
    assert (again.seed, again.key_id, again.public_key) == (KEY.seed, "ed25519:a_1", KEY.public_key)


def test_a_key_file_of_another_homeserver_is_read() -> None:
    other = signedjson.key.decode_signing_key_base64("ed25519", "a_ABcd", base64.encode(b"\x07" * 32))
    line = f"ed25519 a_ABcd {base64.encode(other.encode())}=\n"
    keys = signing.read_signing_keys("\n" + line + KEY.to_text())
    assert [key.key_id for key in keys] == ["ed25519:a_ABcd", "ed25519:a_1"]
    assert keys[0].public_key == bytes(other.verify_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "ed25519 a_1",
        "rsa a_1 AAAA",
        "ed25519 a-1 " + "A" * 43,
        "ed25519 a_1 AAAA",
        "ed25519 a_1 !secret!",
    ],
)
def test_a_broken_key_file_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refusal:
        SigningKey.from_text(text)
    assert "secret" not in str(refusal.value)


def test_a_key_never_shows_its_secret() -> None:
    assert repr(KEY) == "<SigningKey ed25519:a_1>"
