"""Long computations take turns, one in each turn of the event loop."""

import asyncio
from collections.abc import Collection

from homeserver.runtime.turns import in_turns, merged, next_turn, pieces


async def test_who_needs_little_waits_for_one_piece_however_many_compute() -> None:
    done = 0

    async def compute() -> None:
        nonlocal done
        for _ in range(5):
            await next_turn()
            done += 1

    computing = [asyncio.create_task(compute()) for _ in range(100)]
    await asyncio.sleep(0)  # they have begun
    between = []
    while not all(task.done() for task in computing):
        before = done
        await asyncio.sleep(0)
        between.append(done - before)
    assert max(between) == 1
    assert done == 500


async def test_they_go_on_one_after_the_other() -> None:
    order: list[str] = []

    async def compute(name: str) -> None:
        for _ in range(3):
            await next_turn()
            order.append(name)

    await asyncio.gather(*map(compute, "abc"))
    assert order == [*"abc"] * 3


async def test_who_is_cancelled_while_waiting_holds_up_nobody() -> None:
    waiting = [asyncio.create_task(next_turn()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in waiting[:3]:
        task.cancel()
    await asyncio.wait_for(waiting[3], 60)
    await asyncio.wait_for(next_turn(), 60)


def test_pieces() -> None:
    assert list(pieces(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(pieces([], 2)) == []


async def test_others_have_a_turn_between_parts() -> None:
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    seen = [(part, others) async for part in in_turns("abc")]
    counting.cancel()
    assert [part for part, _ in seen] == [*"abc"]
    assert seen[0][1] == 0, "one part is not waited for"
    assert seen[0][1] < seen[1][1] < seen[2][1]


async def test_what_is_asked_for_some_at_a_time_is_put_together() -> None:
    asked: list[int] = []

    async def find(numbers: Collection[int]) -> dict[int, str]:
        asked.append(len(numbers))
        return {number: str(number) for number in numbers if number != 3}

    assert await merged({1, 2, 3}, 3, find) == {1: "1", 2: "2"}
    assert await merged(range(7), 3, find) == {number: str(number) for number in range(7) if number != 3}
    assert await merged((), 3, find) == {}
    assert asked == [3, 3, 3, 1, 0]
