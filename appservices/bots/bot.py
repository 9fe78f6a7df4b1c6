"""A bot: what it answers, and how. Declared once, run over HTTP (`run.py`) or in the testing kit (`testing.py`).

bot = Bot("dice")

@bot.command()
async def roll(ctx: Context, sides: int = 6) -> None:
"Rolls a die."
await ctx.reply(f"You rolled {random.randint(1, sides)}.")

if __name__ == "__main__":
bot.run()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from appservices.bots.client import Client
from appservices.bots.commands import Commands, Handler, command_of
from appservices.bots.context import Context
from appservices.bots.errors import BotError

F = TypeVar("F", bound=Handler)
Accepts = Callable[[str, str], bool]
"""(who invites, this server's name) -> whether the bot comes."""


def from_here(user_id: str, server_name: str) -> bool:
    """Whoever is a user of the bot's own server."""
    return user_id.partition(":")[2] == server_name


def everybody(_user_id: str, _server_name: str) -> bool:
    """Whoever it is."""
    return True


@dataclass(frozen=True, slots=True)
class Every:
    """A task that is done again and again."""

    task: str
    seconds: float


class Bot:
    """What a bot does. `name`: how it is called; `prefix`: what stands before its commands."""

    def __init__(
        self,
        name: str,
        *,
        prefix: str = "!",
        about: str = "",
        accepts: Accepts = from_here,
        msgtype: Literal["m.notice", "m.text"] = "m.notice",
    ) -> None:
        """`about` stands above the help; `accepts`: whose invitations it takes; `msgtype`: what its messages are: of an
        `m.notice` nobody is notified, and other bots do not answer it.
        """
        self.name = name
        self.about = about
        self.accepts = accepts
        self.msgtype = msgtype
        self.commands = Commands(prefix)
        self.handlers: dict[str, list[Handler]] = {}
        """By type of event; `mention` and `start` beside them."""
        self.buttons: dict[str, Handler] = {}
        self.tasks: dict[str, Handler] = {}
        self.every: list[Every] = []
        self.command("help", hidden=True)(self._help)

    # --- declaring -----------------------------------------------------------------------------------------------

    def command(
        self,
        name: str | None = None,
        *,
        aliases: Iterable[str] = (),
        hidden: bool = False,
        power: int | None = None,
    ) -> Callable[[F], F]:
        """The decorated `async def name(ctx, …)` answers `!name …`; its signature says what follows (`arguments.py`), its
        docstring is the help. `power`: the power level in the room that somebody needs to give it.
        """

        def declare(function: F) -> F:
            self.commands.add(command_of(function, name, aliases=tuple(aliases), hidden=hidden, power=power))
            return function

        return declare

    def on_mention(self, function: F) -> F:
        """The decorated `async def f(ctx, text)` answers messages that mention the bot and are no command."""
        return self._on("mention", function)

    def on_message(self, function: F) -> F:
        """The decorated `async def f(ctx, message)` hears messages that are neither a command nor a mention."""
        return self._on("m.room.message", function)

    def on_reaction(self, function: F) -> F:
        """The decorated `async def f(ctx, reaction)` hears reactions that press no button."""
        return self._on("m.reaction", function)

    def on_member(self, function: F) -> F:
        """The decorated `async def f(ctx, member)` hears who comes and goes."""
        return self._on("m.room.member", function)

    def on_event(self, kind: str) -> Callable[[F], F]:
        """The decorated `async def f(ctx, event)` hears events of a type."""
        return lambda function: self._on(kind, function)

    def on_start(self, function: F) -> F:
        """The decorated `async def f(client)` is called when the bot starts, before it answers anything."""
        return self._on("start", function)

    def button(self, name: str) -> Callable[[F], F]:
        """The decorated `async def f(ctx, choice, data)` hears which button of `ctx.ask(…, name=name)` was pressed."""

        def declare(function: F) -> F:
            self.buttons[name] = function
            return function

        return declare

    def task(self, name: str) -> Callable[[F], F]:
        """The decorated `async def f(ctx, data)` does what `ctx.schedule(name, …)` has put off."""

        def declare(function: F) -> F:
            if name in self.tasks:
                raise BotError(f"There are two tasks {name}")
            self.tasks[name] = function
            return function

        return declare

    def repeat(self, name: str, seconds: float) -> Callable[[F], F]:
        """The decorated `async def f(ctx, data)` is called every so many seconds, by the clock: missed turns are made up by one.
        Its context is of no room: it speaks through `ctx.client`.
        """
        self.every.append(Every(name, seconds))
        return self.task(name)

    def _on(self, kind: str, function: F) -> F:
        self.handlers.setdefault(kind, []).append(function)
        return function

    # --- running -------------------------------------------------------------------------------------------------

    def run(self, arguments: list[str] | None = None) -> None:
        """Run until it is told to end (SIGTERM, SIGINT). `arguments`: as of a command line; see `--help`."""
        from appservices.bots.run import main

        main(self, arguments)

    async def _help(self, ctx: Context, command: str | None = None) -> None:
        """Tells what the bot can do."""
        found = self.commands.help(command)
        if found is None:
            await ctx.reply(f"There is no command {self.commands.prefix}{command}.")
            return
        head = self.about or f"I am {self.name}."
        more = f"\n\n`{self.commands.prefix}help <command>` tells more."
        await ctx.reply(found if command is not None else f"{head}\n\n{found}{more}")


Start = Callable[[Client], Awaitable[Any]]
