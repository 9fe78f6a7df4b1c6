"""Asking push gateways, and leaving those alone that do not answer.

spec: push-gateway-api/ op:notify
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import structlog
from yarl import URL

from homeserver.log.readers.types import NotNow
from homeserver.matrix import json
from homeserver.runtime.clock import Clock, Entropy
from homeserver.web.outbound import Answer, HttpRequest, Outbound, OutboundError, Purpose

log = structlog.get_logger(__name__)

TIMEOUT: Final = 10.0
"""Seconds that a gateway may take."""
MAX_ANSWER: Final = 64 * 1024
FAILURES: Final = 8
"""In a row, of whomever, after which nobody asks a gateway for a while."""
FIRST_REST, LONGEST_REST, JITTER = 1.0, 300.0, 0.25
"""Seconds for which it is left alone: doubled each time, each up to `JITTER` longer."""
QUICK: Final = 1.0
"""Seconds within which a gateway answers, on average of its last requests, that shares places with others of that kind."""
WEIGHT: Final = 1 / 8
"""Of the last request in that average."""
MAX_GATEWAYS: Final = 1_000
"""Of which it is remembered how they do."""


class NotTaken(Exception):
    """The gateway did not take a notification; its text is fit for a log."""


class TooLarge(Exception):
    """The gateway answers, but takes no notification of this size."""


@dataclass(slots=True)
class Gateway:
    """How it is with a gateway, as this process knows it."""

    failures: int = 0
    """In a row, of those that were begun while it was not left alone."""
    until: float = 0.0
    """Left alone until then, on the monotonic clock."""
    rests: int = 0
    """How often it was left alone since it answered last."""
    seconds: float | None = None
    """That requests to it take, on average; None: it was asked nothing yet."""

    def took(self, seconds: float) -> None:
        """A request has ended, however."""
        self.seconds = seconds if self.seconds is None else self.seconds + WEIGHT * (seconds - self.seconds)

    @property
    def away(self) -> bool:
        """Whether it was given up for the moment: one asks, the others wait for what becomes of it."""
        return self.failures >= FAILURES


class Gateways:
    """All gateways this process asks, by origin."""

    def __init__(self, outbound: Outbound, clock: Clock, entropy: Entropy) -> None:
        self._outbound = outbound
        self._clock = clock
        self._entropy = entropy
        self._known: OrderedDict[str, Gateway] = OrderedDict()
        self.back = asyncio.Event()
        """A gateway answers again that did not: whoever waits for it is to be tried again."""
        self.recovered = False
        """Whether that was so since somebody set it to False."""
        self.taken = self.failed = self.rejected = 0

    @property
    def away(self) -> int:
        """How many are left alone."""
        return sum(gateway.away for gateway in self._known.values())

    def may_be_slow(self, url: str) -> bool:
        """Whether it takes long to answer, or may: of one that was not asked yet nobody knows."""
        gateway = self._known.get(_origin(url))
        return gateway is None or gateway.seconds is None or gateway.seconds > QUICK

    def check(self, url: str) -> None:
        """Whether it may be asked now. Raises `NotNow`."""
        gateway, now = self._gateway(url), self._clock.monotonic()
        if now < gateway.until:
            wait = gateway.until - now
            raise NotNow(wait + self._entropy.uniform(0, max(1.0, JITTER * wait)))
        if (
            gateway.away
        ):  # the others wait for what becomes of this one, but not long where it was not away for long
            gateway.until = now + min(TIMEOUT, _rest(gateway.rests))

    async def notify(self, url: str, body: bytes) -> Sequence[str]:
        """Send one notification. Returns the pushkeys that it rejects. Raises `NotTaken`, `NotNow`, `TooLarge`."""
        gateway = self._gateway(url)
        rests = gateway.rests
        request = HttpRequest(
            method="POST",
            url=url,
            headers={"Content-Type": "application/json"},
            body=body,
            max_bytes=MAX_ANSWER,
            timeout=TIMEOUT,
        )
        began = self._clock.monotonic()
        try:
            answer = await self._outbound.request(Purpose.PUSH, request)
        except OutboundError as error:
            self._has_failed(url, gateway, rests)
            raise NotTaken(str(error)) from None
        except asyncio.CancelledError:
            self._has_failed(url, gateway, rests)
            raise
        finally:
            gateway.took(self._clock.monotonic() - began)
        if answer.status == 429:
            self._is_busy(gateway, answer)
        if answer.status == 413:  # that is about this notification: others are taken
            self.failed += 1
            self._has_answered(url, gateway)
            raise TooLarge
        if answer.status != 200:
            self._has_failed(url, gateway, rests)
            raise NotTaken(f"it answered {answer.status}")
        self.taken += 1
        self._has_answered(url, gateway)
        rejected = _rejected(answer.body)
        self.rejected += len(rejected)
        return rejected

    def _gateway(self, url: str) -> Gateway:
        origin = _origin(url)
        gateway = self._known.get(origin)
        if gateway is None:
            gateway = self._known[origin] = Gateway()
            if len(self._known) > MAX_GATEWAYS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(origin)
        return gateway

    def _has_answered(self, url: str, gateway: Gateway) -> None:
        if gateway.away:
            log.info("push.gateway_back", gateway=URL(url).host)
            self.recovered = True
            self.back.set()
        gateway.failures, gateway.until, gateway.rests = 0, 0.0, 0

    def _has_failed(self, url: str, gateway: Gateway, rests: int) -> None:
        """`rests`: of the gateway when it was asked; others that were under way then may have failed before."""
        self.failed += 1
        if rests != gateway.rests:
            return
        gateway.failures += 1
        if gateway.away:
            rest = _rest(gateway.rests)
            gateway.until = self._clock.monotonic() + rest * (1 + self._entropy.uniform(0, JITTER))
            gateway.rests += 1
            if gateway.rests == 1:
                log.warning("push.gateway_away", gateway=URL(url).host)

    def _is_busy(self, gateway: Gateway, answer: Answer) -> None:
        """It asks to be left alone. spec: RFC 9110 10.2.3. Raises `NotNow`."""
        said = answer.headers.get("Retry-After", "")
        seconds = float(said) if said.isascii() and said.isdigit() and len(said) < 6 else FIRST_REST
        seconds = min(max(seconds, FIRST_REST), LONGEST_REST)
        gateway.until = max(gateway.until, self._clock.monotonic() + seconds)
        raise NotNow(seconds + self._entropy.uniform(0, max(1.0, JITTER * seconds)))


@lru_cache(maxsize=4096)
def host_of(url: str) -> str:
    """The host that answers for a gateway."""
    return URL(url).host or ""


@lru_cache(maxsize=4096)
def _origin(url: str) -> str:
    return str(URL(url).origin())


def _rest(rests: int) -> float:
    """Seconds for which a gateway is left alone that was so often before."""
    return min(FIRST_REST * 2.0 ** min(rests, 16), LONGEST_REST)


def _rejected(body: bytes) -> list[str]:
    """What an answer rejects; nothing if it is not as the specification has it."""
    try:
        said = json.loads(body)
    except ValueError:
        return []
    rejected = said.get("rejected") if isinstance(said, dict) else None
    return [each for each in rejected if isinstance(each, str)] if isinstance(rejected, list) else []
