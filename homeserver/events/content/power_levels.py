"""Reads `m.room.power_levels`: who may do what, with the defaults and the spellings each room version allows.

spec: client-server-api/#mroompower_levels, rooms/v1/#mroompower_levels-events-accept-values-as-strings (CHECKLIST EVT-19 to EVT-21)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeserver.events.room_version import RoomVersion

INFINITE_LEVEL: Final = 2**53
"""The level of a privileged creator (v12): one more than canonical JSON can write, so no event can grant it."""

DEFAULTS: Final[Mapping[str, int]] = {
    "ban": 50,
    "events_default": 0,
    "invite": 0,
    "kick": 50,
    "redact": 50,
    "state_default": 50,
    "users_default": 0,
}
"""What counts where the event, or the property, is absent. spec: client-server-api/#mroompower_levels"""

_DEFAULT_NOTIFICATION: Final = 50
_CREATOR_WITHOUT_EVENT: Final = 100
# A base 10 integer with at most one sign. Leading zeros are dropped before Python counts the digits; not by the expression,
# which would try each of them as the first digit.
_INTEGER_STRING: Final = re.compile(r"([+-]?)([0-9]+)", re.ASCII)
_MAX_DIGITS: Final = 4000
_NOTHING: Final[Mapping[str, Any]] = {}


class BadLevel(ValueError):
    """A level, or the table that should hold it, is not what the room's version allows. `path` names it."""

    def __init__(self, path: str, problem: str = "not a power level") -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


def parse_level(value: object, version: RoomVersion) -> int | None:
    """One level as the version reads it; None if it is not one.

    Integers everywhere. Up to version 9 also a string holding one base 10 integer, with optional sign, leading
    zeros and surrounding white space. Up to version 5 also a float, its fraction cut off. Never a boolean.
    """
    if type(value) is int:  # not isinstance: JSON's true is no level
        return value
    # spec: rooms/v10/#values-in-mroompower_levels-events-must-be-integers
    if isinstance(value, str) and version.string_power_levels:
        found = _INTEGER_STRING.fullmatch(value.strip())
        if found is None:
            return None
        digits = found[2].lstrip("0") or "0"
        return int(found[1] + digits) if len(digits) <= _MAX_DIGITS else None
    # spec: rooms/v1/#mroompower_levels-events-accept-values-as-strings: floats are truncated; NaN and infinities are none
    if isinstance(value, float) and version.float_power_levels and math.isfinite(value):
        return math.trunc(value)
    return None


class PowerLevels:
    """The levels in force at some state of a room. A view: nothing is parsed before it is asked for.

    Every question raises `BadLevel` if exactly what it has to look at is malformed (versions 1 to 9 let such
    events pass: rule 10 checks `users` alone); who can do without a right answer catches it.
    """

    __slots__ = ("content", "creators", "version")

    def __init__(
        self, content: Mapping[str, Any] | None, version: RoomVersion, creators: frozenset[str] = frozenset()
    ) -> None:
        self.content = content
        self.version = version
        self.creators = creators

    @classmethod
    def from_content(
        cls,
        content: Mapping[str, Any] | None,
        version: RoomVersion,
        *,
        creators: frozenset[str] = frozenset(),
    ) -> PowerLevels:
        """The levels of a room.

        Args:
            content: The event's content; None if the room has no `m.room.power_levels`.
            version: The room's version.
            creators: Who created the room (`create.creators_of`). In version 12 they stand above every level;
                before, the creator has level 100 as long as there is no event.
        """
        return cls(content, version, creators)

    def user_level(self, user_id: str) -> int:
        """The level of a user; `INFINITE_LEVEL` for a privileged creator."""
        # spec: rooms/v12/: creators have an infinite level, whatever the event says
        if self.version.privileged_creators and user_id in self.creators:
            return INFINITE_LEVEL
        if self.content is None:
            return _CREATOR_WITHOUT_EVENT if user_id in self.creators else 0
        value = self._table("users").get(user_id)
        return self.named("users_default") if value is None else self._level(value, "users", user_id)

    def event_level(self, event_type: str, *, state: bool) -> int:
        """The level needed to send an event of a type, as a state event or not."""
        value = self._table("events").get(event_type)
        if value is None:
            return self.named("state_default" if state else "events_default")
        return self._level(value, "events", event_type)

    def notification_level(self, key: str) -> int:
        """The level needed to notify everybody in one way; `room` is `@room`."""
        value = self._table("notifications").get(key)
        return _DEFAULT_NOTIFICATION if value is None else self._level(value, "notifications", key)

    def named(self, name: str) -> int:
        """One of the properties in `DEFAULTS`."""
        value = None if self.content is None else self.content.get(name)
        return DEFAULTS[name] if value is None else self._level(value, name)

    @property
    def ban(self) -> int:
        return self.named("ban")

    @property
    def invite(self) -> int:
        return self.named("invite")

    @property
    def kick(self) -> int:
        return self.named("kick")

    @property
    def redact(self) -> int:
        return self.named("redact")

    def table(self, name: str) -> Iterator[tuple[str, int]]:
        """Every entry of `users`, `events` or `notifications` as (key, level)."""
        for key, value in self._table(name).items():
            yield key, self._level(value, name, key)

    def _table(self, name: str) -> Mapping[str, Any]:
        if self.content is None:
            return _NOTHING
        table = self.content.get(name)
        if table is None:
            return _NOTHING
        if not isinstance(table, Mapping):
            raise BadLevel(name, "not an object")
        return table

    def _level(self, value: object, *path: str) -> int:
        level = parse_level(value, self.version)
        if level is None:
            raise BadLevel(".".join(path))
        return level
