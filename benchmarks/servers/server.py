"""What every server under measurement has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peer import Meeting
from benchmarks.procfs import Watched


@dataclass(frozen=True)
class Server:
    """A homeserver that runs: what to call it, where it listens, which processes it consists of, how it is set up."""

    label: str
    url: str
    watched: Watched
    about: str
    name: str = ""
    """Its server name, `localhost:PORT`, by which other servers reach it; empty: it was not started here."""


@dataclass(frozen=True)
class Options:
    """What starting a server may need: a directory to work in, and where the interop environments are kept."""

    directory: Path
    environment: Path
    meeting: Meeting
    processes: int = 1
    label: str = "atrium"


Start = Callable[[Options], AbstractContextManager[Server]]
