"""From the text of a path segment, query field or header to the type a handler declares.

Owns what `Path`, `Query` and `Header` can carry: str, int, bool, literals, enumerations, and the identifier types,
which are validated here and nowhere else.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any, Literal, NewType, get_args, get_origin

from homeserver.matrix import ids
from homeserver.matrix.errors import InvalidParam
from homeserver.web import limits

Convert = Callable[[str, str], Any]
"""(text, name of the parameter) -> value; raises `InvalidParam` naming the parameter."""

_INTEGER = re.compile(r"-?[0-9]{1,16}")


def converter(kind: Any) -> Convert:
    """Raises `TypeError` at import for a type that no text can carry."""
    if kind in _IDENTIFIERS:
        return _IDENTIFIERS[kind]
    if isinstance(kind, NewType):
        return converter(kind.__supertype__)
    if get_origin(kind) is Literal:
        return _one_of({str(v): v for v in get_args(kind)})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _one_of({str(member.value): member for member in kind})
    if kind is bool:
        return _boolean
    if kind is int:
        return _integer
    if kind is str:
        return _text
    raise TypeError(f"no text can be read as {kind}")


def _text(text: str, _where: str) -> str:
    return text


def _boolean(text: str, where: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    raise InvalidParam(f"{where}: neither true nor false")


def _integer(text: str, where: str) -> int:
    if not _INTEGER.fullmatch(text) or abs(number := int(text)) > limits.MAX_INTEGER:
        raise InvalidParam(f"{where}: not a whole number")
    return number


def _one_of(values: dict[str, Any]) -> Convert:
    expected = ", ".join(values)

    def read(text: str, where: str) -> Any:
        try:
            return values[text]
        except KeyError:
            raise InvalidParam(f"{where}: not one of {expected}") from None

    return read


def _checked(check: Callable[[str], bool], what: str) -> Convert:
    def read(text: str, where: str) -> str:
        if not check(text):
            raise InvalidParam(f"{where}: not {what}")
        return text

    return read


_IDENTIFIERS: dict[Any, Convert] = {
    ids.UserId: ids.user_id,
    ids.RoomId: ids.room_id,
    ids.RoomAlias: ids.room_alias,
    ids.EventId: _checked(ids.is_event_id, "an event ID"),
    ids.ServerName: _checked(ids.is_server_name, "a server name"),
}
