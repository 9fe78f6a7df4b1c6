"""Commands of a bot, and finding which one a message gives."""

from __future__ import annotations

import html
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from appservices.bots.arguments import Parameter, parameters_of
from appservices.bots.errors import BotError

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `help` is told by `!help`."""

    name: str
    function: Handler
    help: str
    parameters: tuple[Parameter, ...]
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    power: int | None = None
    """The power level in the room that somebody needs to give it; None: none."""

    def usage(self, prefix: str) -> str:
        """`!roll [sides]`"""
        return " ".join([prefix + self.name, *(each.usage for each in self.parameters)])


def command_of(function: Handler, name: str | None = None, **options: Any) -> Command:
    """A function as a command. Raises `BotError` for arguments that cannot be read from text."""
    return Command(
        name or function.__name__.replace("_", "-"),
        function,
        inspect.cleandoc(function.__doc__ or ""),
        parameters_of(function),
        **options,
    )


class Given(NamedTuple):
    """A command as it was given."""

    command: Command
    line: str
    """What follows its name."""


class Commands:
    """All of a bot's. `prefix` is what stands before their names."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._by_name: dict[str, Command] = {}

    def add(self, command: Command) -> None:
        """Raises `BotError` for a name that is taken."""
        for each in (command.name, *command.aliases):
            if each in self._by_name:
                raise BotError(f"There are two commands {each}")
            self._by_name[each] = command

    def find(self, text: str) -> Given | None:
        """The command that a text gives, without what stands before its name."""
        name, _, line = text.partition(" ")
        first, _, more = name.partition("\n")
        command = self._by_name.get(first.lower())
        return None if command is None else Given(command, f"{more} {line}".strip() if more else line.strip())

    def after_prefix(self, body: str) -> str | None:
        """What follows the prefix; None: the text does not begin with it."""
        return body[len(self.prefix) :] if self.prefix and body.startswith(self.prefix) else None

    def help(self, name: str | None) -> str | None:
        """All commands, or one, as Markdown; None: there is no such command."""
        if name is not None:
            command = self._by_name.get(name.removeprefix(self.prefix).lower())
            return None if command is None else f"`{command.usage(self.prefix)}`\n\n{command.help}".strip()
        shown = {command.name: command for command in self._by_name.values() if not command.hidden}
        lines = [
            f"- `{command.usage(self.prefix)}` {command.help.partition(chr(10))[0]}".rstrip()
            for _, command in sorted(shown.items())
        ]
        return "\n".join(lines)


def addressed(content: Mapping[str, Any], body: str, user_id: str, name: str) -> str | None:
    """What is said to the bot in a message that mentions it, without its name; None: it is not mentioned.

    spec: client-server-api/#user-and-room-mentions; who writes the name and a colon means the same.
    """
    localpart = user_id[1:].partition(":")[0]
    named = content.get("m.mentions")
    users = named.get("user_ids") if isinstance(named, Mapping) else None
    mentioned = isinstance(users, list) and user_id in users
    for begins in (user_id, f"@{localpart}", localpart, f"@{name}", name, html.escape(name)):
        if begins and body.lower().startswith(begins.lower()):
            rest = body[len(begins) :]
            if rest[:1] in {":", ","} or (mentioned and (not rest or rest[0].isspace())):
                return rest.lstrip(":, \n")
    return body if mentioned else None
