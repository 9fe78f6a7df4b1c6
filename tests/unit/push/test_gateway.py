"""Leaving gateways alone that do not answer: in number of requests, whatever happens meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from homeserver.log.readers.types import NotNow
from homeserver.push.pushers.content import badge_body, groups
from homeserver.push.pushers.gateway import FAILURES, LONGEST_REST, TIMEOUT, Gateways, NotTaken
from homeserver.push.pushers.types import Details, Pusher
from homeserver.runtime.clock import FakeClock, FakeEntropy
from homeserver.web.outbound import Unreachable

URL = "https://push.example.com/_matrix/push/v1/notify"
OTHER = "https://other.example.com/_matrix/push/v1/notify"


class Asked:
    """In place of `Outbound`: answers what it is told to."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.body = b"{}"
        self.headers: dict[str, str] = {}
        self.count = 0

    async def request(self, _purpose: Any, _request: Any) -> Any:
        self.count += 1
        if self.status is None:
            raise Unreachable("push.example.com: TimeoutError")
        return SimpleNamespace(status=self.status, body=self.body, headers=self.headers)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gateways(asked: Asked, clock: FakeClock) -> Gateways:
    return Gateways(asked, clock, FakeEntropy())  # type: ignore[arg-type]


async def ask(gateways: Gateways, url: str = URL) -> str:
    try:
        gateways.check(url)
        await gateways.notify(url, b"{}")
    except NotNow:
        return "not now"
    except NotTaken:
        return "failed"
    return "taken"


async def test_a_dead_gateway_costs_a_request_now_and_then(
    gateways: Gateways, asked: Asked, clock: FakeClock
) -> None:
    """Ten thousand who want to tell it something in an hour; another one is asked as ever."""
    asked.status = None
    assert [await ask(gateways) for _ in range(FAILURES)] == ["failed"] * FAILURES
    assert await ask(gateways) == "not now"
    assert gateways.away == 1
    for _ in range(10_000):
        await clock.advance(0.36)
        await ask(gateways)
    assert asked.count < FAILURES + 9 + 3600 / LONGEST_REST + 1
    asked.status = 200
    assert await ask(gateways, OTHER) == "taken"
    await clock.advance(2 * LONGEST_REST)
    assert await ask(gateways) == "taken"
    assert gateways.recovered
    assert gateways.back.is_set()
    assert gateways.away == 0


async def test_one_finds_out_whether_it_is_back(gateways: Gateways, asked: Asked, clock: FakeClock) -> None:
    asked.status = 502
    for _ in range(FAILURES):
        await ask(gateways)
    await clock.advance(LONGEST_REST)
    gateways.check(URL)  # one asks …
    with pytest.raises(NotNow) as wait:
        gateways.check(URL)  # … the others wait for what becomes of it
    assert 0 < wait.value.seconds <= TIMEOUT + 3


async def test_one_that_answers_now_and_then_is_asked(gateways: Gateways, asked: Asked) -> None:
    """A success ends the row."""
    for number in range(40):
        asked.status = 200 if number % FAILURES == 0 else 500
        assert await ask(gateways) == ("taken" if number % FAILURES == 0 else "failed")


async def test_it_can_ask_to_be_left_alone(gateways: Gateways, asked: Asked, clock: FakeClock) -> None:
    """429 with `Retry-After`, as far as that is reasonable."""
    for said, within in (("7", (7, 12)), ("99999", (LONGEST_REST, LONGEST_REST * 1.3)), ("soon", (1, 3))):
        asked.status, asked.headers = 429, {"Retry-After": said}
        with pytest.raises(NotNow) as wait:
            await gateways.notify(URL, b"{}")
        assert within[0] <= wait.value.seconds <= within[1]
        assert await ask(gateways) == "not now"
        await clock.advance(2 * LONGEST_REST)


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b'{"rejected":["a",1,null]}', ["a"]),
        (b'{"rejected":{"a":1}}', []),
        (b"[]", []),
        (b"<html>", []),
        (b"", []),
    ],
)
async def test_strange_answers_reject_nobody(
    gateways: Gateways, asked: Asked, body: bytes, rejected: list[str]
) -> None:
    asked.body = body
    assert await gateways.notify(URL, b"{}") == rejected


def test_devices_are_told_together_where_the_gateway_can() -> None:
    """By format; pushkeys that are URLs, as UnifiedPush has them, one by one."""

    def pusher(pushkey: str, **data: Any) -> Pusher:
        details = Details("App", "Phone", "en", data)
        return Pusher(1, "app", pushkey, "http", "D", True, 5_000, URL, details)

    first, second, whole = (
        pusher("a", format="event_id_only"),
        pusher("b", format="event_id_only"),
        pusher("c"),
    )
    alone = [pusher(f"https://ntfy.example.com/{n}", format="event_id_only") for n in range(2)]
    assert groups([first, whole, *alone, second]) == [[first, second], [whole], [alone[0]], [alone[1]]]
    assert b'"counts":{"unread":0}' in badge_body([first], 0)
