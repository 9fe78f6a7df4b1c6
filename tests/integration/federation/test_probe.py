"""What `atrium federation test` finds out about a server."""

import time

from federation.partners.probe import Probe
from federation.transport.commands import end_pause
from homeserver.matrix.ids import ServerName
from tests.support.federation import Federation
from tests.support.remote_server import status
from tests.support.server import Server


async def findings(here: Server, name: str) -> list[tuple[str, str]]:
    feature = here.app.features.federation
    probe = Probe(feature.resolver, feature._connections, here.app.core.clock)
    return [(each.verdict, each.sentence) async for each in probe.look(ServerName(name))]


async def test_a_server_that_is_well(federation: Federation) -> None:
    here, there = await federation.start(), await federation.start()
    found = await findings(here, there.name)
    assert [verdict for verdict, _ in found] == ["good"] * 4
    assert "its name says the port" in found[0][1]
    assert "Atrium" in found[1][1]


async def test_what_is_wrong_is_said_in_words(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    assert await findings(here, "not a name") == [("wrong", "not a name is not a server name")]
    assert (await findings(here, "localhost:1"))[-1][0] == "wrong"
    last = (await findings(here, remote.name))[-1]
    assert last[0] == "wrong"
    assert "404" in last[1]
    remote.answers("GET", "*/version", {"server": []})
    hour = int(time.time() * 1000) + 60_000
    remote.answers("GET", "/_matrix/key/v2/server", lambda _: remote.key_response(valid_until_ts=hour))
    assert [verdict for verdict, _ in await findings(here, remote.name)] == [
        "good",
        "good",
        "doubtful",
        "good",
    ]
    remote.answers("GET", "/_matrix/key/v2/server", lambda _: remote.key_response(valid_until_ts=1))
    assert "a clock" in (await findings(here, remote.name))[2][1]
    remote.answers("GET", "/_matrix/key/v2/server", lambda _: {**remote.key_response(), "server_name": "x"})
    assert (await findings(here, remote.name))[2][0] == "wrong"
    remote.answers("GET", "/_matrix/key/v2/server", status(500, b"no"))
    assert (await findings(here, remote.name))[-1][0] == "wrong"


async def test_a_pause_is_ended_from_outside(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    feature, core = here.app.features.federation, here.app.core
    feature.backoff.failed(remote.name, "no answer")
    await feature._shared_backoff.exchange()
    await end_pause(core.db, remote.name, core.clock)
    await feature._shared_backoff.exchange()
    assert feature.backoff.of(remote.name) is None
