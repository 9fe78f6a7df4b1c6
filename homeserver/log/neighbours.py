"""The other processes of this host, as the writer and the tail see them. See `log.host`, which has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from homeserver.log.entries import Append, Entry, Position, Written

Waiting = tuple[Append, "asyncio.Future[range]"]
"""An append, and who waits for it."""


class Neighbours(Protocol):
    """The other processes of this host (`log.host`)."""

    @property
    def told(self) -> bool:
        """Whether one of them tells this process of everything that is written."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nobody but them writes to the log, commands aside."""
        ...

    def newest(self) -> Position:
        """The newest position that any of them has seen."""
        ...

    def seen(self, position: Position) -> None:
        """This process has seen everything up to there."""
        ...

    def pull(self, position: Position) -> None:
        """Somebody here waits for that position: see at once what has been told."""
        ...

    def disbelieve(self, position: Position) -> None:
        """The log does not go as far as `newest` has said."""
        ...

    def own(self, origin: bytes, position: Position, written: Entry | None) -> Written[Any] | None:
        """An entry of this process that another one has written, if it is still waited for here. `written`: see `Sink.adopt`."""
        ...


class Delegate(Protocol):
    """The process of this host that writes for the others (`log.host`), as this one sees it."""

    @property
    def notifies(self) -> bool:
        """Whether somebody must be told by the database of what is written here."""
        ...

    @property
    def busy(self) -> bool:
        """Whether appends that were handed over are not answered yet."""
        ...

    async def hand_over(self, waiting: deque[Waiting]) -> int:
        """Take from the front what that process is to write. Returns how many of what is then at the front this process
        has to write itself, now; 0: look again.
        """
        ...

    def writing(self, accepted: Sequence[Append]) -> None:
        """These are about to be committed at their positions."""
        ...
