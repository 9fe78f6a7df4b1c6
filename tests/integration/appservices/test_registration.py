"""How services come to be registered: files, read again without a restart, and the database. CHECKLIST AS-01, AS-02."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservices.administration import Administration
from appservices.registration import read_yaml, service_of
from homeserver.config import ConfigError
from homeserver.matrix.ids import ServerName, UserId
from homeserver.storage.database import Database
from tests.conftest import StartServer
from tests.integration.appservices.conftest import Bridged, StartBridged
from tests.support.appservice import FakeService
from tests.support.server import Server
from tests.support.waiting import until

HERE = ServerName("localhost")


def mistakes_of(**changes: Any) -> list[str]:
    """Places of what is wrong with a registration that is changed so; None takes a key out."""
    raw = {key: value for key, value in {**FakeService().registration, **changes}.items() if value != "gone"}
    with pytest.raises(ConfigError) as caught:
        service_of(raw, HERE, "irc.yaml")
    return [place for place, _ in caught.value.mistakes]


def namespaces(*users: Any) -> dict[str, Any]:
    return {"users": list(users)}


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"id": "gone"}, ["id"]),
        ({"url": "gone"}, ["url"]),
        ({"url": "ftp://x"}, ["url"]),
        ({"url": 5}, ["url"]),
        ({"as_token": "gone", "hs_token": "with blanks"}, ["as_token", "hs_token"]),
        ({"sender_localpart": "Not A Name\n"}, ["sender_localpart"]),
        ({"sender_localpart": "a:b"}, ["sender_localpart"]),
        ({"namespaces": "gone"}, ["namespaces"]),
        ({"namespaces": []}, ["namespaces"]),
        ({"namespaces": {"users": "x"}}, ["namespaces.users"]),
        ({"namespaces": namespaces("x")}, ["namespaces.users.0"]),
        ({"namespaces": namespaces({"regex": "x"})}, ["namespaces.users.0.exclusive"]),
        ({"namespaces": namespaces({"exclusive": True})}, ["namespaces.users.0.regex"]),
        (
            {
                "namespaces": namespaces(
                    {"regex": "@a.*", "exclusive": True}, {"regex": "(", "exclusive": True}
                )
            },
            ["namespaces.users.1.regex"],
        ),
        ({"namespaces": namespaces({"regex": "@(a|aa)+b", "exclusive": True})}, ["namespaces.users.0.regex"]),
        (
            {"namespaces": namespaces(*[{"regex": "@.*a.*b", "exclusive": True}] * 20)},
            ["namespaces.users"],
        ),
        ({"protocols": "irc"}, ["protocols"]),
        ({"protocols": ["irc", 5]}, ["protocols.1"]),
        ({"rate_limited": "no"}, ["rate_limited"]),
        ({"receive_ephemeral": 1}, ["receive_ephemeral"]),
    ],
)
def test_a_mistake_is_told_with_its_place(changes: dict[str, Any], places: list[str]) -> None:
    """AS-01."""
    assert mistakes_of(**changes) == places


def test_what_bridges_write_is_read() -> None:
    """AS-01: as mautrix bridges and heisenbridge make it; what is not known here is passed over."""
    text = """
        id: telegram
        as_token: a
        hs_token: b
        namespaces:
            users:
            - exclusive: true
              regex: '@telegram_.*:localhost'
              group_id: '+x:localhost'
            - exclusive: true
              regex: '@telegrambot:localhost'
            aliases:
        url: http://localhost:29317/
        sender_localpart: IeJ1xM1
        rate_limited: false
        de.sorunome.msc2409.push_ephemeral: true
        push_ephemeral: true
        org.matrix.msc3202: true
        io.element.msc4190: true
        ip_range_whitelist: ["127.0.0.1"]
    """
    service = service_of(read_yaml(text, "x"), HERE, "x")
    assert (service.id, service.url, service.sender) == (
        "telegram",
        "http://localhost:29317",
        "@IeJ1xM1:localhost",
    )
    assert (service.limited, service.ephemeral, service.encryption) == (False, True, True)
    assert service.owns_user(UserId("@telegram_5:localhost"))
    assert service.owns_user(service.sender)
    for url in (None, ""):
        assert service_of({**read_yaml(text, "x"), "url": url}, HERE, "x").url is None


def test_many_namespaces_are_taken_and_cost_little() -> None:
    """AS-01: as many as there may be, with one repetition each; the dearest name of a stranger is compared with all."""
    many = namespaces(
        *[{"regex": f"@net{number}_.*:localhost", "exclusive": True} for number in range(1_000)]
    )
    service = service_of(FakeService(namespaces=many).registration, HERE, "x")
    assert service.owns_user(UserId("@net999_bob:localhost"))


def test_only_users_of_this_server_are_watched() -> None:
    """AS-02."""
    everybody = {"users": [{"regex": "@.*", "exclusive": True}]}
    service = service_of(FakeService(namespaces=everybody).registration, HERE, "x")
    assert service.watches("@anybody:localhost")
    assert not service.watches("@anybody:elsewhere.example")
    assert not service.owns_user(UserId("@anybody:elsewhere.example"))


def test_what_is_no_yaml_is_told_with_line_and_column() -> None:
    with pytest.raises(ConfigError, match=r"line 2, column"):
        read_yaml("id: x\n  url: [", "irc.yaml")
    with pytest.raises(ConfigError, match="mapping"):
        read_yaml("- a", "irc.yaml")


@pytest.mark.parametrize("same", ["id", "as_token", "sender_localpart"])
async def test_two_that_are_the_same_do_not_start(
    start_server: StartServer, tmp_path: Path, same: str
) -> None:
    """AS-01."""
    one, two = FakeService(id="one", sender="one"), FakeService(id="two", sender="two")
    one.file(tmp_path)
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({**two.registration, same: one.registration[same]}))
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    with pytest.raises(ConfigError, match="another application service has it: one"):
        await start_server(appservices={"registration_files": files})


async def test_files_are_read_again_without_a_restart(bridged: Bridged, tmp_path: Path) -> None:
    """AS-01: what SIGHUP does. Mistakes change nothing."""
    server, bridge = bridged.server, bridged.bridge
    assert server.app is not None
    registry = server.app.features.appservices.registry
    ghost = await bridge.register(server.client, "_irc_bob")
    as_ghost = bridge.as_user(ghost)
    await server.client.get("/account/whoami", **as_ghost)
    before = registry.services
    (tmp_path / "irc.yaml").write_text("id: [")
    server.app.reload()
    await asyncio.sleep(0.2)
    assert registry.services == before
    bridge.namespaces = {"users": [{"regex": "@_new_.*", "exclusive": True}]}
    bridge.file(tmp_path)
    server.app.reload()

    async def changed() -> bool:
        return registry.services != before

    await until(changed)
    await server.client.get("/account/whoami", expect=(403, "M_FORBIDDEN"), **as_ghost)
    assert await bridge.register(server.client, "_new_bob")


async def test_services_are_added_and_removed_at_run_time(fresh_server: Server) -> None:
    """AS-01: the server learns of it from the log; of the as_token a hash is kept."""
    app = fresh_server.app
    assert app is not None
    core = app.core
    administration = Administration(core.db, core.log, core.clock, HERE, ())
    async with FakeService(id="late", sender="latebot") as service:
        text = yaml.safe_dump(service.registration)
        assert (await administration.add(text, "late.yaml"))[1]

        async def known() -> bool:
            return "late" in app.features.appservices.registry.services

        await until(known)
        alice = await fresh_server.register("alice")
        room = await alice.create_room(invite=[service.sender_id])
        await service.hears(lambda s: s.events)
        await fresh_server.client.post("/join/{}", room, token=service.as_token)
        await service.hears_event(await alice.send(room, "hello"))
        async with Database(fresh_server.dsn, size=1) as db, db.read() as tx:
            row = await tx.one("SELECT token_hash, registration FROM appservices")
        assert row is not None
        assert service.as_token.encode() not in bytes(row[0]) + bytes(row[1])
        assert not (await administration.add(text, "late.yaml"))[1]
        again = {**service.registration, "id": "again"}
        with pytest.raises(ConfigError, match="another application service has it: late"):
            await administration.add(yaml.safe_dump(again), "again.yaml")
        (registered,) = await administration.registered()
        assert registered.standing is not None
        assert registered.standing.failing_since_ms is None
        await administration.remove("late")

        async def gone() -> bool:
            return "late" not in app.features.appservices.registry.services

        await until(gone)
        await fresh_server.client.get(
            "/account/whoami", token=service.as_token, expect=(401, "M_UNKNOWN_TOKEN")
        )
        with pytest.raises(ConfigError, match="no such"):
            await administration.remove("late")


async def test_what_a_file_says_is_not_removed_by_command(
    start_bridged: StartBridged, tmp_path: Path
) -> None:
    bridged = await start_bridged(FakeService())
    assert bridged.server.app is not None
    core = bridged.server.app.core
    files = (tmp_path / "irc.yaml",)
    administration = Administration(core.db, core.log, core.clock, HERE, files)
    with pytest.raises(ConfigError, match="registered in"):
        await administration.remove("irc")


async def test_a_service_without_url_hears_nothing_and_acts(
    start_server: StartServer, tmp_path: Path
) -> None:
    """AS-01: `url` may be null."""
    service = FakeService(options={"url": None})
    server = await start_server(appservices={"registration_files": [str(service.file(tmp_path))]})
    alice = await server.register("alice")
    room = await alice.create_room(invite=[service.sender_id])
    await server.client.post("/join/{}", room, token=service.as_token)
    await alice.send(room, "hello")
    assert server.app is not None
    assert server.app.features.appservices.delivery.standings == {}
    assert not server.app.features.readers.runners["appservices"].cursors
