"""Incoming webhooks: made by command, posted to, revoked (docs/webhooks.md)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from homeserver.config import Config
from homeserver.hooks.administration import HookAdministration, Made, NewHook
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import UserId
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from homeserver.storage.database import Database
from homeserver.wiring.offline import hooks_of
from tests.conftest import StartServer
from tests.support.commands import atrium
from tests.support.server import Server
from tests.support.user import User


@pytest.fixture
async def administration(server: Server) -> AsyncIterator[HookAdministration]:
    async with hooks_of(config_of(server)) as administration:
        yield administration


def config_of(server: Server) -> Config:
    assert server.app is not None
    return server.app.config


async def made(administration: HookAdministration, room: str, by: User, name: str = "CI") -> Made:
    return await administration.add(NewHook(room, name, UserId(by.user_id)))


async def post(server: Server, hook: Made, body: Any, **options: Any) -> Any:
    return await server.client.post(hook.path, json=body, **options)


async def messages(user: User, room: str) -> list[dict[str, Any]]:
    found = (await user.messages(room, limit=50))["chunk"]
    return [event for event in reversed(found) if event["type"] == "m.room.message"]


async def test_what_is_posted_is_said_in_the_room(server: Server, administration: HookAdministration) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    assert await post(server, hook, {"text": "*3* tests failed, see <https://ci.example/1|the log>"}) == b"ok"
    [event] = await messages(alice, room)
    assert event["sender"] == hook.hook.user_id
    assert event["content"] == {
        "msgtype": "m.text",
        "body": "*3* tests failed, see the log (https://ci.example/1)",
        "format": "org.matrix.custom.html",
        "formatted_body": '<strong>3</strong> tests failed, see <a href="https://ci.example/1">the log</a>',
        "m.mentions": {},
    }
    member = await alice.state(room, "m.room.member", hook.hook.user_id)
    assert (member["membership"], member["displayname"]) == ("join", "CI")
    [listed] = [each for each in await administration.hooks() if each.hook_id == hook.hook.hook_id]
    assert listed.last_used_ms is not None


async def test_forms_and_headers_of_senders(server: Server, administration: HookAdministration) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    await server.client.post(hook.path, data=b"payload=%7B%22text%22%3A+%22form%22%7D", headers=form)
    github = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d-1"}
    await post(server, hook, {"zen": "Keep it."}, headers=github)
    assert [event["content"]["body"] for event in await messages(alice, room)] == ["form", "Keep it."]


async def test_a_delivery_that_is_repeated_is_said_once(
    server: Server, administration: HookAdministration
) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "72d3162e"}
    await asyncio.gather(*(post(server, hook, {"zen": "once"}, headers=headers) for _ in range(5)))
    await post(server, hook, {"text": "a"}, headers={"Idempotency-Key": "k"})
    await post(server, hook, {"text": "a"}, headers={"Idempotency-Key": "k"})
    await post(server, hook, {"text": "b"}, headers={"Idempotency-Key": "l"})
    await post(server, hook, {"text": "b"})
    assert [event["content"]["body"] for event in await messages(alice, room)] == ["once", "a", "b", "b"]


async def test_a_revoked_hook_is_unknown_at_once(server: Server, administration: HookAdministration) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    await post(server, hook, {"text": "first"})
    await administration.revoke(hook.hook.hook_id)
    await post(server, hook, {"text": "second"}, expect=(404, "M_NOT_FOUND"))
    await server.client.post("/_atrium/hooks/guessed", json={"text": "x"}, expect=(404, "M_NOT_FOUND"))
    await alice.sees(
        room,
        lambda event: (
            event.get("state_key") == hook.hook.user_id and event["content"]["membership"] == "leave"
        ),
    )
    assert [event["content"]["body"] for event in await messages(alice, room)] == ["first"]
    with pytest.raises(NotFound):
        await administration.revoke(hook.hook.hook_id)


async def test_of_the_secret_a_digest_is_kept_and_nothing_is_logged(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server(log={"format": "console"})
    alice = await server.register("alice")
    room = await alice.create_room()
    async with hooks_of(config_of(server)) as administration:
        hook = await made(administration, room, alice)
    secret = hook.path.rpartition("/")[2]
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.DEBUG):
        await post(server, hook, {"text": "confidential words"})
        await post(server, hook, {}, expect=(400, "M_BAD_JSON"))
    said = json.dumps(lines, default=str) + caplog.text
    assert "/_atrium/hooks/{secret}" in said
    assert secret not in said
    assert "confidential" not in said
    async with Database(server.dsn, size=1) as db, db.read() as tx:
        [row] = await tx.all(
            "SELECT to_jsonb(hooks)::text FROM hooks WHERE hook_id = %(id)s", id=hook.hook.hook_id
        )
    assert secret not in row[0]


async def test_an_encrypted_room_is_refused_with_words(
    server: Server, administration: HookAdministration
) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    await post(server, hook, {"text": "in clear"})
    await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    refusal = await post(server, hook, {"text": "no more"}, expect=(403, "M_FORBIDDEN"))
    assert "encrypted" in refusal["error"]
    with pytest.raises(Forbidden, match="encrypted"):
        await made(administration, room, alice)


async def test_who_may_make_one_and_where(server: Server, administration: HookAdministration) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(room_alias_name="hooked")
    with pytest.raises(Forbidden, match="not in the room"):
        await made(administration, room, bob)
    with pytest.raises(NotFound):
        await made(administration, "!nowhere:localhost", alice)
    with pytest.raises(NotFound):
        await administration.add(NewHook(room, "CI", UserId("@nobody:localhost")))
    with pytest.raises(InvalidParam):
        await made(administration, room, alice, " ")
    hook = await made(administration, f"#hooked:{server.name}", alice)
    await post(server, hook, {"text": "by alias"})
    # Who has been put out of a room does not come back by itself.
    await alice.kick(room, hook.hook.user_id)
    refusal = await post(server, hook, {"text": "again"}, expect=(403, "M_FORBIDDEN"))
    assert "removed" in refusal["error"]


async def test_names_of_their_users_are_nobody_elses(server: Server) -> None:
    await server.client.post("/register", json={"username": "_hook_x"}, expect=(400, "M_EXCLUSIVE"))
    await server.client.get(
        "/register/available", params={"username": "_hook_x"}, expect=(400, "M_EXCLUSIVE")
    )


async def test_their_messages_pass_the_policy_gate(start_server: StartServer) -> None:
    server = await start_server()
    assert server.app is not None

    async def decide(act: Act) -> Verdict:
        return Refuse(Forbidden("not those words")) if "secret" in str(act.content) else ALLOW

    check = Check(name="words", kinds={Kind.MESSAGE}, decide=decide, when_failing="refuse")
    server.app.core.gate._local = None  # it is opened once; here anew
    server.app.core.gate.install([check])
    alice = await server.register("alice")
    room = await alice.create_room()
    async with hooks_of(config_of(server)) as administration:
        hook = await made(administration, room, alice)
    await post(server, hook, {"text": "fine"})
    refusal = await post(server, hook, {"text": "secret"}, expect=(403, "M_FORBIDDEN"))
    assert refusal["error"] == "not those words"


async def test_rates_are_limited_by_hook_and_by_address(start_server: StartServer) -> None:
    limits = {
        "enabled": True,
        "hook": {"per_second": 0.01, "burst": 2},
        "hook_address": {"per_second": 0.01, "burst": 5},
    }
    server = await start_server(rate_limits=limits)
    alice = await server.register("alice")
    room = await alice.create_room()
    async with hooks_of(config_of(server)) as administration:
        hook, other = await made(administration, room, alice), await made(administration, room, alice)
    await post(server, hook, {"text": "1"})
    await post(server, hook, {"text": "2"})
    await post(server, hook, {"text": "3"}, expect=(429, "M_LIMIT_EXCEEDED"))
    await post(server, other, {"text": "4"})
    await server.client.post("/_atrium/hooks/guess", json={}, expect=(404, "M_NOT_FOUND"))
    await post(server, other, {"text": "5"}, expect=(429, "M_LIMIT_EXCEEDED"))
    assert len(await messages(alice, room)) == 3


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_bodies_are_bounded(server: Server, administration: HookAdministration) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    hook = await made(administration, room, alice)
    await post(server, hook, {"text": "x" * 1_100_000}, expect=(413, "M_TOO_LARGE"))
    await server.client.post(hook.path, data=b"[" * 500, expect=400)
    await server.client.post(hook.path, data=b"[]", expect=(400, "M_BAD_JSON"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    escapes = b"payload=" + b"%7B" * 100_000
    await server.client.post(hook.path, data=escapes, headers=form, expect=(413, "M_TOO_LARGE"))
    await post(server, hook, {"text": "x" * 900_000})
    [event] = await messages(alice, room)
    assert len(event["content"]["body"]) <= 16 * 1024


async def test_nothing_is_read_of_who_has_no_secret(start_server: StartServer) -> None:
    """However much they send: an unknown address is all that they hear of, and soon nothing more."""
    limits = {"enabled": True, "hook_address": {"per_second": 0.01, "burst": 3}}
    server = await start_server(rate_limits=limits)
    for data in (b"[" * 500, b"no JSON", b"[" * 900_000):
        await server.client.post("/_atrium/hooks/guess", data=data, expect=(404, "M_NOT_FOUND"))
    await server.client.post("/_atrium/hooks/guess", data=b"no JSON", expect=(429, "M_LIMIT_EXCEEDED"))


async def test_the_command(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    (tmp_path / "data").mkdir()
    section = {
        "name": "localhost",
        "data_dir": str(tmp_path / "data"),
        "public_baseurl": "https://example.com",
        "signing_key_path": str(config_of(server).server.signing_key),
    }
    config.write_text(json.dumps({"server": section, "database": {"url": server.dsn}}))
    assert server.app is not None
    alice = await server.register("alice")
    room = await alice.create_room()

    async def hook(*arguments: str, status: int = 0) -> str:
        return await atrium("hook", *arguments, config=config, status=status)

    said = await hook("add", room, "--name", "Grafana", "--by", alice.user_id)
    address = said.splitlines()[-1]
    hook_id = said.partition(" ")[0]
    assert address.startswith("https://example.com/_atrium/hooks/")
    # The server hears of it, and the hook's user comes into the room before anything is posted.
    joined = f"@_hook_{hook_id}:localhost"
    await alice.sees(
        room, lambda event: event.get("state_key") == joined and event["content"]["membership"] == "join"
    )
    await server.client.post(address.removeprefix("https://example.com"), json={"text": "hello"})
    assert f"{hook_id}: Grafana in {room}" in await hook("list")
    assert "There is no user" in await hook("add", room, "--name", "x", "--by", "@nobody:localhost", status=1)
    assert await hook("revoke", hook_id) == f"{hook_id} (Grafana) is revoked."


OF_ROOM = "/_atrium/client/v1/rooms/{}/hooks"


async def test_members_who_may_change_the_room_make_their_own(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room, other = await alice.create_room(invite=[bob.user_id]), await bob.create_room()
    await bob.join(room)
    await bob.post(OF_ROOM, room, json={"name": "CI"}, expect=(403, "M_FORBIDDEN"))
    await bob.get(OF_ROOM, room, expect=(403, "M_FORBIDDEN"))
    await alice.post(OF_ROOM, other, json={"name": "CI"}, expect=(403, "M_FORBIDDEN"))
    made = await alice.post(OF_ROOM, room, json={"name": "CI"})
    assert await server.client.post(made["path"], json={"text": "hello"}) == b"ok"
    assert [event["sender"] for event in await messages(alice, room)] == [made["user_id"]]
    [listed] = (await alice.get(OF_ROOM, room))["hooks"]
    assert (listed["hook_id"], listed["name"], listed["made_by"]) == (made["hook_id"], "CI", alice.user_id)
    assert made["path"].rpartition("/")[2] not in json.dumps(listed)
    await bob.delete(OF_ROOM + "/{}", other, made["hook_id"], expect=(404, "M_NOT_FOUND"))
    await alice.delete(OF_ROOM + "/{}", room, made["hook_id"])
    await server.client.post(made["path"], json={"text": "hello"}, expect=(404, "M_NOT_FOUND"))
    for _ in range(20):
        await alice.post(OF_ROOM, room, json={"name": "CI"})
    await alice.post(OF_ROOM, room, json={"name": "CI"}, expect=(400, "M_INVALID_PARAM"))
