"""Who has not answered lately, and until when it is left alone.

Owns the pauses in memory. spec: server-server-api/#transactions (CHECKLIST FED-43)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from federation.ports import BackingOff
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock, Entropy

FIRST_MS: Final = 10_000
"""The pause after the first failure."""
FACTOR: Final = 2
JITTER: Final = 0.2
"""By which part a pause is longer, at most, so that what failed together is not tried together."""
MOMENT_MS: Final = 5_000
"""For so long after a failure nobody is worth another attempt, not even a person who waits."""
HEARD_MS: Final = 60_000
"""Not more often than this a request *from* a server ends its pause: it may be able to speak and not to listen."""
MAX_ENTRIES: Final = 50_000
"""Destinations remembered; those that failed longest ago are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What is remembered of a destination that did not answer. Times in Unix ms."""

    failures: int
    """In a row."""
    since_ms: int
    """The first of them."""
    failed_ms: int
    """The last of them."""
    until_ms: int
    """When it is tried again."""
    problem: str


class Backoff:
    """The view of a process. `changed` is called with each destination whose pause begins, grows or ends; `eased` with each
    whose pause ends, or will sooner than it was said: what waits for it may go on.
    """

    def __init__(self, clock: Clock, entropy: Entropy, *, longest_ms: int) -> None:
        self._clock = clock
        self._entropy = entropy
        self._longest_ms = longest_ms
        self._pauses: dict[ServerName, Pause] = {}
        self._heard: dict[ServerName, int] = {}
        """Until when a request from a server has shortened its pause last, Unix ms; of those that have not answered since."""
        self.changed: Callable[[ServerName], None] = lambda _: None
        self.eased: Callable[[ServerName], None] = lambda _: None

    def __len__(self) -> int:
        return len(self._pauses)

    def of(self, destination: ServerName) -> Pause | None:
        """None: it has answered last time, or was never asked."""
        return self._pauses.get(destination)

    def require(self, destination: ServerName, *, long_retry: bool) -> None:
        """Raises `BackingOff` if it is not to be asked now. `long_retry`: see `Ask.long_retry`."""
        pause = self._pauses.get(destination)
        if pause is None:
            return
        until = pause.until_ms if long_retry else min(pause.until_ms, pause.failed_ms + MOMENT_MS)
        now = self._clock.now_ms()
        if now < until:
            left = (until - now) / 1000
            raise BackingOff(destination, f"not asked for another {left:.0f} s: {pause.problem}", left)

    def failed(self, destination: ServerName, problem: str) -> None:
        """It was asked and did not answer. Several attempts that were under way together count once."""
        now, before = self._clock.now_ms(), self._pauses.get(destination)
        if before is not None and now < min(before.failed_ms + MOMENT_MS, before.until_ms):
            return
        failures = 1 if before is None else before.failures + 1
        pause = min(self._longest_ms, FIRST_MS * FACTOR ** min(failures - 1, 30))
        until = now + round(pause * (1 + self._entropy.uniform(0, JITTER)))
        since = now if before is None else before.since_ms
        self._put(
            destination,
            Pause(failures=failures, since_ms=since, failed_ms=now, until_ms=until, problem=problem[:300]),
        )

    def succeeded(self, destination: ServerName) -> None:
        """It has answered."""
        self._heard.pop(destination, None)
        if destination in self._pauses:
            del self._pauses[destination]
            self.changed(destination)
            self.eased(destination)

    def heard_from(self, destination: ServerName) -> None:
        """It has asked us something, so it is alive: it may be tried at once, if the last time for this was a minute ago."""
        pause = self._pauses.get(destination)
        if pause is None:
            return
        soon = max(self._clock.now_ms(), self._heard.get(destination, 0) + HEARD_MS)
        if soon >= pause.until_ms:
            return
        self._heard.pop(destination, None)
        self._heard[destination] = soon
        if len(self._heard) > MAX_ENTRIES:
            del self._heard[next(iter(self._heard))]
        self._put(destination, replace(pause, until_ms=soon))
        self.eased(destination)

    def reset(self, destination: ServerName) -> None:
        """Whoever runs this server wants it tried again at once."""
        self.succeeded(destination)

    def learn(self, destination: ServerName, pause: Pause | None, at_ms: int) -> None:
        """What another process has found out at that moment (Unix ms). None: it has answered."""
        before = self._pauses.get(destination)
        if pause is None:
            if before is not None and before.failed_ms <= at_ms:
                del self._pauses[destination]
                self._heard.pop(destination, None)
        elif before is None or before.failed_ms <= pause.failed_ms:
            self._pauses.pop(destination, None)
            self._pauses[destination] = pause
            self._bound()

    def _put(self, destination: ServerName, pause: Pause) -> None:
        self._pauses.pop(destination, None)
        self._pauses[destination] = pause
        self._bound()
        self.changed(destination)

    def _bound(self) -> None:
        if len(self._pauses) > MAX_ENTRIES:
            del self._pauses[next(iter(self._pauses))]
