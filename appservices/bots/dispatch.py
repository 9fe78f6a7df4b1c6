"""Which handler of a bot an event is for."""

from __future__ import annotations

from typing import Final

from appservices.bots.arguments import read
from appservices.bots.bot import Bot
from appservices.bots.client import Client
from appservices.bots.commands import Given, addressed
from appservices.bots.context import Context
from appservices.bots.errors import BadArguments
from appservices.bots.events import Event, Member, Message, Reaction
from appservices.bots.store import Store

MAX_BODY: Final = 64 * 1024
SORRY: Final = "Something went wrong with that. It was noted."


class Dispatcher:
    """Of one bot."""

    def __init__(self, bot: Bot, client: Client, store: Store) -> None:
        self._bot = bot
        self._client = client
        self._store = store

    async def dispatch(self, ctx: Context, event: Event) -> None:
        """Call whoever it is for. Raises what that raises."""
        if isinstance(event, Message):
            await self._message(ctx, event)
        elif isinstance(event, Reaction) and (await self._pressed(ctx, event)):
            return
        else:
            if isinstance(event, Member):
                await self._invited(event)
            for handler in self._bot.handlers.get(event.type, ()):
                await handler(ctx, event)

    async def apologise(self, ctx: Context, event: Event) -> None:
        """To whoever gave a command that has failed."""
        if isinstance(event, Message) and self._given(event) is not None:
            await ctx.reply(SORRY)

    async def _message(self, ctx: Context, message: Message) -> None:
        # Notices are what bots say; to answer them would go on for ever. What was edited was answered before.
        if message.msgtype == "m.notice" or message.replaces is not None or message.state_key is not None:
            return
        given = self._given(message)
        if given is not None:
            await self._command(ctx, given)
            return
        text = addressed(message.content, message.body[:MAX_BODY], self._client.user_id, self._bot.name)
        if text is not None and "mention" in self._bot.handlers:
            for handler in self._bot.handlers["mention"]:
                await handler(ctx, text)
            return
        for handler in self._bot.handlers.get("m.room.message", ()):
            await handler(ctx, message)

    def _given(self, message: Message) -> Given | None:
        """The command in a message: after the prefix, or after the bot's name."""
        body = message.body[:MAX_BODY]
        commands = self._bot.commands
        text = commands.after_prefix(body)
        if text is None:
            named = addressed(message.content, body, self._client.user_id, self._bot.name)
            text = None if named is None else named.removeprefix(commands.prefix)
        return None if text is None else commands.find(text)

    async def _command(self, ctx: Context, given: Given) -> None:
        try:
            arguments = read(given.command.parameters, given.line)
        except BadArguments as mistake:
            usage = given.command.usage(self._bot.commands.prefix)
            await ctx.reply(f"{str(mistake).capitalize()}. It is `{usage}`.")
            return
        power = given.command.power
        if power is not None and await self._client.power_level(ctx.room_id, ctx.sender) < power:
            await ctx.reply("You may not do that in this room.")
            return
        await given.command.function(ctx, **arguments)

    async def _pressed(self, ctx: Context, reaction: Reaction) -> bool:
        """Whether it was a button."""
        buttons = self._store.buttons(reaction.target)
        if buttons is None or buttons.room_id != reaction.room_id or reaction.key not in buttons.choices:
            return False
        handler = self._bot.buttons.get(buttons.name)
        if handler is not None:
            await handler(ctx, buttons.choices[reaction.key], buttons.data)
        return True

    async def _invited(self, member: Member) -> None:
        if member.user_id != self._client.user_id or member.membership != "invite":
            return
        if self._bot.accepts(member.sender, self._client.server_name):
            await self._client.join(member.room_id)
