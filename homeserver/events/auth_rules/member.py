"""Rule 5 (4 in versions 6-11): m.room.member, who may change whose membership into what.

The rule's numbers are version 12's: 5.2 came with version 8, 5.7 with version 7; in older versions the later branches count
from one lower. A membership that was never set counts as `leave`.

spec: rooms/v12/#authorisation-rules, client-server-api/#mroommember
"""

from __future__ import annotations

from homeserver.events.auth_rules.power import CREATE, State, action_level, can_act, can_remove, user_level
from homeserver.events.auth_rules.rejected import Malformed, Rejected
from homeserver.events.auth_rules.signers import authorising_server, is_signed_by
from homeserver.events.auth_rules.third_party_invite import check_redemption
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion


def check_member(event: Event, state: State, version: RoomVersion) -> None:
    """Raise `Rejected` unless the change of membership is allowed. Looks at five entries of the state at most."""
    # 5.1: it says whose membership, and which.
    if event.state_key is None or "membership" not in event.content:
        raise Malformed("5.1", "m.room.member has no state_key or no membership")

    # 5.2 (v8+): who is said to authorise a restricted join has signed.
    authoriser = authorising_server(event)
    if authoriser is not None and not is_signed_by(event, authoriser):
        raise Rejected("5.2.1", "the authorising user's server has not signed")

    membership = event.membership
    if membership == "join":
        _check_join(event, state, version)
    elif membership == "invite":
        _check_invite(event, state, version)
    elif membership == "leave":
        _check_leave(event, state, version)
    elif membership == "ban":
        _check_ban(event, state, version)
    elif membership == "knock" and version.knock:
        _check_knock(event, state, version)
    else:
        # 5.8: otherwise, the membership is unknown.
        raise Malformed("5.8", "unknown membership")


def membership_of(state: State, user_id: str) -> str:
    """`join`, `invite`, `knock`, `ban` or `leave`; `leave` if the user never was a member."""
    member = state.get(("m.room.member", user_id))
    return (member.membership or "leave") if member is not None else "leave"


def join_rule_of(state: State) -> object:
    """The room's join rule; `invite` where none is set. Not a string if somebody wrote nonsense."""
    rules = state.get(("m.room.join_rules", ""))
    return "invite" if rules is None else rules.content.get("join_rule", "invite")


def _check_join(event: Event, state: State, version: RoomVersion) -> None:
    # 5.3.1: the creator's first step, right after m.room.create; additional creators are not meant.
    create = state[CREATE]
    if event.prev_event_ids == (create.event_id,) and event.state_key == _founder(create, version):
        return
    # 5.3.2: nobody joins for somebody else.
    if event.sender != event.state_key:
        raise Rejected("5.3.2", "a user can only join for themselves")
    # 5.3.3: the banned do not join.
    membership = membership_of(state, event.sender)
    if membership == "ban":
        raise Rejected("5.3.3", "the user is banned")

    rule = join_rule_of(state)
    welcome = membership in {"invite", "join"}
    # 5.3.4: `invite` (v7+ `knock`) lets in the invited and those already here.
    if (rule == "invite" or (rule == "knock" and version.knock)) and welcome:
        return
    # 5.3.5 (v8+ `restricted`, v10+ `knock_restricted`): so do these,
    if _is_restricted(rule, version):
        # 5.3.5.1: …
        if welcome:
            return
        # 5.3.5.2, 5.3.5.3: and further those whom a member with the right to invite vouches for.
        _check_authoriser(event, state, version)
        return
    # 5.3.6: `public` lets in everybody.
    if rule == "public":
        return
    # 5.3.7: otherwise, reject.
    raise Rejected("5.3.7", "the room's join rule does not let the user in")


def _founder(create: Event, version: RoomVersion) -> object:
    return create.content.get("creator") if version.creator_in_content else create.sender


def _is_restricted(rule: object, version: RoomVersion) -> bool:
    if rule == "restricted":
        return version.restricted_join
    return rule == "knock_restricted" and version.knock_restricted_join


def _check_authoriser(event: Event, state: State, version: RoomVersion) -> None:
    user = event.content.get("join_authorised_via_users_server")
    if not isinstance(user, str):
        raise Rejected("5.3.5.2", "no member of the room vouches for the join")
    if membership_of(state, user) != "join" or not can_act(state, user, "invite", version):
        raise Rejected("5.3.5.2", "who vouches for the join is not a member who may invite")


def _check_invite(event: Event, state: State, version: RoomVersion) -> None:
    assert event.state_key is not None
    target = membership_of(state, event.state_key)
    # 5.4.1: a token is being redeemed.
    if "third_party_invite" in event.content:
        check_redemption(event, state, target)
        return
    # 5.4.2: only members invite.
    _require_joined("5.4.2", event, state)
    # 5.4.3: members need no invite, the banned get none.
    if target in {"join", "ban"}:
        raise Rejected("5.4.3", "the invited user is joined or banned")
    # 5.4.4, 5.4.5: the invite level decides.
    if not can_act(state, event.sender, "invite", version):
        raise Rejected("5.4.5", "the sender's level is below the invite level")


def _check_leave(event: Event, state: State, version: RoomVersion) -> None:
    assert event.state_key is not None
    # 5.5.1: one leaves, declines, or (v7+) takes a knock back, oneself.
    if event.sender == event.state_key:
        membership = membership_of(state, event.sender)
        if membership in {"invite", "join"} or (membership == "knock" and version.knock):
            return
        raise Rejected("5.5.1", "the user has nothing to leave")
    # 5.5.2: only members remove others.
    _require_joined("5.5.2", event, state)
    # 5.5.3: ending a ban takes the level that bans,
    banned = membership_of(state, event.state_key) == "ban"
    if banned and user_level(state, event.sender, version) < action_level(state, "ban", version):
        raise Rejected("5.5.3", "the sender's level is below the ban level")
    # 5.5.4, 5.5.5: and the level that kicks, above the target's.
    if not can_remove(state, event.sender, event.state_key, "kick", version):
        raise Rejected("5.5.5", "the sender's level is below the kick level or not above the target's")


def _check_ban(event: Event, state: State, version: RoomVersion) -> None:
    assert event.state_key is not None
    # 5.6.1: only members ban.
    _require_joined("5.6.1", event, state)
    # 5.6.2, 5.6.3: with the ban level, above the target's.
    if not can_remove(state, event.sender, event.state_key, "ban", version):
        raise Rejected("5.6.3", "the sender's level is below the ban level or not above the target's")


def _check_knock(event: Event, state: State, version: RoomVersion) -> None:
    # 5.7.1: the room has a door to knock on (v10+: `knock_restricted` too).
    rule = join_rule_of(state)
    if rule != "knock" and not (rule == "knock_restricted" and version.knock_restricted_join):
        raise Rejected("5.7.1", "the room's join rule does not let users knock")
    # 5.7.2: nobody knocks for somebody else.
    if event.sender != event.state_key:
        raise Rejected("5.7.2", "a user can only knock for themselves")
    # 5.7.3, 5.7.4: not when banned, invited, or inside.
    if membership_of(state, event.sender) in {"ban", "invite", "join"}:
        raise Rejected("5.7.4", "the user is banned, invited or joined")


def _require_joined(rule: str, event: Event, state: State) -> None:
    if membership_of(state, event.sender) != "join":
        raise Rejected(rule, "the sender is not joined to the room")
