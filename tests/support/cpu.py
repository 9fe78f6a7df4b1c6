"""CPU time of a piece of work, for tests that say how it grows.

Whatever else the process does counts, too, and so does the garbage collector, which walks over everything the more often the
less there is: a test that runs alone was slower for it. So it is off while something is measured, and what does not grow as
it should is measured again: noise comes and goes, another order of growth does not.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Awaitable, Callable, Iterator

TRIES = 3
SLACK = 2.5
"""By which factor a measurement may be off."""


class Spent:
    """CPU seconds, once the block has ended."""

    seconds = 0.0


@contextlib.contextmanager
def cpu_time() -> Iterator[Spent]:
    """Measure the block."""
    spent = Spent()
    gc.collect()
    gc.disable()
    began = time.process_time()
    try:
        yield spent
    finally:
        spent.seconds = time.process_time() - began
        gc.enable()


async def grows_linearly(measure: Callable[[int], Awaitable[float]], small: int, large: int) -> None:
    """AssertionError if work of the large size takes more than in proportion to that of the small one."""
    seen = []
    for _ in range(TRIES):
        short, long = await measure(small), await measure(large)
        if long < short * large / small * SLACK:
            return
        seen.append((short, long))
    raise AssertionError(f"{large / small:g} times as much takes {seen} s each time")


def least_cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread for a piece of work that does not become cheaper by having been done: the best of some tries."""
    seen = []
    for _ in range(TRIES):
        gc.disable()
        began = time.thread_time()
        try:
            work()
        finally:
            seen.append(time.thread_time() - began)
            gc.enable()
    return min(seen)
