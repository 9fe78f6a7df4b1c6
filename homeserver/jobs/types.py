"""What a job is: its kind, its payload, how it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from homeserver.matrix.errors import Unavailable

P = TypeVar("P", bound=msgspec.Struct)

MAX_PAYLOAD: Final = 64 * 1024
"""Bytes of JSON. What is larger is stored by the feature and named by the payload."""
_MAX_DOUBLINGS: Final = 64


class TryLater(Exception):
    """A handler says that it may go well later, and why, without values: the text is logged and kept."""


class GiveUp(Exception):
    """A handler says that trying again cannot help, and why, without values: the text is logged and kept."""


class TooManyJobs(Unavailable):
    """So many jobs of the kind wait that no more are taken."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Pauses in seconds: `first`, then `factor` times the one before, at most `longest`; `attempts` None: for ever."""

    first: float = 1.0
    factor: float = 2.0
    longest: float = 900.0
    attempts: int | None = None

    def pause(self, attempt: int) -> float | None:
        """After the attempt of that number (from 1 on) has failed. None: it was the last."""
        if self.attempts is not None and attempt >= self.attempts:
            return None
        try:
            return min(self.first * self.factor ** (attempt - 1), self.longest)
        except OverflowError:
            return self.longest


@dataclass(frozen=True, slots=True)
class JobKind(Generic[P]):
    """A declaration, one per kind; the name is for ever: it stands in the database."""

    name: str
    payload: type[P]
    """What a job carries: a msgspec struct. A field that is added later needs a default."""
    retry: Retry = Retry()
    at_once: int = 4
    """Jobs of the kind that one process does at the same time."""
    timeout: float = 60.0
    """Seconds an attempt may take."""
    most: int | None = None
    """Jobs that may wait; approximately: transactions under way do not see each other's. None: their keys bound them."""


class Claimed(NamedTuple):
    """A job that this process is on."""

    job_nid: int
    kind: str
    key: str | None
    payload: bytes
    version: int
    attempt: int
    """From 1 on."""
    age: float
    """Seconds since it was deferred first."""


class Backlog(NamedTuple):
    """What there is of a kind, in the whole cluster."""

    kind: str
    waiting: int
    """Not done yet, those under way and those that are scheduled included."""
    failed: int
    """Given up, and not forgotten yet."""
    overdue: float
    """Seconds that the longest waiting one could have been done; 0: there is none."""
