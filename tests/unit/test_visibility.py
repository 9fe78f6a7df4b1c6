"""Who may see an event (HV-01 to HV-05, V:history_visibility)."""

from __future__ import annotations

import pytest

from homeserver.events.visibility import (
    ServerStage,
    Stage,
    allows,
    history_visibility_of,
    is_visible,
    is_visible_to_server,
    stages,
)
from homeserver.matrix.ids import ServerName, UserId
from tests.support.factory import BOB, CAROL, RoomFactory
from tests.support.vectors import vectors

VISIBILITIES = ("world_readable", "shared", "invited", "joined")
MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")
VIEWER = UserId(BOB)
TWO = ServerName("two.example")


def visibility_event(room: RoomFactory, value: object):
    content = {} if value is ... else {"history_visibility": value}
    return room.draft("m.room.history_visibility", content, key="")


def test_hv_01_the_table_is_the_specifications() -> None:
    cases = vectors("history_visibility")["cases"]
    assert len(cases) == len(VISIBILITIES) * len(MEMBERSHIPS) * 2
    for case in cases:
        stage = Stage(case["history_visibility"], case["membership_at_event"])
        assert allows(stage, joined_later=case["joined_after_event"]) == case["allow"], case


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_hv_01_an_ordinary_event_counts_with_the_state_it_was_sent_in(visibility: str) -> None:
    message = RoomFactory.public().message()
    for membership in MEMBERSHIPS:
        for joined_later in (False, True):
            before = Stage(visibility, membership)
            seen = is_visible(*stages(message, before, VIEWER), joined_later=joined_later)
            assert seen == allows(before, joined_later=joined_later)


@pytest.mark.parametrize("old", VISIBILITIES)
@pytest.mark.parametrize("new", VISIBILITIES)
@pytest.mark.parametrize("membership", MEMBERSHIPS)
@pytest.mark.parametrize("joined_later", [False, True])
def test_hv_02_a_change_of_visibility_is_seen_by_who_may_see_either_side(
    old: str, new: str, membership: str, joined_later: bool
) -> None:
    event = visibility_event(RoomFactory.public(), new)
    either = any(allows(Stage(value, membership), joined_later=joined_later) for value in (old, new))
    assert is_visible(*stages(event, Stage(old, membership), VIEWER), joined_later=joined_later) == either


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("old", MEMBERSHIPS)
@pytest.mark.parametrize("new", MEMBERSHIPS)
def test_hv_02_ones_own_membership_event_is_ones_own(visibility: str, old: str, new: str) -> None:
    """Not only where either side allows: see docs/differences.md."""
    event = RoomFactory.public().draft_member(BOB, new)
    assert is_visible(*stages(event, Stage(visibility, old), VIEWER), joined_later=False)


def test_hv_02_one_sees_oneself_come_and_go_even_where_only_members_see() -> None:
    room = RoomFactory.public()
    assert is_visible(
        *stages(room.draft_member(BOB, "join"), Stage("joined", "leave"), VIEWER), joined_later=False
    )
    assert is_visible(
        *stages(room.draft_member(BOB, "leave"), Stage("joined", "join"), VIEWER), joined_later=False
    )


def test_hv_02_other_peoples_membership_is_an_ordinary_event() -> None:
    event = RoomFactory.public().draft_member(CAROL, "join")
    assert not is_visible(*stages(event, Stage("joined", "leave"), VIEWER), joined_later=False)


@pytest.mark.parametrize("value", [..., None, "", "everybody", 1, ["shared"], {}])
def test_hv_03_no_or_an_unknown_value_means_shared(value: object) -> None:
    assert history_visibility_of(visibility_event(RoomFactory.public(), value)) == "shared"
    assert history_visibility_of(None) == "shared"


def test_hv_03_a_visibility_under_another_key_means_nothing() -> None:
    room = RoomFactory.public()
    event = room.draft("m.room.history_visibility", {"history_visibility": "world_readable"}, key="x")
    before = Stage("joined", "leave")
    assert stages(event, before, VIEWER) == (before, before, False)


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("gone", ["leave", "ban"])
def test_hv_04_after_leaving_nothing_newer_is_seen_unless_the_world_may(visibility: str, gone: str) -> None:
    message = RoomFactory.public().message()
    seen = is_visible(*stages(message, Stage(visibility, gone), VIEWER), joined_later=False)
    assert seen == (visibility == "world_readable")


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize(
    "memberships", [(), ("leave",), ("join",), ("invite",), ("ban", "invite"), ("ban", "join")]
)
@pytest.mark.parametrize("joined_later", [False, True])
def test_hv_05_a_server_sees_what_any_of_its_users_could_see(
    visibility: str, memberships: tuple[str, ...], joined_later: bool
) -> None:
    message = RoomFactory.public().message()
    before = ServerStage(visibility, frozenset(memberships))
    any_user = any(allows(Stage(visibility, m), joined_later=joined_later) for m in (*memberships, "leave"))
    assert is_visible_to_server(message, before, TWO, joined_later=joined_later) == any_user


def test_hv_05_a_server_sees_its_own_users_come_and_go() -> None:
    room = RoomFactory.public()
    nobody = ServerStage("joined", frozenset())
    assert is_visible_to_server(room.draft_member(BOB, "join"), nobody, TWO, joined_later=False)
    assert not is_visible_to_server(room.draft_member(CAROL, "join"), nobody, TWO, joined_later=False)
    members = ServerStage("joined", frozenset({"join"}))
    assert is_visible_to_server(room.draft_member(BOB, "leave"), members, TWO, joined_later=False)


@pytest.mark.parametrize("old", MEMBERSHIPS)
@pytest.mark.parametrize("new", MEMBERSHIPS)
def test_hv_05_a_server_is_told_what_becomes_of_its_users(old: str, new: str) -> None:
    event = RoomFactory.public().draft_member(BOB, new)
    assert is_visible_to_server(event, ServerStage("joined", frozenset({old})), TWO, joined_later=False)


def test_hv_05_a_server_sees_a_change_of_visibility_if_either_side_allows() -> None:
    room = RoomFactory.public()
    event = visibility_event(room, "joined")
    before = ServerStage("world_readable", frozenset())
    assert is_visible_to_server(event, before, TWO, joined_later=False)
    assert not is_visible_to_server(
        event, before._replace(history_visibility="joined"), TWO, joined_later=False
    )
