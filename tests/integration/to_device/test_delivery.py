"""Delivery over two processes that are killed: CHECKLIST TD-02, SYNC-18.

Several senders retry whatever was not answered; the receiver loses answers and asks again; meanwhile the server is killed
and started. Each sender's messages arrive in order, none is lost, and what comes twice was not acknowledged.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import server as support_server
from tests.support.crypto import messages_in
from tests.support.process import HomeserverProcess
from tests.support.user import User

SENDERS = 5


async def retried(work: Any) -> Any:
    """Until it is answered, as clients do; a server that starts says so in its own ways."""
    while True:
        try:
            return await work()
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(0.05)  # the server is down: nothing to be awaited


async def send_all(sender: User, to: User, name: int, number: int, chance: random.Random) -> None:
    for n in range(number):
        messages = {to.user_id: {to.device_id: {"from": name, "n": n}}}
        path = "/sendToDevice/m.room.encrypted/{}"

        async def put(path: str = path, n: int = n, messages: Any = messages) -> None:
            await sender.put(path, f"{name}.{n}", json={"messages": messages})

        await retried(put)
        if chance.random() < 0.1:
            await retried(put)


async def receive_all(receiver: User, number: int, chance: random.Random) -> list[tuple[int, int]]:
    """What a client keeps that forgets every third answer."""
    kept: list[tuple[int, int]] = []
    while len(kept) < number:
        before = receiver.since
        reply = await retried(lambda: receiver.sync(timeout=1_000))
        if chance.random() < 0.3:
            receiver.since = before
            continue
        kept += [(event["content"]["from"], event["content"]["n"]) for event in messages_in(reply)]
    return kept


async def deliver(folder: Path, messages: int, kills: int) -> None:
    chance = random.Random(messages)
    with HomeserverProcess(folder / "data", processes=2) as process:
        process.start()
        server = support_server.of_process(process)
        receiver = await server.register("receiver")
        senders = [await server.register("sender") for _ in range(SENDERS)]
        each = messages // SENDERS
        sending = [
            asyncio.create_task(send_all(sender, receiver, name, each, chance))
            for name, sender in enumerate(senders)
        ]
        receiving = asyncio.create_task(receive_all(receiver, each * SENDERS, chance))
        for _ in range(kills):
            await asyncio.sleep(1.5)  # into the middle of whatever happens
            await asyncio.to_thread(process.kill9)
            await asyncio.to_thread(process.start)
        await asyncio.gather(*sending)
        kept = await receiving
        for name in range(SENDERS):
            assert [n for sender, n in kept if sender == name] == list(range(each))
        reply = await receiver.sync()
        assert messages_in(reply) == []
        await server.close()


async def test_messages_arrive_once_in_order_though_everything_is_repeated_and_killed(tmp_path: Path) -> None:
    """TD-02, SYNC-18."""
    await deliver(tmp_path, 1_000, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("messages", "kills"), [(4_000, 4), pytest.param(10_000, 5, marks=pytest.mark.load)])
async def test_thousands_of_messages_arrive_once_in_order(tmp_path: Path, messages: int, kills: int) -> None:
    """TD-02, SYNC-18: the whole."""
    await deliver(tmp_path, messages, kills=kills)
