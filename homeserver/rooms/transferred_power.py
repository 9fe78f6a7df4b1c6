"""The power levels of a room that replaces another one: who could replace the old room can replace the new one, and nobody else.

Compared are *effective* levels: those of users, of creators (who stand above all levels in version 12, and nowhere before),
of everybody else, and the one that `m.room.tombstone` takes. The only ones to gain are who upgrades to version 12 and whom
they name as further creators. Who was a creator of version 12 and is none any more gets a level above all others: the
specification does not copy creators, and says nothing against their power.

spec: client-server-api/#room-upgrades, rooms/v12/ (CHECKLIST ROOM-25, ROOM-26, ROOM-08)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from homeserver.events.content.power_levels import DEFAULTS, BadLevel, PowerLevels, parse_level
from homeserver.events.room_version import RoomVersion
from homeserver.rooms.presets import CREATOR_LEVEL, TOMBSTONE_LEVEL_V12

TOMBSTONE: Final = "m.room.tombstone"
MAX_LEVEL: Final = 2**53 - 1
"""The highest level, and less than nothing the lowest, that every version can write. spec: appendices/#canonical-json"""
_TABLES: Final = ("users", "events", "notifications")


@dataclass(frozen=True, slots=True)
class Successor:
    """The room that will be."""

    version: RoomVersion
    creators: Collection[str]
    """Who upgrades, and whom they named."""


def transferred(before: PowerLevels, after: Successor) -> dict[str, Any]:
    """Content of the new room's m.room.power_levels.

    Args:
        before: Of the old room, which says something: `content` is not None.
        after: The room that replaces it.
    """
    content = as_integers(before)
    creators = after.creators if after.version.privileged_creators else ()
    users: dict[str, int] = content.get("users", {})
    if before.version.privileged_creators:
        users |= dict.fromkeys(before.creators, _above_all(content))
    # spec: rooms/v12/#authorisation-rules: creators may not be listed
    content["users"] = {user: level for user, level in users.items() if user not in creators}
    _hold(content, before, after)
    return content


def as_integers(levels: PowerLevels) -> dict[str, Any]:
    """Levels as every version reads them: strings of old rooms become numbers, what is no level is left out."""
    clean: dict[str, Any] = {}
    for name, value in (levels.content or {}).items():
        with suppress(BadLevel):
            if name in DEFAULTS:
                clean[name] = _writable(levels.named(name))
            elif name in _TABLES:
                clean[name] = _table(levels, name)
            else:
                clean[name] = value
    return clean


def _table(levels: PowerLevels, name: str) -> dict[str, int]:
    table = (levels.content or {}).get(name)
    if not isinstance(table, Mapping):
        raise BadLevel(name, "not an object")
    read = {key: parse_level(value, levels.version) for key, value in table.items()}
    return {key: _writable(level) for key, level in read.items() if level is not None}


def _hold(content: dict[str, Any], before: PowerLevels, after: Successor) -> None:
    """See to it that everybody can or cannot replace the new room as they could the old one."""
    now = PowerLevels(content, after.version)
    needed = max(now.event_level(TOMBSTONE, state=True), 1 - MAX_LEVEL)
    default = _on_the_same_side(now.named("users_default"), needed, could=_could(before, None))
    users: dict[str, int] = content["users"]
    for user, level in users.items():
        users[user] = _on_the_same_side(level, needed, could=_could(before, user))
    raised = after.version.privileged_creators and not before.version.privileged_creators
    if raised and all(level < needed for level in (default, *users.values())):
        # spec: createRoom: only creators replace a room of version 12; here where that takes it from nobody else
        needed = max(needed, TOMBSTONE_LEVEL_V12)
    if default != now.named("users_default"):
        content["users_default"] = default
    if needed != now.event_level(TOMBSTONE, state=True):
        content["events"] = {**content.get("events", {}), TOMBSTONE: needed}


def _could(before: PowerLevels, user: str | None) -> bool:
    """Whether a user, or (None) one who is not listed, could replace the old room."""
    with suppress(BadLevel):
        level = before.named("users_default") if user is None else before.user_level(user)
        return level >= before.event_level(TOMBSTONE, state=True)
    return False


def _on_the_same_side(level: int, needed: int, *, could: bool) -> int:
    return max(level, needed) if could else min(level, needed - 1)


def _above_all(content: Mapping[str, Any]) -> int:
    """A level that suffices for everything, and above everybody's where there is one. `content`: of `as_integers`."""
    listed = {name: (content.get(name) or {}).values() for name in _TABLES}
    needed: list[int] = [content.get(name, default) for name, default in DEFAULTS.items()]
    people: int = max(content.get("users_default", 0), *listed["users"], 0)
    highest: int = max(CREATOR_LEVEL, *needed, *listed["events"], *listed["notifications"], people + 1)
    return min(highest, MAX_LEVEL)


def _writable(level: int) -> int:
    return max(-MAX_LEVEL, min(level, MAX_LEVEL))
