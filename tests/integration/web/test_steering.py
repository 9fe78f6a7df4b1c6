"""Connections go to the processes that serve, and move between two requests: nothing that came on them is lost."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from homeserver.runtime import shared_loads
from homeserver.runtime.clock import SystemClock
from homeserver.runtime.shared_loads import Load, SharedLoads
from homeserver.runtime.spreading import Spreading
from homeserver.web.listener import Listener
from homeserver.web.steering import Steering
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import RawConnection
from tests.support.waiting import until

ECHO = f"GET {C}/echo?limit=%d HTTP/1.1\r\nHost: a\r\n\r\n"
OFTEN = 0.02


class Pair(Spreading):
    """Two servers on one port, in one process for the test's sake. `leader` is the first of them; `shall` of them serve."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = 0
        self.shall = 1
        self.servers: list[Running] = []
        self.steerings: list[Steering] = []

    @property
    def url(self) -> str:
        return self.servers[0].url

    def answered(self) -> list[int]:
        """How many requests each has answered."""
        return [len(server.lines) for server in self.servers]

    @override
    def decide(self, living: Sequence[Load], spare: float) -> int:
        """See `Spreading.decide`."""
        self.wanted = self.shall
        return self.wanted

    async def settled(self) -> None:
        """Both have seen who leads."""

        async def seen() -> bool:
            return [each.serves for each in self.steerings] == [self.leader == 0, self.leader == 1]

        await until(seen)


@contextmanager
def member(folder: Path, place: int, pair: Pair) -> Iterator[Steering]:
    loads = SharedLoads(folder / "loads", place, 2)
    yield Steering(
        folder / "s", loads, SystemClock(), lambda: pair.leader == place, spreading=pair, every=OFTEN
    )
    loads.close()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    shared_loads.begin(tmp_path / "loads")
    made = Pair()
    with ExitStack() as stack:
        made.steerings = [stack.enter_context(member(tmp_path, place, made)) for place in (0, 1)]
        async with AsyncExitStack() as servers:
            port = 0
            for each in made.steerings:
                listener = Listener(port=port, reuse_port=True)
                server = await servers.enter_async_context(running(listener, steering=each))
                made.servers.append(server)
                port = server.port
            await made.settled()
            yield made


async def ask(connection: RawConnection, number: int) -> None:
    async with asyncio.timeout(60):
        answer = await connection.send((ECHO % number).encode())
    assert json.loads(answer.body)["values"]["limit"] == number


async def test_new_connections_come_to_the_process_that_serves(pair: Pair) -> None:
    for number in range(20):
        async with RawConnection(pair.url) as connection:
            await ask(connection, number)
    assert pair.answered() == [20, 0]


async def test_open_connections_move_to_the_process_that_serves(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(RawConnection(pair.url)) for _ in range(5)]
        for number, connection in enumerate(connections):
            await ask(connection, number)
        assert pair.answered() == [5, 0]
        pair.leader = 1
        await pair.settled()

        async def moved() -> bool:
            return pair.steerings[0].moved >= 5

        await until(moved)
        for number, connection in enumerate(connections):
            await ask(connection, number)
        assert pair.answered() == [5, 5]


async def test_what_has_come_of_a_request_is_not_left_behind(pair: Pair) -> None:
    """Half a request behind a whole one, and half a head: the connection stays until the rest has been answered."""
    async with RawConnection(pair.url) as behind, RawConnection(pair.url) as idle:
        await ask(idle, 1)
        second = (ECHO % 2).encode()
        async with asyncio.timeout(60):
            await behind.send((ECHO % 1).encode() + second[:30])
        pair.leader = 1
        await pair.settled()

        async def moved() -> bool:
            return pair.steerings[0].moved >= 1

        await until(moved)  # the idle one
        async with asyncio.timeout(60):
            answer = await behind.send(second[30:])
        assert json.loads(answer.body)["values"]["limit"] == 2
        assert pair.answered() == [3, 0]


async def test_a_process_that_cannot_be_reached_is_given_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed a moment ago: its numbers say that it serves, its socket is closed."""
    pair.leader = 1
    await pair.settled()
    monkeypatch.setattr(pair.steerings[0], "_address", lambda _: "/nonexistent")
    before = pair.steerings[0].moved
    for number in range(20):
        async with RawConnection(pair.url) as connection:
            await ask(connection, number)
    assert sum(pair.answered()) == 20
    assert pair.steerings[0].moved == before


async def test_who_is_busier_gives_half_of_the_difference(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both serve; the first is busy, the second is not."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(RawConnection(pair.url)) for _ in range(10)]
        for number, connection in enumerate(connections):
            await ask(connection, number)
        pair.shall = 2
        monkeypatch.setattr(pair.steerings[0]._own, "look", lambda _: 1.0)
        monkeypatch.setattr(pair.steerings[1]._own, "look", lambda _: 0.0)

        async def moved() -> bool:
            return pair.steerings[0].moved >= 5

        await until(moved)
        for number, connection in enumerate(connections):
            await ask(connection, number)
        assert pair.answered()[1] >= 5


async def test_no_answer_is_lost_while_connections_go_to_and_fro(pair: Pair) -> None:
    """Requests in one piece, in two, two at once, with bodies: whoever has the connection, each is answered in its turn."""

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        async with RawConnection(pair.url) as connection:
            for number in range(60):
                request = (ECHO % number).encode()
                cut = rng.randrange(len(request))
                match rng.randrange(4):
                    case 0:
                        answer = await connection.send(request)
                    case 1:
                        writer = connection._streams[1] if connection._streams else None
                        if writer is not None:
                            writer.write(request[:cut])
                            await asyncio.sleep(rng.random() * OFTEN)
                            request = request[cut:]
                        answer = await connection.send(request)
                    case 2:
                        answer = await connection.send(request + request)
                        assert json.loads(answer.body)["values"]["limit"] == number
                        answer = await connection.send(b"")
                    case _:
                        body = b'{"reason": "%d"}' % number
                        head = f"POST {C}/optional HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
                        answer = await connection.send(head.encode() + body)
                        assert answer.status == 200
                        continue
                assert json.loads(answer.body)["values"]["limit"] == number
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.random() * 4 * OFTEN)

    async def sway() -> None:
        while True:
            pair.leader = 1 - pair.leader
            await pair.settled()

    swaying = asyncio.create_task(sway())
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for seed in range(8):
                group.create_task(client(seed))
    finally:
        swaying.cancel()
    assert all(each.moved > 10 for each in pair.steerings)
    assert all(pair.answered())
