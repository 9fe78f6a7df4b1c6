"""What another server answers is bounded in bytes, in time and in work."""

import asyncio
import gzip
import resource
import zlib
from typing import Any

import pytest
from aiohttp import web

from federation.ports import Ask, BackingOff, BadAnswer, RemoteError, Unreachable
from tests.support.federation import Federation
from tests.support.remote_server import Asked, status
from tests.support.waiting import until

ASK = Ask(
    method="GET",
    path=("_matrix", "federation", "v1", "version"),
    max_bytes=1 << 20,
    timeout=5,
    long_retry=False,
)


def raw(body: bytes, **headers: str) -> web.Response:
    return web.Response(body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def bomb(megabytes: int) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(made.compress(bytes(1 << 20)) for _ in range(megabytes)), made.flush()])


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (raw(b'{"a":"' + b"x" * (1 << 20) + b'"}'), BadAnswer),
        (raw(b"[" + b"1," * 150_000 + b"1]"), BadAnswer),
        (raw(b"[" * 5000 + b"]" * 5000), BadAnswer),
        (raw(b'{"a":' * 5000 + b"1" + b"}" * 5000), BadAnswer),
        (raw(b"[]"), BadAnswer),
        (raw(b""), BadAnswer),
        (raw(b'{"a":"\xff"}'), BadAnswer),
        (raw(b'{"a":"\\ud800"}'), BadAnswer),
        (raw(b'{"a":NaN}'), BadAnswer),
        (raw(b"x", Content_Encoding="gzip"), BadAnswer),
        (raw(gzip.compress(b"{}")[:-3], Content_Encoding="gzip"), BadAnswer),
        (raw(gzip.compress(b"") * 100, Content_Encoding="gzip"), BadAnswer),
        (raw(b"{}", Content_Encoding="br"), BadAnswer),
        (raw(b"{}", Content_Encoding="gzip, gzip"), BadAnswer),
    ],
    ids=range(14),
)
async def test_what_is_no_answer(
    federation: Federation, answer: web.Response, fault: type[Exception]
) -> None:
    here, remote = await federation.start(), await federation.remote()
    remote.answers("GET", "*/version", answer)
    with pytest.raises(fault):
        await here.app.features.federation.client.ask(remote.name, ASK, dict)


async def test_a_compressed_answer_is_read_and_a_bomb_is_not(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client
    small = gzip.compress(b'{"a":"' + b"x" * 300_000 + b'"}')
    remote.answers("GET", "*/version", raw(small, Content_Encoding="gzip"))
    assert len((await client.ask(remote.name, ASK, dict))["a"]) == 300_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    remote.answers("GET", "*/version", raw(bomb(500), Content_Encoding="gzip"))
    with pytest.raises(BadAnswer, match="unpacked"):
        await client.ask(remote.name, ASK, dict)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB


async def test_an_answer_that_drips_or_never_ends_is_cut(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client

    def never(piece: bytes, pause: float) -> Any:
        async def said(_: Asked) -> Any:
            return Endless(piece, pause)

        return said

    remote.answers("GET", "*/version", never(b" ", 0.05))
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable):
        await client.ask(remote.name, Ask(method="GET", path=ASK.path, timeout=1), dict)
    assert asyncio.get_running_loop().time() - began < 20, "it would drip for ever"
    remote.answers("GET", "*/version", never(bytes(65536), 0))
    here.app.features.federation.backoff.succeeded(remote.name)
    with pytest.raises(BadAnswer):
        await client.ask(remote.name, Ask(method="GET", path=ASK.path, max_bytes=1 << 22), dict)


class Endless(web.StreamResponse):
    """Its body has no end."""

    def __init__(self, piece: bytes, pause: float) -> None:
        super().__init__()
        self._piece = piece
        self._pause = pause

    async def prepare(self, request: web.BaseRequest) -> Any:
        writer = await super().prepare(request)
        while True:
            await self.write(self._piece)
            await asyncio.sleep(self._pause)
        return writer


async def test_an_error_that_is_large_or_no_json_is_an_error_all_the_same(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client
    for body, errcode in ((b"<html>", "M_UNKNOWN"), (b"[]", "M_UNKNOWN"), (b'{"errcode":5}', "M_UNKNOWN")):
        remote.answers("GET", "*/version", status(400, body))
        with pytest.raises(RemoteError) as refused:
            await client.ask(remote.name, ASK, dict)
        assert refused.value.errcode == errcode
    remote.answers("GET", "*/version", status(400, b'{"errcode":"M_X","error":"' + b"x" * 100_000 + b'"}'))
    with pytest.raises(BadAnswer):
        await client.ask(remote.name, ASK, dict)


async def test_who_does_not_answer_is_left_alone(federation: Federation) -> None:
    """FED-43"""
    here, remote = await federation.start(), await federation.remote()
    client, backoff = here.app.features.federation.client, here.app.features.federation.backoff
    patient = Ask(method="GET", path=ASK.path)
    remote.away = True
    with pytest.raises(Unreachable):
        await client.ask(remote.name, patient, dict)
    for ask in (patient, ASK):
        with pytest.raises(BackingOff) as left_alone:
            await client.ask(remote.name, ask, dict)
        assert left_alone.value.retry_in is not None
    assert backoff.of(remote.name).failures == 1
    remote.away = False
    backoff.succeeded(remote.name)
    remote.answers("GET", "*/version", {})
    assert await client.ask(remote.name, patient, dict) == {}


async def test_one_destination_takes_a_bounded_number_of_connections(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client
    go, most = asyncio.Event(), [0, 0]

    async def wait(_: Asked) -> Any:
        most[0] += 1
        most[1] = max(most)
        await go.wait()
        most[0] -= 1
        return {}

    remote.answers("GET", "*/version", wait)
    asks = [asyncio.create_task(client.ask(remote.name, ASK, dict)) for _ in range(40)]

    async def all_are_there() -> bool:
        return most[0] >= 16

    await until(all_are_there)
    await asyncio.sleep(0.5)  # no more come
    go.set()
    assert await asyncio.gather(*asks) == [{}] * 40
    assert most[1] == 16


async def test_of_many_that_wait_for_a_dead_server_few_find_out(federation: Federation) -> None:
    """5 000 requests to a server that is away cost as many attempts as may be under way at once."""
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client
    attempts = 0

    async def cut(_: Asked) -> Any:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.05)
        return status(502, b"")

    remote.answers("GET", "*/version", cut)
    asks = (client.ask(remote.name, ASK, dict) for _ in range(5000))
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(each) for each in results} <= {Unreachable, BackingOff, RemoteError}
    assert attempts <= 16
    assert here.app.features.federation.backoff.of(remote.name).failures == 1
