"""A process of its own that sends messages at a steady pace: who sends in the server's event loop measures both.

`python -m benchmarks.core.sending URL ROOM_ID SECONDS RATE`, with the access token in the environment as `TOKEN`. At the end it
prints a JSON list: [seconds of the clock that all processes of a machine share, event id] of each answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

from benchmarks.core.search import bodies, vocabulary
from benchmarks.wire import Connection, Target

CONNECTIONS = 64
"""Requests under way; what comes while all are waits for one, and is sent late."""


async def send_all(
    target: Target, token: str, room_id: str, seconds: float, rate: int
) -> list[tuple[float, str]]:
    """Send `seconds` x `rate` messages. Returns when each was answered, and what it became."""
    texts = bodies(round(seconds * rate), vocabulary(random.Random(7)), random.Random(11))
    requests = enumerate(_requests(target, token, room_id, texts))
    answered: list[tuple[float, str]] = []
    began = time.monotonic() + 0.5

    async def work() -> None:
        connection = Connection(target)
        for number, request in requests:
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            response = await connection.succeed(request)
            answered.append((time.monotonic(), response.json()["event_id"]))
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return answered


def _requests(target: Target, token: str, room_id: str, texts: Iterator[str]) -> list[bytes]:
    """Made beforehand."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/{os.getpid()}-"
    return [
        target.request("PUT", f"{path}{number}", token=token, body={"msgtype": "m.text", "body": body})
        for number, body in enumerate(texts)
    ]


def main() -> None:
    url, room_id, seconds, rate = sys.argv[1:]
    sent = asyncio.run(send_all(Target.parse(url), os.environ["TOKEN"], room_id, float(seconds), int(rate)))
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
