"""An assistant that answers while it thinks, by a language model behind any API of the kind of OpenAI's (Ollama, vLLM, LiteLLM).

MODEL_URL=http://127.0.0.1:11434/v1 MODEL=llama3.2 python assistant.py --registration registration.yaml
"""

import json
import os
from collections.abc import AsyncIterator

import aiohttp

from appservices.bots import Bot, Context

bot = Bot("assistant", about="Mention me and ask.", msgtype="m.text")
KEPT = 20  # messages of a room that the model is told


async def model(messages: list[dict[str, str]]) -> AsyncIterator[str]:
    """The answer, in pieces, as the model gives it."""
    body = {"model": os.environ.get("MODEL", "llama3.2"), "messages": messages, "stream": True}
    headers = {"Authorization": f"Bearer {os.environ.get('MODEL_KEY', '')}"}
    url = os.environ.get("MODEL_URL", "http://127.0.0.1:11434/v1") + "/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
        session.post(url, json=body) as answer,
    ):
        async for line in answer.content:
            data = line.decode().strip().removeprefix("data: ")
            if data.startswith("{"):
                for choice in json.loads(data).get("choices", []):
                    yield choice.get("delta", {}).get("content") or ""


@bot.on_mention
async def ask(ctx: Context, text: str) -> None:
    state = await ctx.room_state()
    messages = [*state.get("messages", []), {"role": "user", "content": text}]
    answer = await ctx.stream_all(model(messages))
    state.set("messages", [*messages, {"role": "assistant", "content": answer}][-KEPT:])


@bot.command()
async def forget(ctx: Context) -> None:
    """Forgets what was said in this room."""
    (await ctx.room_state()).delete("messages")
    await ctx.reply("Forgotten.")


if __name__ == "__main__":
    bot.run()
