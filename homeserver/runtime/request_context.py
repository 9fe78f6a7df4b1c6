"""The request that code runs for, wherever it is: so that a log line names it, and its work can be counted.

Owns one context variable. A request runs in a task of its own, so what is set there reaches whatever it calls, and
nothing else.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol


class Pausable(Protocol):
    """See `fair_queue.Place`."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def resume_in_turn(self) -> None: ...


class RequestContext(Protocol):
    """What a request lets others know and count; `web.request.RequestInfo` is one."""

    db_queries: int
    """Flights of statements sent to the database."""

    place: Pausable | None
    """What it has of the queue that keeps one user from delaying the others; None: it is in none."""

    @property
    def request_id(self) -> str:
        """How log lines name the request."""
        ...


current: ContextVar[RequestContext | None] = ContextVar("atrium_request", default=None)
"""The request this task runs for; None in background work."""


def count_query() -> None:
    """One more flight of statements."""
    if (context := current.get()) is not None:
        context.db_queries += 1


def add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: every line that is written for a request carries its id."""
    if (context := current.get()) is not None:
        event.setdefault("request_id", context.request_id)
    return event
