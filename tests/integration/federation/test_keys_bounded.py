"""What strangers can make this server do with keys: how many servers it asks for their sake, and how much it keeps."""

from typing import Any

from federation.keys import pruning, store
from federation.keys.pruning import KeyPruning
from federation.keys.store import KeyRow
from federation.x_matrix import Signer
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey
from tests.support.federation import Federation
from tests.support.server import Server

QUERY = "/_matrix/key/v2/query"
# The ports of names that nobody has lie below those of servers under test.
LIMITED: dict[str, Any] = {"enabled": True, "key_query": {"per_second": 0.001, "burst": 12}}


def asked(here: Server) -> int:
    """How many servers were asked for their keys."""
    return int(here.app.features.federation._fetcher.attempts)


async def test_a_thousand_names_of_one_address_are_not_asked(federation: Federation) -> None:
    """FED-06: whoever asks us as a notary has us ask a few servers, whatever they name; what is known is told all the same."""
    here, remote = await federation.start(rate_limits=LIMITED), await federation.remote()
    known = {"server_keys": {remote.name: {}}}
    assert (await remote.ask(here, "POST", QUERY, known, headers={}))[0] == 200
    codes: list[int] = []
    for at in range(0, 1_000, 100):
        names = {f"localhost:{port}": {} for port in range(1_000 + at, 1_100 + at)}
        codes.append((await remote.ask(here, "POST", QUERY, {"server_keys": names}, headers={}))[0])
    codes += [
        (await remote.ask(here, "GET", f"{QUERY}/localhost:{2_000 + port}", headers={}))[0]
        for port in range(20)
    ]
    assert codes == [429] * 10 + [200] * 11 + [429] * 9
    assert asked(here) == 12
    assert (await remote.ask(here, "POST", QUERY, known, headers={}))[0] == 200


async def test_requests_of_servers_that_nobody_knows(federation: Federation) -> None:
    """FED-01: the name in a request is anybody's word until its signature is checked, and so is whom it makes us ask."""
    here, remote = await federation.start(rate_limits=LIMITED), await federation.remote()
    uri = "/_matrix/federation/v1/query/profile?user_id=@x:y"
    codes: list[int] = []
    for number in range(100):
        signer = Signer(ServerName(f"localhost:{1_000 + number}"), SigningKey(bytes(32), "1"))
        header = signer.authorization("GET", uri, ServerName(here.name), None)
        codes.append((await remote.ask(here, "GET", uri, headers={"Authorization": header}))[0])
    assert codes == [401] * 12 + [429] * 88
    assert asked(here) == 12


async def put(here: Server, server_name: str, count: int, received_ts: int) -> None:
    rows = [
        KeyRow(server_name, f"ed25519:{number}", bytes(32), received_ts, received_ts, number > 0)
        for number in range(count)
    ]
    async with here.app.core.db.transaction() as tx:
        nid = await store.insert_response(tx, server_name, received_ts, received_ts, b"{}")
        await store.upsert_keys(tx, nid, rows)


async def kept(here: Server) -> dict[str, int]:
    async with here.app.core.db.read() as tx:
        rows = await tx.all(
            "SELECT server_name, count(*) FROM remote_server_keys GROUP BY server_name ORDER BY server_name"
        )
        answers = await tx.value("SELECT count(*) FROM remote_key_responses")
    assert answers == len(rows)
    return dict(rows)


async def test_keys_that_nobody_needs_go(federation: Federation, monkeypatch: Any) -> None:
    """FED-05: of servers of which nobody was ever here. Old keys that old events are signed with stay."""
    here = await federation.start()
    core = here.app.core
    now = core.clock.now_ms()
    old = now - pruning.KEPT_MS - 1
    await core.interning.user_nids(["@bob:friend.test"])
    await put(here, "friend.test", 5, old)
    await put(here, "stranger.test", 5, old)
    await put(here, "new.test", 3, now - 2 * pruning.CROWDED_KEPT_MS)
    await put(here, "newest.test", 2, now)
    pruner = KeyPruning(core.db, core.clock)
    assert await pruner.prune() == 5
    assert await kept(here) == {"friend.test": 5, "new.test": 3, "newest.test": 2}
    monkeypatch.setattr(pruning, "MAX_KEYS", 9)
    assert await pruner.prune() == 3
    assert await kept(here) == {"friend.test": 5, "newest.test": 2}


async def test_keys_of_one_server_have_a_bound(federation: Federation, monkeypatch: Any) -> None:
    """A server that says it has other keys each day: those that it told of last are kept."""
    from federation.keys import ring

    monkeypatch.setattr(ring, "MAX_KEPT", 10)
    here, remote = await federation.start(), await federation.remote()
    await put(here, remote.name, 50, 1_000)
    feature = here.app.features.federation
    assert await feature.ring.refresh(remote.name)
    async with here.app.core.db.read() as tx:
        keys = await store.find_keys(tx, [remote.name])
    assert len(keys) == 10
    assert remote.key.key_id in {key.key_id for key in keys}


async def test_many_who_ask_at_once(federation: Federation) -> None:
    """However many servers are to be asked, some at a time are, and beyond a bound nobody waits."""
    from federation.keys import notary

    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    service = next(api._notary for api in feature._apis if hasattr(api, "_notary"))
    service._refreshing = notary.MAX_REFRESHING - 50
    names = {f"localhost:{port}": {} for port in range(40_000, 40_100)}
    code, told = await remote.ask(here, "POST", QUERY, {"server_keys": names}, headers={})
    assert (code, told, asked(here)) == (200, {"server_keys": []}, 0)
