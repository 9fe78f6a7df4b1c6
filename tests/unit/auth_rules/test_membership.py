"""Rule 5: who may change whose membership (EVT-13, EVT-15, EVT-16, V:membership_transitions)."""

from __future__ import annotations

import pytest

from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, DAVE, RoomFactory, versions
from tests.support.vectors import vectors

# --- join ---


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_the_creator_joins_right_after_create(version: str) -> None:
    room = RoomFactory(version)
    assert room.current("m.room.member", ALICE).prev_event_ids == (room.create.event_id,)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_nobody_else_joins_right_after_create(version: str) -> None:
    room = RoomFactory(version, additional_creators=[BOB])
    room.heads, room.state_ids = (room.create.event_id,), {("m.room.create", ""): room.create.event_id}
    assert room.rejection(room.draft_member(ALICE, "join")) is None
    assert room.rejection(room.draft_member(BOB, "join")) == "5.3.7"


@pytest.mark.parametrize("version", versions(1, 10))
def test_evt_13_the_creator_is_who_the_content_names_until_version_10(version: str) -> None:
    room = RoomFactory(version)
    create = room.build({**room.create.fields, "content": {**room.create.content, "creator": BOB}})
    room.add(create)
    room.state_ids = {("m.room.create", ""): create.event_id}
    assert room.allows(room.draft_member(BOB, "join"))
    assert not room.allows(room.draft_member(ALICE, "join"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_nobody_joins_for_somebody_else(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.rejection(room.draft_member(BOB, "join", by=ALICE)) == "5.3.2"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_the_banned_do_not_join(version: str) -> None:
    room = RoomFactory.public(version)
    room.member(BOB, "ban", by=ALICE)
    assert room.rejection(room.draft_member(BOB, "join")) == "5.3.3"


WELCOMED_BY = {  # join rule: first version in which being invited or joined suffices
    "invite": 1,
    "knock": 7,
    "restricted": 8,
    "knock_restricted": 10,
}


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("rule", WELCOMED_BY)
def test_evt_13_an_invite_opens_the_door_where_the_version_knows_the_join_rule(
    version: str, rule: str
) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.member(CAROL, "invite", by=ALICE)
    room.join_rule(rule)
    known = int(version) >= WELCOMED_BY[rule]
    assert room.rejection(room.draft_member(CAROL, "join")) == (None if known else "5.3.7")
    assert room.rejection(room.draft_member(BOB, "join", displayname="Bob")) == (None if known else "5.3.7")
    assert not room.allows(room.draft_member(DAVE, "join"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_a_public_room_lets_in_everybody(version: str) -> None:
    room = RoomFactory.public(version)
    for before in ("leave", "invite", "join"):
        if before != "leave":
            room.member(BOB, before, by=BOB if before == "join" else ALICE)
        assert room.allows(room.draft_member(BOB, "join"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("rule", ["private", "open", "", None, 1, ["public"]])
def test_evt_13_an_unknown_join_rule_lets_in_nobody(version: str, rule: object) -> None:
    room = RoomFactory.public(version)
    room.join_rule(rule)  # type: ignore[arg-type]  # other people write anything
    assert room.rejection(room.draft_member(BOB, "join")) == "5.3.7"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_13_a_room_without_join_rules_is_for_the_invited(version: str) -> None:
    room = RoomFactory(version)
    room.member(BOB, "invite", by=ALICE)
    assert room.allows(room.draft_member(BOB, "join"))
    assert room.rejection(room.draft_member(CAROL, "join")) == "5.3.7"


def vouched(room: RoomFactory, by: object, *, signed: bool = True, membership: str = "join") -> object:
    """Carol's restricted join (or what else), vouched for by a user, co-signed by that user's server."""
    signatures = {"three.example": {"ed25519:1": "x"}}
    if signed and isinstance(by, str):
        signatures[by.partition(":")[2]] = {"ed25519:1": "x"}
    event = room.draft(
        "m.room.member",
        {"membership": membership, "join_authorised_via_users_server": by},
        by=CAROL,
        key=CAROL,
        signatures=signatures,
    )
    return room.rejection(event)


@pytest.mark.parametrize(
    ("version", "rule"),
    [*((v, "restricted") for v in versions(8)), *((v, "knock_restricted") for v in versions(10))],
)
def test_evt_13_a_member_who_may_invite_vouches_for_a_restricted_join(version: str, rule: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.power_levels(invite=50, users={BOB: 49})
    room.join_rule(rule)
    assert vouched(room, ALICE) is None
    assert vouched(room, ALICE, signed=False) == "5.2.1"
    assert vouched(room, BOB) == "5.3.5.2"  # may not invite
    assert vouched(room, DAVE) == "5.3.5.2"  # is not a member
    assert room.rejection(room.draft_member(CAROL, "join")) == "5.3.5.2"  # nobody vouches
    room.member(CAROL, "ban", by=ALICE)
    assert vouched(room, ALICE) == "5.3.3"


@pytest.mark.parametrize("version", versions(8))
@pytest.mark.parametrize("nobody", [None, 1, ["@a:b"], {}])
def test_evt_13_who_vouches_is_a_user(version: str, nobody: object) -> None:
    room = RoomFactory.public(version)
    assert vouched(room, nobody) == "5.2.1"


@pytest.mark.parametrize("version", versions(8))
def test_evt_13_the_signature_of_who_vouches_is_asked_of_every_member_event(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(CAROL)
    assert vouched(room, ALICE, signed=False, membership="leave") == "5.2.1"
    assert vouched(room, ALICE, membership="leave") is None


@pytest.mark.parametrize("version", versions(1, 7))
def test_evt_13_before_version_8_nobody_vouches(version: str) -> None:
    room = RoomFactory.public(version)
    assert vouched(room, ALICE, signed=False) is None
    room.join_rule("restricted")
    assert vouched(room, ALICE) == "5.3.7"


def test_evt_13_a_creator_of_version_12_may_always_vouch() -> None:
    room = RoomFactory.public("12")
    room.power_levels(invite=2**53 - 1)
    room.join_rule("restricted")
    assert vouched(room, ALICE) is None


# --- leave, kick, unban ---


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_15_one_leaves_or_declines_oneself(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.rejection(room.draft_member(BOB, "leave")) == "5.5.1"
    room.member(BOB, "invite", by=ALICE)
    assert room.allows(room.draft_member(BOB, "leave"))
    room.join(BOB)
    room.member(BOB, "leave")
    assert room.rejection(room.draft_member(BOB, "leave")) == "5.5.1"
    room.member(BOB, "ban", by=ALICE)
    assert room.rejection(room.draft_member(BOB, "leave")) == "5.5.1"


@pytest.mark.parametrize("version", versions(7))
def test_evt_15_a_knock_can_be_taken_back(version: str) -> None:
    room = RoomFactory.public(version)
    room.join_rule("knock")
    room.member(BOB, "knock")
    assert room.allows(room.draft_member(BOB, "leave"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_15_a_kick_needs_membership_the_level_and_a_target_below(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL, DAVE)
    room.power_levels(users={BOB: 50, CAROL: 50, DAVE: 49})
    assert room.allows(room.draft_member(DAVE, "leave", by=BOB))
    assert room.rejection(room.draft_member(CAROL, "leave", by=BOB)) == "5.5.5"
    assert room.rejection(room.draft_member(ALICE, "leave", by=BOB)) == "5.5.5"
    assert room.rejection(room.draft_member("@eve:two.example", "leave", by=DAVE)) == "5.5.5"
    room.member(BOB, "leave")
    assert room.rejection(room.draft_member(DAVE, "leave", by=BOB)) == "5.5.2"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_15_ending_a_ban_needs_the_ban_level_too(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(users={BOB: 60, CAROL: 40}, kick=40, ban=60)
    room.member(DAVE, "ban", by=ALICE)
    assert room.allows(room.draft_member(DAVE, "leave", by=BOB))
    assert room.rejection(room.draft_member(DAVE, "leave", by=CAROL)) == "5.5.3"
    assert room.rejection(room.draft_member("@eve:two.example", "leave", by=CAROL)) is None


# --- ban, knock, and what nobody has heard of ---


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_16_a_ban_needs_membership_the_level_and_a_target_below(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL, DAVE)
    room.power_levels(users={BOB: 50, CAROL: 50, DAVE: 49})
    for target in (DAVE, "@stranger:two.example"):
        assert room.allows(room.draft_member(target, "ban", by=BOB))
    assert room.rejection(room.draft_member(CAROL, "ban", by=BOB)) == "5.6.3"
    assert room.rejection(room.draft_member("@eve:two.example", "ban", by=DAVE)) == "5.6.3"
    assert room.rejection(room.draft_member(BOB, "ban", by=BOB)) == "5.6.3"
    room.member(BOB, "leave")
    assert room.rejection(room.draft_member(DAVE, "ban", by=BOB)) == "5.6.1"


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("rule", ["knock", "knock_restricted", "public", "invite", "restricted"])
def test_evt_16_one_knocks_where_there_is_a_door(version: str, rule: str) -> None:
    room = RoomFactory.public(version)
    room.join_rule(rule)
    opens = {"knock": 7, "knock_restricted": 10}.get(rule, 99)
    expected = "5.8" if int(version) < 7 else None if int(version) >= opens else "5.7.1"
    assert room.rejection(room.draft_member(BOB, "knock")) == expected


@pytest.mark.parametrize("version", versions(7))
def test_evt_16_one_knocks_for_oneself_and_from_outside(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.join_rule("knock")
    assert room.rejection(room.draft_member(CAROL, "knock", by=ALICE)) == "5.7.2"
    assert room.rejection(room.draft_member(BOB, "knock")) == "5.7.4"
    room.member(CAROL, "invite", by=ALICE)
    assert room.rejection(room.draft_member(CAROL, "knock")) == "5.7.4"
    room.member(CAROL, "ban", by=ALICE)
    assert room.rejection(room.draft_member(CAROL, "knock")) == "5.7.4"
    room.member(DAVE, "knock")
    assert room.allows(room.draft_member(DAVE, "knock"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("membership", ["joined", "", None, 1, ["join"]])
def test_evt_16_an_unknown_membership_is_rejected(version: str, membership: object) -> None:
    room = RoomFactory.public(version)
    event = room.draft("m.room.member", {"membership": membership}, by=BOB, key=BOB)
    assert room.rejection(event) == "5.8"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_16_a_member_event_says_who_and_what(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.rejection(room.draft("m.room.member", {"membership": "join"}, by=BOB)) == "5.1"
    assert room.rejection(room.draft("m.room.member", {}, by=BOB, key=BOB)) == "5.1"


# --- the table of the specification ---

NEVER = [
    ("ban", "invite"),
    ("ban", "join"),
    ("ban", "knock"),
    ("join", "invite"),
    ("join", "knock"),
    ("knock", "join"),
]
# The table has "re-knocking", but rule 5.7.3 does not let the invited knock (docs/differences.md).
REJECTED = [*NEVER, ("invite", "knock")]


def test_the_transitions_that_must_never_happen_are_those_of_the_specification() -> None:
    assert sorted(map(tuple, vectors("membership_transitions")["never"])) == NEVER


@pytest.mark.parametrize("version", versions(7))
@pytest.mark.parametrize("before", ["leave", "invite", "join", "ban", "knock"])
@pytest.mark.parametrize("after", ["leave", "invite", "join", "ban", "knock"])
def test_a_membership_changes_as_the_table_says(version: str, before: str, after: str) -> None:
    # A room that is made public lets in everybody, also who has knocked before: rule 5.3.6 does not look back.
    rule = "public" if (before, after) == ("leave", "join") else "knock"
    room = in_membership(version, before, rule)
    possible = any(room.allows(room.draft_member(BOB, after, by=actor)) for actor in (ALICE, BOB))
    assert possible == ((before, after) not in REJECTED)


def in_membership(version: str, membership: str, rule: str = "knock") -> RoomFactory:
    """A room in which Bob has a membership and Alice may do everything."""
    room = RoomFactory.public(version)
    if membership == "join":
        room.join(BOB)
    room.join_rule("knock")
    if membership == "knock":
        room.member(BOB, "knock")
    elif membership in {"invite", "ban"}:
        room.member(BOB, membership, by=ALICE)
    room.join_rule(rule)
    return room
