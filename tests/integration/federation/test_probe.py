"""What `atrium federation test` finds out about a server."""

import json
import re
import time
from pathlib import Path
from typing import Any

from federation.partners.probe import Probe
from federation.transport.commands import end_pause
from homeserver.config.federation import FederationSection
from homeserver.matrix.ids import ServerName
from tests.support.commands import atrium
from tests.support.federation import Federation
from tests.support.remote_server import status
from tests.support.server import Server
from tests.support.waiting import until


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


async def test_what_was_agreed_with_a_partner_counts_for_the_test_too(federation: Federation) -> None:
    """DISC-08: its authorities and pins."""
    here, there = await federation.start(outbound={"extra_ca_files": []}), await federation.start()
    partners = here.app.features.federation.partners

    def agree(**terms: Any) -> None:
        section = {"partners": [{"server_name": there.name, **terms}]}
        partners.replace(FederationSection.model_validate(section))

    assert (await findings(here, there.name))[-1][0] == "wrong"
    agree(ca_files=[str(federation.certificate)])
    assert [verdict for verdict, _ in await findings(here, there.name)] == ["good"] * 4
    agree(ca_files=[str(federation.certificate)], pins=["A" * 43])
    verdict, sentence = (await findings(here, there.name))[-1]
    assert verdict == "wrong"
    assert "pins" in sentence


async def test_the_commands_know_what_was_agreed(federation: Federation, tmp_path: Path) -> None:
    """`atrium federation status` and `dry-run`, beside a running server."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room, via=[here.name])
    await alice.send(room, "hello")
    await here.app.features.federation.agreements._activity.write()
    outcomes = here.app.features.federation_outbound.service.outcomes

    async def noted() -> object:
        """Whether the database knows that the other server has acknowledged something."""
        await outcomes.write()
        async with here.app.core.db.read() as tx:
            return await tx.all(
                "SELECT 1 FROM federation_destinations WHERE destination = %(d)s", d=there.name
            )

    await until(noted)

    async def said(command: str, *arguments: str, **section: Any) -> str:
        file = tmp_path / "config.yaml"
        raw = {
            "server": {"name": here.name, "data_dir": str(tmp_path / "data")},
            "database": {"url": here.dsn},
            "federation": section,
        }
        file.write_text(json.dumps(raw))
        return await atrium("federation", command, *arguments, config=file)

    terms = {"server_name": "localhost", "contact": "mailto:it@partner.test", "rooms": []}
    found = await said("status", partners=[terms])
    assert "localhost: contact mailto:it@partner.test, some rooms alone" in found
    [line] = [each for each in found.splitlines() if each.startswith(f"{there.name}: ")]
    assert re.fullmatch(
        r"localhost:\d+: \d+ events waiting, has taken something last at \d{4}-\d\d-\d\d \d\d:\d\d UTC", line
    )
    assert "    agreed: contact mailto:it@partner.test" in found
    assert "requests " in found
    assert "agreed: not spoken with" in await said("status", there.name, deny=["localhost"])
    assert "nothing was ever sent to it" in await said("status", "other.test")
    assert await said("dry-run") == "Nothing of the last 7 days would have been refused."
    lines = await said("dry-run", "--days", "1", deny=[there.name])
    assert f"{there.name}: " in lines
    assert "requests: it is not spoken with at all" in lines
    assert f"in {room}: the room is not shared with it" in await said("dry-run", partners=[terms])
