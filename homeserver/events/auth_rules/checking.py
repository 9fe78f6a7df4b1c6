"""The order of the rules: what concerns every event, and which file judges the rest.

spec: rooms/v1/#authorisation-rules to rooms/v12/#authorisation-rules
"""

from __future__ import annotations

from homeserver.events.auth_rules.aliases import check_aliases
from homeserver.events.auth_rules.create import check_create
from homeserver.events.auth_rules.member import check_member, membership_of
from homeserver.events.auth_rules.power import CREATE, State, can_send
from homeserver.events.auth_rules.power_levels import check_power_levels
from homeserver.events.auth_rules.redaction import check_redaction
from homeserver.events.auth_rules.rejected import Rejected
from homeserver.events.auth_rules.third_party_invite import check_issue
from homeserver.events.content.power_levels import BadLevel
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import domain_of


def check(event: Event, state: State, version: RoomVersion) -> None:
    """Raise `Rejected` unless the rules allow `event` in `state`.

    `state` is the room's state before the event, or what the event's auth events say it was; only the keys of
    `auth_events.auth_keys_of(event)` and, in version 12, the create event are ever looked up. `auth_events` as such
    are judged by `check_auth_events`, signatures where keys are known (`required_signers`).
    """
    try:
        _check(event, state, version)
    except BadLevel as bad:
        # Versions 1-9 let malformed levels pass (rule 10 looks at `users` alone): what depends on one is not allowed.
        raise Rejected("10", f"power levels cannot be read: {bad}") from bad


def _check(event: Event, state: State, version: RoomVersion) -> None:
    # 1: m.room.create begins the room and needs no state.
    if event.type == "m.room.create":
        check_create(event, version)
        return

    create = _create_of(event, state, version)

    # 4: a room that does not federate stays on its creator's server.
    if create.content.get("m.federate") is False and domain_of(event.sender) != domain_of(create.sender):
        raise Rejected("4", "the room does not federate")

    if event.type == "m.room.aliases" and version.aliases_auth_rule:
        check_aliases(event)
    elif event.type == "m.room.member":
        check_member(event, state, version)
    else:
        _check_from_member(event, state, version)


def _create_of(event: Event, state: State, version: RoomVersion) -> Event:
    create = state.get(CREATE)
    # v1 2.4, 2.5: the room has a create event, and it is this room's.
    # 2 (v12): the create event is the one whose id the room ID is.
    if create is None or create.room_id != event.room_id:
        raise Rejected("2" if version.room_id_is_create_hash else "v1 2.4", "the room has no m.room.create")
    return create


def _check_from_member(event: Event, state: State, version: RoomVersion) -> None:
    # 6: whatever else is sent is sent from inside.
    if membership_of(state, event.sender) != "join":
        raise Rejected("6", "the sender is not joined to the room")

    # 7: third-party invites go by the invite level alone.
    if event.type == "m.room.third_party_invite":
        check_issue(event, state, version)
        return

    # 8: the type's level.
    if not can_send(state, event.sender, event.type, version, is_state=event.is_state):
        raise Rejected("8", f"the sender's level is below what {event.type} requires")

    # 9: state keys that are user IDs belong to that user.
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != event.sender:
        raise Rejected("9", "the state key names another user")

    # 10: power levels.
    if event.type == "m.room.power_levels":
        check_power_levels(event, state, version)
    # v1 11: redactions, in versions 1 and 2.
    elif event.type == "m.room.redaction" and version.redaction_auth_rule:
        check_redaction(event, state, version)
    # 11: otherwise, allow.
