"""Watches how long the event loop of the servers under test stands still, in CPU time of its thread.

One turn of the loop (a callback, or one step of a task) that belongs to the server may take `LIMIT` seconds of CPU: whatever
takes longer holds up everybody. CPU time rather than time: a busy machine fails nobody. What the tests themselves compute on the
same loop (schemas, generated examples) is their own; so is the collection of garbage that tests have left.

Each turn's CPU is measured by the loop itself; a thread looks at the turn under way and keeps the stack of one that is over the
limit, so that the failure names the line.
"""

import asyncio
import contextlib
import faulthandler
import gc
import re
import tempfile
import threading
import time
import traceback
from asyncio import events
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import homeserver

LIMIT = 0.1
"""Seconds of CPU that one turn of the loop may take."""
_LOOK_EVERY = 0.02
_OURS = str(Path(homeserver.__file__).parent)
_FRAME = re.compile(r'  File "(.*)", line ([0-9]+) in (.*)')
_LOOP = (asyncio.__path__[0], threading.__file__, __file__)


@dataclass(frozen=True)
class Standstill:
    """A turn that took too long: how many seconds of CPU, and where it was."""

    seconds: float
    where: str

    def __str__(self) -> str:
        return f"the event loop stood still for {self.seconds * 1000:.0f} ms of CPU:\n{self.where}"


class Watchdog:
    """Of the loops of one thread. `take` gives what was seen since the last time."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self._thread = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._thread)
        self._began: float | None = None
        """CPU time at which the turn under way began; None between turns."""
        self._garbage = 0.0
        """CPU time that collecting all garbage took in this turn."""
        self._collecting = 0.0
        self._stack: str | None = None
        """Of the turn under way, once it is over the limit."""
        self._seen: list[Standstill] = []
        self.longest = 0.0
        """CPU of the longest turn of the server's; whoever looks for it sets it to 0. Of what is over the limit and in `take`,
        none is longer."""
        self._ending = threading.Event()

    def take(self) -> list[Standstill]:
        seen, self._seen = self._seen, []
        return seen

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Until the block ends."""
        run = events.Handle._run
        watchdog = self

        def timed(handle: events.Handle) -> None:
            if threading.get_ident() != watchdog._thread or watchdog._began is not None:
                run(handle)
                return
            watchdog._garbage, watchdog._stack = 0.0, None
            watchdog._began = time.thread_time()
            try:
                run(handle)
            finally:
                watchdog._turned(handle)

        thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        thread.start()
        gc.callbacks.append(self._collected)
        events.Handle._run = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            events.Handle._run = run  # type: ignore[method-assign]
            gc.callbacks.remove(self._collected)
            self._ending.set()
            thread.join()

    def _turned(self, handle: events.Handle) -> None:
        began, self._began = self._began, None
        assert began is not None
        spent = time.thread_time() - began - self._garbage
        if spent <= self.longest and spent <= self.limit:
            return
        where = self._stack if self._stack is not None else _name(handle)
        if where is None:
            return
        self.longest = max(self.longest, spent)
        if spent > self.limit:
            self._seen.append(Standstill(spent, where))

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if self._began is None or info["generation"] < 2 or threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._garbage += time.thread_time() - self._collecting

    def _look(self) -> None:
        while not self._ending.wait(_LOOK_EVERY):
            began = self._began
            if began is None or self._stack is not None:
                continue
            if time.clock_gettime(self._clock) - began - self._garbage > self.limit:
                stack = _stack_of(self._thread)
                if began == self._began:
                    self._stack = stack


def _stack_of(thread: int) -> str | None:
    """The server's part of the thread's stack; None if it is not the server's turn."""
    stack = _frames_of(thread)
    turn = _after_loop(stack)
    if turn is None or not turn.startswith(_OURS):
        return None
    frames = [each for each in stack if not each.filename.startswith(_LOOP)]
    first = next(number for number, each in enumerate(frames) if each.filename == turn)
    return "".join(traceback.format_list(frames[first:]))


def _frames_of(thread: int) -> list[traceback.FrameSummary]:
    """The newest hundred frames of a thread that runs on, the oldest first. Walked in Python, frames that end meanwhile may be
    anything, and the interpreter dies of it (3.11); `faulthandler` walks them while nobody else runs.
    """
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        threads = file.read().decode("ascii", "replace").split("\n\n")
    # A thread that is being started bears the number of the one that starts it, and has no frames yet.
    told = max((each for each in threads if f"hread 0x{thread:016x} " in each), key=len, default="")
    lines = [found for found in map(_FRAME.fullmatch, told.splitlines()) if found is not None]
    return [
        traceback.FrameSummary(file, int(line), name)
        for file, line, name in (each.groups() for each in lines)
    ][::-1]


def _after_loop(stack: Sequence[traceback.FrameSummary]) -> str | None:
    """The file that the loop has called: whose turn it is."""
    called = False
    for each in stack:
        if each.filename == __file__ and each.name == "timed":
            called = True
        elif called and not each.filename.startswith(_LOOP):
            return each.filename
    return None


def _name(handle: events.Handle) -> str | None:
    """What ran, if it was over before anybody looked, and the server's; None if it was not."""
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    code = getattr(callback, "__code__", None)
    if isinstance(owner, asyncio.Task):
        code = getattr(owner.get_coro(), "cr_code", None)
    if code is None or not code.co_filename.startswith(_OURS):
        return None
    return f'  File "{code.co_filename}", line {code.co_firstlineno}, in {code.co_qualname} (or what it called)\n'
