"""A bot in twenty lines: `python hello.py --registration registration.yaml`"""

from appservices.bots import Bot, Context

bot = Bot("hello")


@bot.command()
async def hello(ctx: Context, name: str = "world") -> None:
    """Greets somebody, and counts how often."""
    state = await ctx.room_state()
    state.set("greetings", state.get("greetings", 0) + 1)
    await ctx.reply(f"Hello, **{name}**! That was greeting {state.get('greetings')} in this room.")


if __name__ == "__main__":
    bot.run()
