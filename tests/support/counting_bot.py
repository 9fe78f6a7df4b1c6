"""A bot for tests: it answers each command, counts it, and says a second thing a moment later."""

import asyncio

from appservices.bots import Bot, Context, everybody

bot = Bot("counter", accepts=everybody)


@bot.command()
async def count(ctx: Context, number: int) -> None:
    state = await ctx.room_state()
    state.set("count", state.get("count", 0) + 1)
    await ctx.reply(f"got {number}")
    await asyncio.sleep(0.02)
    await ctx.say(f"done {number} as {state.get('count')}")


@bot.command()
async def ask(ctx: Context) -> None:
    await ctx.ask("Sure?", {"✅": "yes", "❌": "no"}, name="sure")


@bot.button("sure")
async def sure(ctx: Context, choice: str, data: None) -> None:
    await ctx.say(f"You said {choice}.")


@bot.command()
async def later(ctx: Context, seconds: float) -> None:
    ctx.schedule("later", seconds, "now")


@bot.task("later")
async def said_later(ctx: Context, data: str) -> None:
    await ctx.say(data)


@bot.on_mention
async def answer(ctx: Context, text: str) -> None:
    async with ctx.stream() as stream:
        for word in range(20):
            await stream.write(f"{word} ")
            await asyncio.sleep(0.05)


@bot.command(power=50)
async def whisper(ctx: Context) -> None:
    await ctx.dm("in private")


if __name__ == "__main__":
    bot.run()
