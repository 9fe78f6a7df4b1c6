"""What of a room's state stands in the room that replaces it, and how the old room is closed.

spec: client-server-api/#room-upgrades, server behaviour (ROOM-25, ROOM-26)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from homeserver.events.auth_rules.power import can_send, levels_in, user_level
from homeserver.events.builder import EventDraft
from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.graph.refs import BAN
from homeserver.graph.rooms.head import Head
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms.presets import PRESETS, power_levels
from homeserver.rooms.transferred_power import Successor, as_integers, transferred

COPIED: Final = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
)
CREATE: Final = ("m.room.create", "")
LEVELS: Final = ("m.room.power_levels", "")
RULES: Final = ("m.room.join_rules", "")
ALIAS: Final = ("m.room.canonical_alias", "")
MAX_BANS: Final = 1_000
"""Bans that are copied; the newest."""
MAX_CHILDREN: Final = 1_000
"""Rooms of a space that are copied."""
_CLOSED: Final = 50


class OldRoom:
    """A room that is being replaced, as of its head. Raises `NotReady` when it is made before all is in memory."""

    def __init__(self, head: Head, aliases: Collection[str]) -> None:
        """`aliases`: those of this server that move along."""
        self.name = head.name
        self._aliases = frozenset(aliases)
        room = head.room
        children = [key for key in room.state if key[0] == "m.space.child"][:MAX_CHILDREN]
        banned = [user_id for user_id, member in room.members.items() if member.membership == BAN]
        bans: list[StateKey] = [("m.room.member", user_id) for user_id in banned[-MAX_BANS:]]
        single: list[StateKey] = [*((kind, "") for kind in COPIED), CREATE, LEVELS, RULES, ALIAS]
        self._state: Mapping[StateKey, Event] = head.state([*single, *children, *bans])
        self._children, self._bans = children, bans

    # --- the new room --------------------------------------------------------------------------------------------

    def creation(self) -> dict[str, Any]:
        """What of the old room's m.room.create the new one's says too."""
        content = self._state[CREATE].content
        return {key: content[key] for key in ("type", "m.federate") if key in content}

    def drafts(self, creator: UserId, creators: Collection[str], version: RoomVersion) -> list[EventDraft]:
        """State of the new room but for its create event and the creator's join. `creators`: all of them, `creator` and who
        more there are from v12 on.

        The power levels come last: until then the creator may do everything, also who may not do so afterwards.
        """
        state: list[tuple[StateKey, Mapping[str, Any]]] = [(RULES, self._join_rules(version))]
        state += [((kind, ""), self._state[kind, ""].content) for kind in COPIED if (kind, "") in self._state]
        moved = self._canonical(moved=True)
        if moved:
            state.append((ALIAS, moved))
        if self.creation().get("type") == "m.space":
            children = ((key, self._state[key].content) for key in self._children)
            state += [(key, content) for key, content in children if content.get("via")]
        for key in self._bans:
            reason = self._state[key].content.get("reason")
            if self._state[key].membership == "ban" and key[1] not in creators:
                state.append((key, {"membership": "ban", **({"reason": reason} if reason else {})}))
        state.append((LEVELS, self._levels(creator, creators, version)))
        return [EventDraft(kind, key, creator, dict(content)) for (kind, key), content in state]

    def _join_rules(self, version: RoomVersion) -> Mapping[str, Any]:
        event = self._state.get(RULES)
        content = event.content if event else {"join_rule": "invite"}
        known = {
            "knock": version.knock,
            "restricted": version.restricted_join,
            "knock_restricted": version.knock_restricted_join,
        }
        rule = content.get("join_rule")
        # What a version does not know nobody could pass; said so that people understand it.
        return content if not isinstance(rule, str) or known.get(rule, True) else {"join_rule": "invite"}

    def _levels(self, creator: UserId, creators: Collection[str], version: RoomVersion) -> dict[str, Any]:
        before = levels_in(self._state, self.name.version)
        if before.content is None:
            content = power_levels(creator, (), PRESETS["private_chat"], self.name.version)
            before = PowerLevels(content, self.name.version, before.creators)
        return transferred(before, Successor(version, creators))

    # --- the old room --------------------------------------------------------------------------------------------

    def farewell(self, user_id: UserId, replacement: RoomId) -> list[EventDraft]:
        """The tombstone, and as far as the user may: no more messages, no more invites, no alias that has moved."""
        body = "This room has been replaced"
        drafts = [
            EventDraft("m.room.tombstone", "", user_id, {"body": body, "replacement_room": replacement})
        ]
        left = self._canonical(moved=False)
        version = self.name.version
        if left is not None and can_send(self._state, user_id, ALIAS[0], version, is_state=True):
            drafts.append(EventDraft(*ALIAS, user_id, left))
        closed = self._closed(user_id)
        if closed is not None:
            drafts.append(EventDraft(*LEVELS, user_id, closed))
        return drafts

    def _closed(self, user_id: UserId) -> dict[str, Any] | None:
        """The levels that silence the room; None if the user may not set them, or they do so already."""
        version = self.name.version
        if LEVELS not in self._state or not can_send(self._state, user_id, LEVELS[0], version, is_state=True):
            return None
        levels = levels_in(self._state, version)
        try:
            wanted = max(_CLOSED, levels.named("users_default") + 1)
            raised = {name: wanted for name in ("events_default", "invite") if levels.named(name) < wanted}
            if not raised or user_level(self._state, user_id, version) < wanted:
                return None
        except BadLevel:
            return None
        return {**as_integers(levels), **raised}

    def _canonical(self, *, moved: bool) -> dict[str, Any] | None:
        """The canonical alias as far as it moves along; or what is left of it, None if nothing moves."""
        event = self._state.get(ALIAS)
        if event is None:
            return None
        alias, others = event.content.get("alias"), event.content.get("alt_aliases")
        listed: Sequence[Any] = others if isinstance(others, list) else ()
        if not moved and not {alias, *(a for a in listed if isinstance(a, str))} & self._aliases:
            return None
        kept: dict[str, Any] = {}
        if isinstance(alias, str) and (alias in self._aliases) is moved:
            kept["alias"] = alias
        alternatives = [a for a in listed if isinstance(a, str) and (a in self._aliases) is moved]
        return {**kept, "alt_aliases": alternatives} if alternatives else kept
