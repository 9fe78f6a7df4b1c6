"""Whether a worker that does not answer hangs, or has only not had its turn yet.

Both look the same to whoever waits for an answer. So the kernel is asked what the process did meanwhile: on a busy machine
it stood in the queue for a processor or waited for a disk; one that hangs stood still, or computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What the kernel says of a process's main thread: seconds it has computed and queued so far, and its state."""

    at: float
    computed: float
    queued: float
    state: str
    """R, S, D (disk), T (stopped), t (held by a debugger), Z. See proc(5)."""

    @classmethod
    def of_process(cls, pid: int, at: float) -> ProcessSample | None:
        """Now, `at` by the caller's clock; None if there is no such process, or the kernel does not tell."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            computed, queued, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        except (OSError, ValueError):
            return None
        # The name in parentheses may hold anything.
        return cls(at, int(computed) / 1e9, int(queued) / 1e9, stat.rpartition(")")[2].split()[0])


@dataclass(frozen=True, slots=True)
class HangLimits:
    """Seconds without an answer after which a worker counts as hung, if it did nothing else in them."""

    standing: float = 10.0
    computing: float = 30.0
    waiting: float = 120.0
    """For a processor or a disk, or for the debugger that holds it."""

    def used(self, before: ProcessSample, now: ProcessSample, longest: float) -> float:
        """How much of all limits is used up by what it did between two looks; counts `longest` seconds at most."""
        seconds = max(now.at - before.at, 0.001)
        computed = min(max(now.computed - before.computed, 0.0), seconds)
        queued = min(max(now.queued - before.queued, 0.0), seconds - computed)
        still = self.waiting if now.state in "Dt" else self.standing
        parts = computed / self.computing + queued / self.waiting + (seconds - computed - queued) / still
        return parts * min(1.0, longest / seconds)


WHEN_SERVING = HangLimits()
WHEN_STARTING = HangLimits(standing=60.0, computing=300.0, waiting=600.0)
"""Before its first answer: programs are read from the disk, and caches are cold."""


class UnansweredTime:
    """Follows one worker. Call `look` once a second for as long as a question is unanswered.

    What counts is how often it was looked at: if we ourselves stood still, or the whole machine did, that is one look, and
    the worker gets the rest of its time.
    """

    def __init__(
        self, work: HangLimits = WHEN_SERVING, start: HangLimits = WHEN_STARTING, *, every: float = 1.0
    ) -> None:
        """`every`: seconds between looks, the most that one look counts."""
        self._work = work
        self._start = start
        self._every = every
        self._has_answered = False
        self._before: ProcessSample | None = None
        self._used = 0.0

    @property
    def noticeable(self) -> bool:
        """Whether it has been silent so long that those who ask for the server's health should hear of it."""
        return self._has_answered and self._used > 0.25

    def answered(self) -> None:
        """It lives."""
        self._has_answered = True
        self._before = None
        self._used = 0.0

    def sample(self, now: ProcessSample | None) -> bool:
        """One more look without an answer; true when it hangs."""
        before, self._before = self._before, now
        if now is not None and before is not None:
            limits = self._work if self._has_answered else self._start
            self._used += limits.used(before, now, self._every)
        elif now is None:
            self._used += self._every / self._work.waiting
        return self._used > 1.0
