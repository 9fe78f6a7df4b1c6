"""Another signing key while the server serves: on all hosts, and with what was signed before."""

from pathlib import Path

import pytest

from homeserver.matrix import base64
from homeserver.matrix.signing import SigningKey, verify_json
from homeserver.runtime import key_change, signing_key
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.key_change import KeyWatch
from homeserver.runtime.signing_key import SigningKeyError, load, replace, seal, unseal
from homeserver.storage import owner
from homeserver.storage.database import Database
from homeserver.storage.owner import PublicKey
from tests.support.federation import Federation

FIRST, OTHER = SigningKey(b"\x01" * 32, "first"), SigningKey(b"\x02" * 32, "other")


def public(key: SigningKey) -> PublicKey:
    return PublicKey(key.key_id, key.public_key)


@pytest.fixture
async def db(database: str) -> Database:
    async with Database(database, size=2) as db:
        await owner.settle(db, "one.example", public(FIRST))
        yield db


async def test_every_host_comes_by_the_new_key(db: Database, tmp_path: Path) -> None:
    here, there = tmp_path / "here.key", tmp_path / "there.key"
    for path in (here, there):
        replace(path, FIRST)
    used: list[SigningKey] = []
    watch = KeyWatch(db, there, FIRST, used.append)
    await watch.look()
    assert not used
    new = await key_change.rotate(db, here, SystemClock(), Entropy())
    newest = await key_change.rotate(db, here, SystemClock(), Entropy())
    assert load(here).seed == newest.seed
    # One that serves meanwhile, and was away during two changes.
    await watch.look()
    assert [key.seed for key in used] == [newest.seed]
    assert watch.old.keys() == {FIRST.key_id, new.key_id}
    assert load(there).seed == newest.seed
    assert there.stat().st_mode & 0o777 == 0o600
    # One that starts with the file of before.
    replace(there, FIRST)
    assert (await key_change.current(db, there, FIRST)).seed == newest.seed
    await owner.settle(db, "one.example", public(load(there)))


async def test_nobody_else_does(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    replace(path, OTHER)
    with pytest.raises(SigningKeyError, match="does not sign with"):
        await key_change.rotate(db, path, SystemClock(), Entropy())
    async with db.read() as tx:
        assert (await owner.find(tx)).key == public(FIRST)
    assert load(path).seed == OTHER.seed
    assert await key_change.current(db, path, OTHER) is OTHER
    sealed = seal(OTHER, FIRST, Entropy())
    assert OTHER.to_text().encode() not in sealed
    assert unseal(sealed, FIRST).seed == OTHER.seed
    with pytest.raises(SigningKeyError):
        unseal(sealed, OTHER)


async def test_a_key_that_was_replaced_by_hand_is_told_as_old(db: Database, tmp_path: Path) -> None:
    await key_change.accept(db, "one.example", public(OTHER), SystemClock())
    watch = KeyWatch(db, tmp_path / "x", OTHER, lambda _: None)
    await watch.look()
    assert watch.old.keys() == {FIRST.key_id}


async def test_a_server_goes_over_to_the_new_key_and_publishes_the_old(federation: Federation) -> None:
    """FED-05"""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    room = await alice.create_room()
    core = here.app.core
    path = here.app.config.server.signing_key
    old, new = load(path), await key_change.rotate(core.db, path, core.clock, core.entropy)
    await core.key_watch.look()
    _, told = await remote.ask(here, "GET", "/_matrix/key/v2/server", headers={})
    assert told["verify_keys"] == {new.key_id: {"key": base64.encode(new.public_key)}}
    assert told["old_verify_keys"][old.key_id]["key"] == base64.encode(old.public_key)
    verify_json(told, here.name, new.key_id, new.public_key)
    await alice.send(room, "signed with the new key")
    feature = here.app.features.federation
    assert feature.own_keys.signer().key.key_id == new.key_id
    assert signing_key.load(path).key_id == new.key_id
