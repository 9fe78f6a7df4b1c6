"""A process with a reader, to be killed: `python reader_process.py DSN PORT`. It delivers to a server on that loopback port."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))

from homeserver.log.readers.types import Backoff, Item
from tests.support.notes import Note, note_process, note_reader


async def main(dsn: str, port: int) -> None:
    async with aiohttp.ClientSession() as client:

        async def deliver(key: str, items: Sequence[Item[Note]]) -> None:
            body = {"key": key, "items": [[item.position, item.value.number] for item in items]}
            async with client.post(f"http://127.0.0.1:{port}/", json=body) as answer:
                answer.raise_for_status()

        reader = note_reader(deliver, batch=20, timeout=0.5, backoff=Backoff(first=0.02, longest=0.1))
        async with note_process(dsn, reader):
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
