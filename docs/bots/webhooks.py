"""`!hook add NAME`, `!hook list`, `!hook revoke ID`: webhooks of a room, by its members. The bot needs the power level itself."""

import os
from typing import Any, Literal
from urllib.parse import quote

from appservices.bots import Bot, Context, Refused

bot = Bot("webhooks", about="I make addresses that programs post to.")
ADDRESS = os.environ.get("PUBLIC_ADDRESS", "https://example.com")


def path(room_id: str, *more: str) -> str:
    return "/".join([f"/_atrium/client/v1/rooms/{quote(room_id, safe='')}/hooks", *more])


@bot.command(power=50)
async def hook(ctx: Context, what: Literal["add", "list", "revoke"], *, which: str = "") -> None:
    """Adds a webhook by this name (its address comes in private), lists them, or revokes one by its id."""
    request = ctx.client.transport.request
    try:
        if what == "list":
            hooks: list[dict[str, Any]] = (await request("GET", path(ctx.room_id)))["hooks"]
            await ctx.reply(
                "\n".join(f"- `{each['hook_id']}` {each['name']}" for each in hooks) or "There are none."
            )
        elif what == "revoke":
            await request("DELETE", path(ctx.room_id, quote(which, safe="")))
            await ctx.reply("It is revoked.")
        else:
            made = await request("POST", path(ctx.room_id), body={"name": which})
            await ctx.dm(
                f"{which}: `{ADDRESS}{made['path']}`\n\nThis is shown once. Whoever has it may post."
            )
            await ctx.reply(f"`{made['hook_id']}` is made. I have told you its address in private.")
    except Refused as refusal:
        await ctx.reply(refusal.error)


if __name__ == "__main__":
    bot.run()
