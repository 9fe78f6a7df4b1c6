"""One user's requests wait behind each other, nobody else's do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from homeserver.runtime import request_context
from homeserver.runtime.fair_queue import FairQueue, Place, paused


@dataclass
class Context:
    place: Place | None
    db_queries: int = 0
    request_id: str = "x"


@asynccontextmanager
async def request(queue: FairQueue, key: str) -> AsyncIterator[Place]:
    await queue.enter(key)
    place = Place(queue, key)
    token = request_context.current.set(Context(place))
    try:
        yield place
    finally:
        request_context.current.reset(token)
        place.end()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_of_one_key_wait_and_others_do_not() -> None:
    queue, done = FairQueue(2, 60), list[str]()
    gates = [asyncio.Event() for _ in range(5)]

    async def one(number: int, key: str) -> None:
        async with request(queue, key):
            await gates[number].wait()
            done.append(f"{key}{number}")

    tasks = [asyncio.create_task(one(number, "a")) for number in range(4)]
    await settled()
    tasks.append(asyncio.create_task(one(4, "b")))
    await settled()
    for gate in gates[2:]:
        gate.set()
    await settled()
    assert done == ["b4"], "nobody waits for another's requests; the third and fourth wait for the first two"
    gates[0].set()
    await settled()
    assert done == ["b4", "a0", "a2", "a3"]
    gates[1].set()
    await asyncio.gather(*tasks)
    assert len(queue) == 0


async def test_who_waits_for_something_slow_lets_the_next_go_on() -> None:
    queue, slow, order = FairQueue(1, 60), asyncio.Event(), list[str]()

    async def waits() -> None:
        async with request(queue, "a"):
            async with paused():
                await slow.wait()
            order.append("slow")

    async def works() -> None:
        async with request(queue, "a"):
            order.append("quick")

    tasks = [asyncio.create_task(waits()), asyncio.create_task(works())]
    await settled()
    assert order == ["quick"]
    slow.set()
    await asyncio.gather(*tasks)
    assert order == ["quick", "slow"]
    assert len(queue) == 0


async def test_many_that_wait_for_what_one_of_them_fetches_do_not_lock_each_other_out() -> None:
    queue, answer = FairQueue(2), asyncio.Event()
    fetching: list[asyncio.Task[None]] = []

    async def fetch() -> None:
        async with paused():
            await answer.wait()

    async def one() -> None:
        async with request(queue, "a"):
            if not fetching:
                fetching.append(asyncio.create_task(fetch()))
            await asyncio.shield(fetching[0])

    tasks = [asyncio.create_task(one()) for _ in range(10)]
    await settled()
    answer.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert len(queue) == 0


async def test_a_task_that_outlives_its_request_gives_nothing_back_twice() -> None:
    queue, go = FairQueue(1), asyncio.Event()

    async def later() -> None:
        await go.wait()
        async with paused():
            await asyncio.sleep(0)
        async with paused(in_turn=True):
            await asyncio.sleep(0)

    async with request(queue, "a"):
        task = asyncio.create_task(later())
    go.set()
    await task
    assert len(queue) == 0


@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from(["work", "pause", "turn", "children", "cancel", "fail"])
        ),
        max_size=30,
    ),
    at_once=st.integers(1, 3),
)
async def test_in_the_end_nothing_is_held(acts: list[tuple[str, str]], at_once: int) -> None:
    queue = FairQueue(at_once)

    async def child() -> None:
        async with paused():
            await asyncio.sleep(0)

    async def one(key: str, act: str) -> None:
        async with request(queue, key):
            await asyncio.sleep(0)
            if act == "children":
                await asyncio.gather(child(), child(), child())
            elif act in ("pause", "turn"):
                async with paused(in_turn=act == "turn"):
                    await asyncio.sleep(0)
            elif act == "fail":
                async with paused():
                    raise ValueError
            elif act == "cancel":
                async with paused(in_turn=True):
                    await asyncio.sleep(60)

    tasks = [asyncio.create_task(one(*act)) for act in acts]
    for _ in range(3):
        await asyncio.sleep(0)
    for task, (_, act) in zip(tasks, acts, strict=True):
        if act == "cancel":
            task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert len(queue) == 0
    assert not queue._working, queue._working
    assert not queue._waiting, queue._waiting
