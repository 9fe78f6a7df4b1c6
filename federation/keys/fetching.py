"""Fetching the keys of another server: once for all who wait, and not again soon if it fails.

spec: server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import structlog

from federation.keys.responses import BadKeys, judge
from federation.keys.types import Keys, ServerKeys
from federation.ports import Ask, Client, RemoteFault
from federation.transport.once import Once, TooMany
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
"""Servers whose keys are fetched at the same time: anybody can name one."""
MAX_UNDER_WAY: Final = 2000
"""Servers that are waited for; what is asked beyond is told that there are no keys."""
SECONDS: Final = 10.0
MAX_BYTES: Final = 128 * 1024
FIRST_PAUSE_MS: Final = 30_000
LONGEST_PAUSE_MS: Final = 3_600_000
FRESH_MS: Final = 60_000
"""What a server has told in the last minute is not asked for again."""
MAX_REMEMBERED: Final = 20_000
"""Servers of which it is remembered when they were asked."""


class _Outcome(NamedTuple):
    """When a server was asked last, and how often in a row in vain."""

    not_before_ms: int
    failures: int


Take = Callable[[ServerKeys], Awaitable[Keys]]
"""Remembers what a server has told; all that is known of its keys then."""


class KeyFetcher:
    """Asks servers for their keys."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._under_way: Once[ServerName, Keys | None] = Once(MAX_UNDER_WAY)
        self._outcomes: dict[ServerName, _Outcome] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.attempts = 0
        """Requests made, for the metrics."""

    async def fetch(self, server_name: ServerName, take: Take) -> Keys | None:
        """Its keys, anew, and what `take` knew; None if they cannot be had, or were asked for a moment ago: what was told then
        has been taken. Raises what `take` does.
        """
        outcome = self._outcomes.get(server_name)
        if outcome is not None and self._clock.now_ms() < outcome.not_before_ms:
            return None
        try:
            return await self._under_way.run(server_name, lambda: self._ask(server_name, take))
        except TooMany:
            return None

    async def close(self) -> None:
        """End what is under way."""
        await self._under_way.close()

    async def _ask(self, server_name: ServerName, take: Take) -> Keys | None:
        async with self._turns:
            self.attempts += 1
            try:
                ask = Ask(
                    method="GET",
                    path=("_matrix", "key", "v2", "server"),
                    timeout=SECONDS,
                    max_bytes=MAX_BYTES,
                )
                answer = await self._client.ask(server_name, ask, dict[str, Any])
                keys = await asyncio.to_thread(judge, answer, server_name, self._clock.now_ms())
            except (RemoteFault, BadKeys) as error:
                self._failed(server_name, str(error))
                return None
        known = await take(keys)
        self._note(server_name, _Outcome(self._clock.now_ms() + FRESH_MS, 0))
        return known

    def _failed(self, server_name: ServerName, problem: str) -> None:
        before = self._outcomes.get(server_name)
        failures = 1 if before is None else before.failures + 1
        pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(failures - 1, 20))
        self._note(server_name, _Outcome(self._clock.now_ms() + pause, failures))
        _log.info("federation.keys_not_fetched", server=server_name, problem=problem, failures=failures)

    def _note(self, server_name: ServerName, outcome: _Outcome) -> None:
        self._outcomes.pop(server_name, None)
        self._outcomes[server_name] = outcome
        if len(self._outcomes) > MAX_REMEMBERED:
            del self._outcomes[next(iter(self._outcomes))]
