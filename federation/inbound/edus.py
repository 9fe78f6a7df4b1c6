"""EDUs of other servers, each to the handler of its type.

What is malformed, or not for its origin to say, is dropped without harm to others; what a handler cannot do because the database
is away is not acknowledged, so that it comes again.

spec: server-server-api/#edus (FED-29)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import psycopg
import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.matrix.errors import MatrixError, Unavailable
from homeserver.matrix.ids import ServerName
from homeserver.runtime.causes import Causes
from homeserver.storage.errors import StorageError

_log = structlog.get_logger("atrium.federation.inbound")

MAX_BYTES: Final = 1 << 20
"""Of one EDU."""
TIMEOUT: Final = 15.0
"""Seconds for one EDU."""

Rest = Callable[[], Awaitable[None]]
"""What is to be done when all EDUs of the transaction were looked at: called for one after the other, in their order, it takes its
place in what is to be written, and what it returns is over when that is written. So all are written together."""

EduHandler = Callable[[ServerName, Mapping[str, Any]], Awaitable[Rest | None]]
"""Called with who has sent it (its signature was checked) and the content, as that server wrote it; once, or again where an
answer was lost. It looks at every user and room itself: the origin may speak for its own users alone.

Returns when it is done or durably noted, or with the rest that has to be done. Both raise `InvalidEdu` for what cannot be
taken (it is dropped), `Unavailable`, `StorageError` or what the database says where the origin should send it again."""


class InvalidEdu(Exception):
    """An EDU that nothing can be done with; the text is fit for a log."""


class _Edu(msgspec.Struct):
    edu_type: str
    content: dict[str, Any]


_decode = msgspec.json.Decoder(_Edu).decode


class EduDispatcher(Collector):
    """Handlers by type; counts what comes. Built once, before requests are answered."""

    def __init__(self) -> None:
        self._handlers: dict[str, EduHandler] = {}
        self._causes: dict[str, Causes] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def register(self, edu_type: str, handler: EduHandler) -> None:
        """Who takes EDUs of a type; one for each."""
        assert edu_type not in self._handlers, "two handlers for one type"
        self._handlers[edu_type] = handler
        self._causes[edu_type] = Causes(_log, "inbound.edu_failed", edu_type=edu_type)

    async def dispatch(self, origin: ServerName, edus: Sequence[msgspec.Raw]) -> None:
        """Handle them in their order; all is done when it returns. Raises `Unavailable` where some have to come again."""
        left: list[tuple[_Edu, Rest]] = []
        for raw in edus:
            edu = self._read(origin, raw)
            if edu is not None:
                rest = await self._handle(origin, edu, self._handlers[edu.edu_type](origin, edu.content))
                if rest is not None:
                    left.append((edu, rest))
        ended = await asyncio.gather(
            *[self._handle(origin, edu, rest(), last=True) for edu, rest in left], return_exceptions=True
        )
        for each in ended:
            if isinstance(each, BaseException):
                raise each

    def _read(self, origin: ServerName, raw: msgspec.Raw) -> _Edu | None:
        """None for what nobody takes."""
        problem = "too large"
        if len(raw) <= MAX_BYTES:
            try:
                edu = _decode(raw)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                problem = "malformed"
            else:
                if edu.edu_type in self._handlers:
                    return edu
                self._counts["", "unknown"] += 1
                return None
        self._counts["", "dropped"] += 1
        _log.info("inbound.edu_dropped", origin=origin, reason=problem)
        return None

    async def _handle(
        self, origin: ServerName, edu: _Edu, work: Awaitable[Any], *, last: bool = False
    ) -> Rest | None:
        """Do a part of what an EDU asks for, `last`: the rest. Returns what is to be done besides."""
        kind, outcome = edu.edu_type, "failed"
        try:
            async with asyncio.timeout(TIMEOUT):
                rest: Rest | None = await work
            if rest is not None and not last:
                outcome = ""
                return rest
            outcome = "handled"
        except (InvalidEdu, MatrixError) as error:
            if isinstance(error, Unavailable):
                raise
            outcome = "dropped"
            _log.info("inbound.edu_dropped", origin=origin, edu_type=kind, reason=str(error)[:200])
        except (psycopg.OperationalError, psycopg.InterfaceError, StorageError, TimeoutError) as error:
            raise Unavailable("This cannot be taken for the moment, try again") from error
        except Exception as error:  # noqa: BLE001  # a fault of ours with one EDU must not hold up all that the origin sends
            self._causes[kind].tell(error)
        finally:
            if outcome:
                self._counts[kind, outcome] += 1
        return None

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        counted = CounterMetricFamily(
            "atrium_federation_edus_received", "EDUs of other servers", labels=("type", "outcome")
        )
        for (kind, outcome), count in self._counts.items():
            counted.add_metric((kind, outcome), count)
        yield counted
