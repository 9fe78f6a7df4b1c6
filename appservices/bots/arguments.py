"""From what follows a command to the arguments of the function that answers it.

The function's signature is the schema: `async def remind(ctx, after: Duration, *, text: str)` takes a span of time
and the rest of the line. Known types: str, int, float, bool, `Literal[…]`, `Duration`, `UserId`, each also `| None`;
a default makes it optional.
"""

from __future__ import annotations

import inspect
import io
import re
import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin

from appservices.bots.errors import BadArguments, BotError

Duration = NewType("Duration", float)
"""Seconds; written `90s`, `10m`, `1h30m`, `2d`."""
UserId = NewType("UserId", str)
"""`@name:server`."""

MAX_LINE: Final = 16 * 1024
"""Characters of a line that is taken apart."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:\d{1,9}[smhdw]){1,5}")
_PART: Final = re.compile(r"(\d+)([smhdw])")
_USER: Final = re.compile(r"@[^\s:@]{1,200}:[^\s@]{1,200}")
_YES, _NO = frozenset({"yes", "true", "on", "1"}), frozenset({"no", "false", "off", "0"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a command."""

    name: str
    type: Any
    default: Any
    rest: bool
    """It takes the rest of the line."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def usage(self) -> str:
        """As it stands in the help."""
        shown = "|".join(map(str, get_args(self.type))) if get_origin(self.type) is Literal else self.name
        shown += "…" if self.rest else ""
        return f"<{shown}>" if self.required else f"[{shown}]"


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Of a command's function, without the context it is given first. Raises `BotError` for what cannot be read from text."""
    hints = typing.get_type_hints(function)
    declared = list(inspect.signature(function).parameters.values())[1:]
    found = []
    for each in declared:
        kind = _without_none(hints.get(each.name, str))
        if get_origin(kind) is not Literal and kind not in _READERS:
            raise BotError(f"{function.__name__}: {each.name}: no argument can have the type {kind}")
        rest = each.kind is inspect.Parameter.KEYWORD_ONLY
        if rest and (kind is not str or each is not declared[-1]):
            raise BotError(
                f"{function.__name__}: {each.name}: the rest of the line is one str, and the last argument"
            )
        found.append(Parameter(each.name, kind, each.default, rest))
    return tuple(found)


def read(parameters: Sequence[Parameter], line: str) -> dict[str, Any]:
    """The arguments that a line gives, by name. Raises `BadArguments`."""
    left = line[:MAX_LINE].strip()
    values: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.rest:
            word, left = left, ""
        else:
            word, left = _next(left)
        if word:
            values[parameter.name] = _value(parameter, word)
        elif parameter.required:
            raise BadArguments(f"{parameter.name} is missing")
        else:
            values[parameter.name] = parameter.default
    if left:
        raise BadArguments(f"nothing takes “{left[:100]}”")
    return values


def _next(line: str) -> tuple[str, str]:
    """The first word, which may stand in quotes, and what is left."""
    if line[:1] in {'"', "'"}:
        try:
            source = io.StringIO(line)
            words = shlex.shlex(source, posix=True)
            words.whitespace_split = True
            words.commenters = ""
            return words.get_token() or "", source.read().strip()
        except ValueError:
            raise BadArguments("a quotation mark is not closed") from None
    word, _, left = line.partition(" ")
    return word, left.strip()


def _value(parameter: Parameter, word: str) -> Any:
    if get_origin(parameter.type) is Literal:
        choices = {str(choice): choice for choice in get_args(parameter.type)}
        if word not in choices:
            raise BadArguments(f"{parameter.name} is one of {', '.join(choices)}")
        return choices[word]
    what, reader = _READERS[parameter.type]
    try:
        return reader(word)
    except (ValueError, OverflowError):
        raise BadArguments(f"{parameter.name} is {what}") from None


def _bool(word: str) -> bool:
    if word.lower() in _YES | _NO:
        return word.lower() in _YES
    raise ValueError(word)


def _int(word: str) -> int:
    if len(word) > 20:
        raise ValueError(word)
    return int(word)


def _duration(word: str) -> Duration:
    if not _DURATION.fullmatch(word.lower()):
        raise ValueError(word)
    return Duration(float(sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(word.lower()))))


def _user(word: str) -> UserId:
    if not _USER.fullmatch(word):
        raise ValueError(word)
    return UserId(word)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(hint) if kind is not types.NoneType]
        return kinds[0] if len(kinds) == 1 else hint
    return hint


_READERS: Final[Mapping[Any, tuple[str, Callable[[str], Any]]]] = {
    str: ("a word", str),
    int: ("a whole number", _int),
    float: ("a number", float),
    bool: ("yes or no", _bool),
    Duration: ("a span of time like 10m or 1h30m", _duration),
    UserId: ("a user like @name:server", _user),
}
