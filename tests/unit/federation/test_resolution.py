"""Where a server is, by its name, its well-known file and DNS."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from federation.ports import Unreachable
from federation.transport.names import HostPort, split_server_name
from federation.transport.resolution import ServerResolver
from federation.transport.routes import Target
from federation.transport.srv import LookupFailed, Record, Records, SrvTargets, in_order
from federation.transport.well_known import lifetime
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import FakeClock, FakeEntropy


class Dns:
    """Answers by name."""

    def __init__(self, records: Mapping[str, list[Record] | None]) -> None:
        self.records = dict(records)
        self.asked: list[str] = []
        self.ttl = 300.0

    async def srv(self, name: str) -> Records:
        self.asked.append(name)
        found = self.records.get(name, [])
        if found is None:
            raise LookupFailed("silent")
        return Records(found, self.ttl)


class Delegations:
    """Well-known files by host."""

    def __init__(self, delegated: Mapping[str, str]) -> None:
        self.delegated = delegated
        self.asked: list[str] = []

    async def find(self, _: str, host: str) -> HostPort | None:
        self.asked.append(host)
        return split_server_name(self.delegated[host]) if host in self.delegated else None


def resolver(
    delegated: Mapping[str, str] | None = None, records: Mapping[str, list[Record] | None] | None = None
) -> tuple[ServerResolver, Delegations, Dns]:
    files, dns = Delegations(delegated or {}), Dns(records or {})
    targets = SrvTargets(dns, FakeClock(), FakeEntropy())
    return ServerResolver(files, targets), files, dns  # type: ignore[arg-type]


FED, OLD = "_matrix-fed._tcp.", "_matrix._tcp."
A, B = Record(10, 0, 1001, "a.host"), Record(10, 0, 1002, "b.host")


ONE, TWO = "one.example", "two.example"


@pytest.mark.parametrize(
    ("name", "delegated", "records", "expected"),
    [
        # name, what its file says, SRV records: (step, host, port, Host, certificate)
        ("1.2.3.4", None, {}, ("1", "1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")),
        ("1.2.3.4:5", None, {}, ("1", "1.2.3.4", 5, "1.2.3.4:5", "1.2.3.4")),
        ("[::1]:5", None, {}, ("1", "::1", 5, "[::1]:5", "::1")),
        ("[::1]", None, {}, ("1", "::1", 8448, "[::1]", "::1")),
        ("one.example:5", "x", {FED + ONE: [A]}, ("2", "one.example", 5, "one.example:5", "one.example")),
        ("one.example", "9.9.9.9", {}, ("3.1", "9.9.9.9", 8448, "9.9.9.9", "9.9.9.9")),
        ("one.example", "9.9.9.9:7", {}, ("3.1", "9.9.9.9", 7, "9.9.9.9:7", "9.9.9.9")),
        ("one.example", "[::2]:7", {}, ("3.1", "::2", 7, "[::2]:7", "::2")),
        ("one.example", "two.example:7", {FED + TWO: [A]}, ("3.2", "two.example", 7, "two.example:7", "two.example")),
        ("one.example", "two.example", {FED + TWO: [A], OLD + TWO: [B]}, ("3.3", "a.host", 1001, TWO, TWO)),
        ("one.example", "two.example", {OLD + TWO: [B], FED + ONE: [A]}, ("3.4", "b.host", 1002, TWO, TWO)),
        ("one.example", "two.example", {FED + ONE: [A]}, ("3.5", "two.example", 8448, TWO, TWO)),
        ("one.example", None, {FED + ONE: [A], OLD + ONE: [B]}, ("4", "a.host", 1001, ONE, ONE)),
        ("one.example", None, {OLD + ONE: [B]}, ("5", "b.host", 1002, ONE, ONE)),
        ("one.example", None, {}, ("6", "one.example", 8448, ONE, ONE)),
        ("one.example", None, {FED + ONE: None, OLD + ONE: None}, ("6", "one.example", 8448, ONE, ONE)),
    ],
)  # fmt: skip
async def test_the_order_of_the_specification(
    name: str, delegated: str | None, records: dict[str, Any], expected: tuple[str, str, int, str, str]
) -> None:
    """DISC-04, DISC-05"""
    finder, files, dns = resolver({"one.example": delegated} if delegated else {}, records)
    route = await finder.resolve(ServerName(name))
    step, host, port, host_header, tls_name = expected
    assert (route.step, route.targets) == (step, (Target(host, port),))
    assert (route.host_header, route.tls_name) == (host_header, tls_name)
    if step in {"1", "2"}:
        assert not files.asked
        assert not dns.asked


async def test_dns_may_say_that_a_server_is_nowhere() -> None:
    """RFC 2782: a target of `.`; DISC-04"""
    finder, _, _ = resolver(records={FED + "one.example": [Record(0, 0, 0, "")]})
    with pytest.raises(Unreachable):
        await finder.resolve(ServerName("one.example"))


async def test_records_are_asked_for_again_when_their_time_is_over() -> None:
    dns, clock = Dns({FED + "one.example": [A]}), FakeClock()
    targets = SrvTargets(dns, clock, FakeEntropy())
    for _ in range(3):
        assert await targets.find("_matrix-fed", "one.example") == (Target("a.host", 1001),)
    assert len(dns.asked) == 1
    await clock.advance(301)
    dns.records[FED + "one.example"] = None
    # DNS is silent: what it said last holds on, and it is not asked at each request.
    for _ in range(3):
        assert await targets.find("_matrix-fed", "one.example") == (Target("a.host", 1001),)
    assert len(dns.asked) == 2


class SlowDns(Dns):
    """Answers when it is told to."""

    def __init__(self, records: Mapping[str, list[Record] | None]) -> None:
        super().__init__(records)
        self.may: dict[str, asyncio.Event] = {}

    async def srv(self, name: str) -> Records:
        found = await super().srv(name)
        await self.may.setdefault(name, asyncio.Event()).wait()
        return found

    async def was_asked(self, count: int) -> None:
        """When so many questions wait."""
        async with asyncio.timeout(20):
            while len(self.may) < count:  # noqa: ASYNC110  # nothing else goes on
                await asyncio.sleep(0)


@pytest.mark.parametrize("first", [FED, OLD])
async def test_both_services_are_asked_at_once_and_the_newer_one_counts(first: str) -> None:
    """DISC-04: whichever is answered first."""
    dns = SlowDns({FED + ONE: [A], OLD + ONE: [B]})
    targets = SrvTargets(dns, FakeClock(), FakeEntropy())
    resolving = asyncio.ensure_future(
        ServerResolver(Delegations({}), targets).resolve(ServerName(ONE))  # type: ignore[arg-type]
    )
    await dns.was_asked(2)
    dns.may[first + ONE].set()
    if first == OLD:
        await asyncio.sleep(0)
        assert not resolving.done()
        dns.may[FED + ONE].set()
    route = await resolving
    assert (route.step, route.targets) == ("4", (Target("a.host", 1001),))
    await targets.close()


async def test_the_older_service_counts_where_the_newer_one_is_silent() -> None:
    """What DNS does not answer is no record."""
    dns = SlowDns({FED + ONE: None, OLD + ONE: [B]})
    targets = SrvTargets(dns, FakeClock(), FakeEntropy())
    finder = ServerResolver(Delegations({}), targets)  # type: ignore[arg-type]
    resolving = asyncio.ensure_future(finder.resolve(ServerName(ONE)))
    await dns.was_asked(1)
    dns.may[OLD + ONE].set()
    assert (await resolving).targets == (Target("b.host", 1002),)
    await targets.close()


async def test_at_most_some_targets_are_tried() -> None:
    dns = Dns({FED + "one.example": [Record(n % 7, 1, 1 + n, f"h{n}.host") for n in range(500)]})
    found = await SrvTargets(dns, FakeClock(), FakeEntropy()).find("_matrix-fed", "one.example")
    assert len(found) == 8


records = st.lists(
    st.builds(Record, st.integers(0, 3), st.integers(0, 5), st.integers(1, 65535), st.just("h")), max_size=12
)


@given(records, st.integers())
def test_each_record_once_and_by_priority(given_records: list[Record], seed: int) -> None:
    ordered = in_order(given_records, FakeEntropy(seed))
    assert sorted(ordered) == sorted(given_records)
    assert [each.priority for each in ordered] == sorted(each.priority for each in given_records)


def test_weights_count() -> None:
    heavy, light = Record(0, 90, 1, "heavy"), Record(0, 10, 1, "light")
    first = [in_order([light, heavy], FakeEntropy(seed))[0].host for seed in range(400)]
    assert 300 < first.count("heavy") < 395


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 86_400),
        ({"Cache-Control": "max-age=3600"}, 3600),
        ({"Cache-Control": "public, Max-Age=7200"}, 7200),
        ({"Cache-Control": 'max-age="7200"'}, 7200),
        ({"Cache-Control": "max-age=9999999999999999999"}, 172_800),
        ({"Cache-Control": "max-age=1"}, 300),
        ({"Cache-Control": "max-age=-1"}, 86_400),
        ({"Cache-Control": "no-store"}, 300),
        ({"Cache-Control": "no-cache, max-age=5000"}, 300),
        ({"Expires": "Thu, 01 Jan 2026 02:00:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 7200),
        ({"Expires": "0", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 300),
        ({"Expires": "Thu, 01 Jan 1970 00:00:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 300),
    ],
)
def test_how_long_a_well_known_file_holds(headers: dict[str, str], seconds: float) -> None:
    """DISC-07: by its headers, a day without them, two days at the most"""
    assert lifetime(CIMultiDict(headers)) == seconds


@given(st.dictionaries(st.sampled_from(["Cache-Control", "Expires", "Date"]), st.text(max_size=40)))
def test_whatever_the_headers_say(headers: dict[str, str]) -> None:
    assert 300 <= lifetime(CIMultiDict(headers)) <= 172_800
