"""What operators do to keys with commands, beside a running server."""

import json
from pathlib import Path

import pytest

from tests.support.commands import atrium
from tests.support.crypto import (
    ONE_TIME,
    DeviceCrypto,
    Identity,
    changed_in,
    claim,
    in_encrypted_room,
    query,
)
from tests.support.server import Server
from tests.support.waiting import until


async def commanded(folder: Path, server: Server, *arguments: str) -> str:
    """What the command says."""
    config = folder / "config.yaml"
    (folder / "data").mkdir(exist_ok=True)
    assert server.app is not None
    # A command beside a server has the server's key: another one is refused.
    key = server.app.config.server.signing_key
    section = {"name": "localhost", "data_dir": str(folder / "data"), "signing_key_path": str(key)}
    config.write_text(json.dumps({"server": section, "database": {"url": server.dsn}}))
    return await atrium(*arguments, config=config)


async def test_after_a_restore_no_key_of_the_backup_is_given_out(
    fresh_server: Server, tmp_path: Path
) -> None:
    """E2E-03: and the server says so; clients see that they must upload."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    sent = await crypto.upload(3, fallback=True)
    assert (await alice.sync())["device_one_time_keys_count"] == {ONE_TIME: 3}
    said = await commanded(tmp_path, server, "restored", "--yes")
    assert (
        said.splitlines()[0] == "Invalidated 3 one-time keys. Devices upload new ones with their next sync."
    )

    async def heard() -> bool:
        return (await alice.sync())["device_one_time_keys_count"].get(ONE_TIME, 0) == 0

    await until(heard)
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    assert [await claim(bob, alice)] == list(sent["fallback_keys"].items())
    await alice.post("/keys/upload", json=sent)
    assert [await claim(bob, alice)] == list(sent["fallback_keys"].items())
    new = (await crypto.upload(1, keys=False))["one_time_keys"]
    assert [await claim(bob, alice)] == list(new.items())


async def test_an_administrator_resets_cross_signing(fresh_server: Server, tmp_path: Path) -> None:
    """E2E-07: the user sets up new keys without proof; others hear of it."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    keys, theirs = Identity(alice), Identity(bob)
    await keys.upload()
    await theirs.upload()
    signed = theirs.user_signing.sign(bob.user_id, keys.key("master"))
    body = {alice.user_id: {keys.master.public: signed}}
    assert (await bob.post("/keys/signatures/upload", json=body))["failures"] == {}
    assert (await query(bob, alice))["master_keys"][alice.user_id] == signed
    await bob.sync()
    said = await commanded(tmp_path, server, "user", "reset-cross-signing", alice.user_id, "--yes")
    assert said.startswith(f"{alice.user_id} has no cross-signing keys any more")
    await bob.sync_until(lambda reply: alice.user_id in changed_in(reply))
    assert (await query(bob, alice)).get("master_keys", {}) == {}
    await Identity(alice).upload()


@pytest.mark.parametrize("command", ["password", "deactivate"])
async def test_devices_that_a_command_ends_end_with_their_keys(
    fresh_server: Server, tmp_path: Path, command: str
) -> None:
    """E2E-13."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    await DeviceCrypto(alice).upload(1)
    await bob.sync()
    options = ["--password", "a new battery staple"] if command == "password" else ["--yes"]
    await commanded(tmp_path, server, "user", command, alice.user_id, *options)
    await bob.sync_until(lambda reply: "device_lists" in reply)
    assert (await query(bob, alice))["device_keys"] == {alice.user_id: {}}
    assert await claim(bob, alice) is None
