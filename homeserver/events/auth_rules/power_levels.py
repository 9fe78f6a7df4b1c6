"""Rule 10 (9 in versions 6-11): m.room.power_levels. Nobody gives what they do not have, nor takes from their equals.

spec: rooms/v1/#authorisation-rules, rooms/v6/ (notifications), rooms/v10/ (integers), rooms/v12/ (creators)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Final

from homeserver.events.auth_rules.power import CREATE, POWER_LEVELS, State, creators_of, user_level
from homeserver.events.auth_rules.rejected import Malformed, Rejected
from homeserver.events.content.power_levels import BadLevel, parse_level
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import is_user_id

_SINGLE: Final = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
_EMPTY: Final[Mapping[str, Any]] = {}

Content = Mapping[str, Any]
Change = tuple[str, int | None, int | None]
"""(name, current level, new level); None where the entry is absent."""


def check_power_levels(event: Event, state: State, version: RoomVersion) -> None:
    """Raise `Rejected` unless the content is well formed and every change is within the sender's reach."""
    _check_form(event.content, version)
    _check_creators(event.content, state, version)

    # 10.5: the first power levels of a room are free.
    before = state.get(POWER_LEVELS)
    if before is None:
        return
    old, new = before.content, event.content
    level = user_level(state, event.sender, version)

    # 10.6: single levels: neither the current nor the new value may be above the sender's.
    for name, current, wanted in _changes(old, new, _SINGLE, version):
        _within_reach("10.6", name, level, (current, wanted))

    # 10.7, 10.8: the same for every entry of `events` and, from version 6 on, `notifications`.
    tables = ("events", "notifications") if version.check_notification_levels else ("events",)
    for table in tables:
        old_table, new_table = _table(old, table), _table(new, table)
        for name, current, wanted in _changes(old_table, new_table, {**old_table, **new_table}, version):
            _within_reach("10.7", name, level, (current,))
            _within_reach("10.8", name, level, (wanted,))

    old_users, new_users = _table(old, "users"), _table(new, "users")
    for user, current, wanted in _changes(old_users, new_users, {**old_users, **new_users}, version):
        # 10.9: nobody but oneself may be changed who is not below oneself.
        if user != event.sender and current is not None and current >= level:
            raise Rejected("10.9", f"the sender's level {level} is not above the current {current} of {user}")
        # 10.10: nobody may be raised above the sender.
        _within_reach("10.10", user, level, (wanted,))
    # 10.11: otherwise, allow.


def _check_form(content: Content, version: RoomVersion) -> None:
    if not version.string_power_levels:
        # 10.1 (v10+): single levels are integers.
        for name in _SINGLE:
            if name in content and type(content[name]) is not int:
                raise Malformed("10.1", f"{name} is not an integer")
        # 10.2 (v10+): `events` and `notifications` are objects of integers.
        for name in ("events", "notifications"):
            if name in content and not _is_table_of_levels(content[name], version):
                raise Malformed("10.2", f"{name} is not an object of integers")

    # 10.3 (10.1 before version 10): `users` is an object of levels by user ID.
    users = content.get("users", _EMPTY)
    if not _is_table_of_levels(users, version):
        raise Malformed("10.3", "users is not an object of levels")
    for user in users:
        if not is_user_id(user):
            raise Malformed("10.3", "users has a key that is not a user ID")

    # spec: rooms/v1/#mroompower_levels-events-accept-values-as-floats: what no binary64 can hold rejects the event
    if version.float_power_levels and any(
        isinstance(v, float) and not isfinite(v) for v in _all_levels(content)
    ):
        raise Malformed("10.3", "a level is not a finite number")


def _check_creators(content: Content, state: State, version: RoomVersion) -> None:
    # 10.4 (v12): creators have infinite power and no entry.
    if not version.privileged_creators:
        return
    users = content.get("users", _EMPTY)
    for creator in creators_of(state[CREATE], version):
        if creator in users:
            raise Malformed("10.4", "users lists a creator of the room")


def _changes(
    old: Content, new: Content, names: Mapping[str, Any] | tuple[str, ...], version: RoomVersion
) -> Iterator[Change]:
    """What differs between two tables, by level and not by spelling: `"50"` and `50` are the same."""
    for name in names:
        if old.get(name) == new.get(name) and type(old.get(name)) is type(new.get(name)):
            continue
        current, wanted = _read(old, name, version), _read(new, name, version)
        if current != wanted:
            yield name, current, wanted


def _within_reach(rule: str, name: str, level: int, values: tuple[int | None, ...]) -> None:
    for value in values:
        if value is not None and value > level:
            raise Rejected(rule, f"the sender's level {level} is below the {value} of {name}")


def _read(table: Content, name: str, version: RoomVersion) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    level = parse_level(value, version)
    if level is None:
        raise BadLevel(name)
    return level


def _table(content: Content, name: str) -> Content:
    table = content.get(name)
    if table is None:
        return _EMPTY
    if not isinstance(table, Mapping):
        raise BadLevel(name, "not an object")
    return table


def _is_table_of_levels(value: object, version: RoomVersion) -> bool:
    return isinstance(value, Mapping) and all(
        parse_level(level, version) is not None for level in value.values()
    )


def _all_levels(content: Content) -> Iterator[Any]:
    for name in _SINGLE:
        yield content.get(name)
    for name in ("events", "notifications"):
        table = content.get(name)
        if isinstance(table, Mapping):
            yield from table.values()
