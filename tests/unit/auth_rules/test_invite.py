"""Rule 5.4: invites, and third-party invites being redeemed (EVT-14)."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.matrix import base64
from homeserver.matrix.signing import SigningKey, sign_json
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, DAVE, RoomFactory

KEY = SigningKey(b"k" * 32, "0")
OTHER_KEY = SigningKey(b"o" * 32, "0")
TOKEN = "token"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_14_an_invite_needs_a_member_with_the_level(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(invite=10, users={BOB: 10, CAROL: 9})
    assert room.rejection(room.draft_member(DAVE, "invite", by=BOB)) is None
    assert room.rejection(room.draft_member(DAVE, "invite", by=CAROL)) == "5.4.5"
    room.member(BOB, "leave")
    assert room.rejection(room.draft_member(DAVE, "invite", by=BOB)) == "5.4.2"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_14_who_is_joined_or_banned_is_not_invited(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.member(CAROL, "ban", by=ALICE)
    room.member(DAVE, "invite", by=ALICE)
    assert room.rejection(room.draft_member(BOB, "invite", by=ALICE)) == "5.4.3"
    assert room.rejection(room.draft_member(CAROL, "invite", by=ALICE)) == "5.4.3"
    assert room.allows(room.draft_member(DAVE, "invite", by=ALICE))


# --- third-party invites ---


def issue(room: RoomFactory, content: dict[str, Any], *, by: str = ALICE, token: str = TOKEN) -> None:
    room.state_event("m.room.third_party_invite", {"display_name": "b…", **content}, by=by, key=token)


def signed(*, key: SigningKey = KEY, by: str = "id.example", **fields: Any) -> dict[str, Any]:
    return sign_json({"mxid": BOB, "token": TOKEN, **fields}, by, key)


def redeem(room: RoomFactory, invite: Any, *, by: str = ALICE, user: str = BOB) -> str | None:
    """The rule that rejects the invite that redeems a token, or None."""
    return room.rejection(room.draft_member(user, "invite", by=by, third_party_invite=invite))


def encoded(key: SigningKey) -> str:
    return base64.encode(key.public_key)


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize(
    "keys",
    [
        {"public_key": encoded(KEY)},
        {"public_key": encoded(OTHER_KEY), "public_keys": [{"public_key": encoded(KEY)}]},
        {"public_keys": [{"public_key": encoded(OTHER_KEY)}, {"public_key": encoded(KEY)}]},
        {"public_key": base64.encode_url_safe(KEY.public_key)},
        {"public_key": encoded(KEY) + "="},
        {"public_key": 1, "public_keys": [None, {}, {"public_key": "?"}, {"public_key": encoded(KEY)}]},
    ],
)
def test_evt_14_a_signature_by_any_of_the_issued_keys_redeems_an_invite(
    version: str, keys: dict[str, Any]
) -> None:
    room = RoomFactory.public(version)
    issue(room, keys)
    assert redeem(room, {"display_name": "b…", "signed": signed()}) is None


def test_evt_14_it_does_not_matter_who_the_signature_says_has_signed() -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": signed(by="somebody.example")}) is None


@pytest.mark.parametrize(
    "invite", [None, "x", [], {}, {"signed": None}, {"signed": "x"}, {"mxid": BOB, "token": TOKEN}]
)
def test_evt_14_something_was_signed(invite: Any) -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, invite) == "5.4.1.2"


@pytest.mark.parametrize("lacking", ["mxid", "token"])
def test_evt_14_what_was_signed_names_user_and_token(lacking: str) -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": {k: v for k, v in signed().items() if k != lacking}}) == "5.4.1.3"


def test_evt_14_the_user_is_the_one_invited() -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": signed()}, user=CAROL) == "5.4.1.4"


@pytest.mark.parametrize("token", ["another", None, 1, [TOKEN]])
def test_evt_14_the_token_was_issued_in_this_room(token: Any) -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": signed(token=token)}) == "5.4.1.5"


def test_evt_14_by_the_same_sender() -> None:
    room = RoomFactory.public()
    room.join(CAROL)
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": signed()}, by=CAROL) == "5.4.1.6"


def test_evt_14_the_issuer_need_not_be_a_member_any_more() -> None:
    room = RoomFactory.public()
    room.join(CAROL)
    issue(room, {"public_key": encoded(KEY)}, by=CAROL)
    room.member(CAROL, "leave")
    assert redeem(room, {"signed": signed()}, by=CAROL) is None


@pytest.mark.parametrize(
    "forged",
    [
        signed(key=OTHER_KEY),
        {**signed(), "extra": "added later"},
        {"mxid": BOB, "token": TOKEN},
        {**signed(), "signatures": None},
        {**signed(), "signatures": {"id.example": None}},
        {**signed(), "signatures": {"id.example": {"ed25519:0": "?"}}},
        {**signed(), "signatures": {"id.example": {"ed25519:0": ["x"]}}},
        {
            **signed(),
            "signatures": {"id.example": {"rsa:0": signed()["signatures"]["id.example"]["ed25519:0"]}},
        },
    ],
)
def test_evt_14_any_other_signature_does_not_count(forged: dict[str, Any]) -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    assert redeem(room, {"signed": forged}) == "5.4.1.8"


@pytest.mark.parametrize("content", [{}, {"public_key": "?"}, {"public_key": "AAAA"}, {"public_keys": {}}])
def test_evt_14_without_a_key_nothing_can_be_redeemed(content: dict[str, Any]) -> None:
    room = RoomFactory.public()
    issue(room, content)
    assert redeem(room, {"signed": signed()}) == "5.4.1.8"


def test_evt_14_the_banned_cannot_redeem_an_invite() -> None:
    room = RoomFactory.public()
    issue(room, {"public_key": encoded(KEY)})
    room.member(BOB, "ban", by=ALICE)
    assert redeem(room, {"signed": signed()}) == "5.4.1.1"
