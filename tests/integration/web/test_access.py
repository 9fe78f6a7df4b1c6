"""Tokens, signatures, and whom an endpoint lets in."""

import pytest

from homeserver.web.rate_limit import Rate
from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import RawConnection


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"Authorization": "Bearer alice"}},
        {"headers": {"Authorization": "bearer  alice "}},
        {"params": {"access_token": "alice"}},
    ],
)
@pytest.mark.parametrize("name", ["alice", "slow"])
async def test_a_token_is_taken_from_the_header_or_the_query(
    web: Running, ask: Client, sent: dict[str, dict[str, str]], name: str
) -> None:
    """API-13; `slow` is a token that memory does not know yet."""
    told = {k: {n: v.replace("alice", name) for n, v in d.items()} for k, d in sent.items()}
    async with ask.session.get(f"{web.url}{C}/whoami", **told) as answer:
        assert await answer.json() == {"values": {"user": f"@{name}:localhost"}}


@pytest.mark.parametrize(
    ("header", "errcode"),
    [
        (None, "M_MISSING_TOKEN"),
        ("Basic alice", "M_MISSING_TOKEN"),
        ("Bearer", "M_MISSING_TOKEN"),
        ("Bearer ", "M_MISSING_TOKEN"),
        ("alice", "M_MISSING_TOKEN"),
        ("Bearer unheard-of", "M_UNKNOWN_TOKEN"),
    ],
)
async def test_no_token_and_an_unknown_one_are_401(ask: Client, header: str | None, errcode: str) -> None:
    """API-14"""
    status, answer = await ask("GET", f"{C}/whoami", headers={"Authorization": header} if header else {})
    assert (status, answer["errcode"]) == (401, errcode)


async def test_an_unknown_token_says_whether_the_device_survives(ask: Client) -> None:
    """API-14"""
    assert (await ask("GET", f"{C}/whoami", token="unheard-of"))[1]["soft_logout"] is False


async def test_an_optional_token_may_be_absent_but_not_wrong(ask: Client) -> None:
    assert (await ask("GET", f"{C}/maybe"))[1] == {"values": {"user": None}}
    assert (await ask("GET", f"{C}/maybe", token="alice"))[1] == {"values": {"user": "@alice:localhost"}}
    assert (await ask("GET", f"{C}/maybe", token="unheard-of"))[0] == 401


async def test_a_token_is_ignored_where_none_is_asked_for(ask: Client) -> None:
    assert (await ask("GET", f"{C}/echo", token="unheard-of"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "token", "status", "errcode"),
    [
        ("GET", "/guest", "guest", 200, None),
        ("GET", "/guest", "alice", 200, None),
        ("GET", "/maybe", "guest", 200, None),
        ("GET", "/whoami", "guest", 403, "M_GUEST_ACCESS_FORBIDDEN"),
        ("POST", "/act", "locked", 401, "M_USER_LOCKED"),
        ("GET", "/whoami", "locked", 401, "M_USER_LOCKED"),
        ("POST", "/logout", "locked", 200, None),
        ("POST", "/act", "suspended", 403, "M_USER_SUSPENDED"),
        ("GET", "/whoami", "suspended", 200, None),
        ("POST", "/logout", "suspended", 200, None),
        ("POST", "/appservice", "bridge", 200, None),
        ("POST", "/appservice", "alice", 403, "M_FORBIDDEN"),
        ("POST", "/act", "bridge", 200, None),
    ],
)
async def test_each_endpoint_lets_in_whom_it_is_for(
    ask: Client, method: str, path: str, token: str, status: int, errcode: str | None
) -> None:
    """GUEST-01, account locking and suspension"""
    found, answer = await ask(method, C + path, token=token)
    assert (found, (answer or {}).get("errcode")) == (status, errcode)


async def test_a_locked_user_keeps_the_device(ask: Client) -> None:
    assert (await ask("GET", f"{C}/whoami", token="locked"))[1]["soft_logout"] is True


async def test_an_administrator_is_proven_by_type(ask: Client) -> None:
    _, answer = await ask("GET", "/_synapse/admin/v1/thing", token="admin")
    assert answer["values"] == {"user": "@admin:localhost", "type": "AdminRequester"}
    assert (await ask("GET", "/_synapse/admin/v1/thing", token="alice"))[1]["errcode"] == "M_FORBIDDEN"


async def test_another_server_is_known_by_its_signature_over_the_request_as_sent(web: Running) -> None:
    target = "/_matrix/federation/v1/send/a%2Fb?x=%20y"
    async with RawConnection(web.url) as connection:
        body = b'{"pdus":[]}'
        header = {"Authorization": f"X-Matrix PUT {target} {len(body)}"}
        answer = await connection.request("PUT", target, header, body)
        assert (answer.status, b'"txn":"a/b"' in answer.body) == (200, True)
        assert (await connection.request("PUT", target, {"Authorization": "X-Matrix no"}, body)).status == 403


async def test_whoever_asks_too_often_is_told_when_to_come_back() -> None:
    """API-08"""
    async with running(rates={"message": Rate(0.1, 2)}) as web, RawConnection(web.url) as connection:
        target = f"{C}/rooms/!a:b/send/m.x/1"
        alice = {"Authorization": "Bearer alice"}
        for _ in range(2):
            assert (await connection.request("PUT", target, alice, b"{}")).status == 200
        refused = await connection.request("PUT", target, alice, b"{}")
        assert refused.status == 429
        assert b'"M_LIMIT_EXCEEDED"' in refused.body
        assert 8 <= int(refused.headers["retry-after"]) <= 10
        assert b'"retry_after_ms":' in refused.body
        bridge = {"Authorization": "Bearer bridge"}
        for _ in range(5):
            assert (await connection.request("PUT", target, bridge, b"{}")).status == 200
        assert (
            await connection.request("PUT", target, {"Authorization": "Bearer slow"}, b"{}")
        ).status == 200


async def test_a_forwarded_address_is_believed_from_trusted_networks_only(web: Running, ask: Client) -> None:
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}
    assert (await ask("GET", f"{C}/echo", headers=lies))[1]["values"]["ip"] == "127.0.0.1"
    assert web.lines[-1]["ip"] == "127.0.0.1"
