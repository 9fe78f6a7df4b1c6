"""The puzzle: CHECKLIST AUTH-06, API-24, against a verifier of our own."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD

STAGE = "m.login.recaptcha"


@pytest.fixture
async def asked() -> list[dict[str, str]]:
    """What the verifier was asked."""
    return []


@pytest.fixture
async def verifier(asked: list[dict[str, str]]) -> AsyncIterator[str]:
    async def verify(request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        asked.append(form)
        if form["response"] == "broken":
            return web.Response(text="<html>", status=500)
        return web.json_response({"success": form["response"] == "right"})

    app = web.Application()
    app.router.add_post("/siteverify", verify)
    async with TestServer(app) as running:
        yield str(running.make_url("/siteverify"))


async def with_puzzle(start: Any, verifier: str, flow: list[str], **more: Any) -> IdentityServer:
    recaptcha = {"site_key": "public", "secret_key": "secret", "verify_url": verifier}
    private = {"allow_private": {"identity": ["127.0.0.0/8"]}}
    sections = {"registration": {"flows": [flow], "recaptcha": recaptcha}, "outbound": private, **more}
    return await start(**sections)


async def register(server: IdentityServer, expect: Any, **auth: Any) -> dict[str, Any]:
    body = {"password": PASSWORD, "auth": {"type": STAGE, **auth}}
    return dict(await server.client.post("/register", json=body, expect=expect))


async def test_whoever_solves_the_puzzle_may_register(start: Any, verifier: str, asked: Any) -> None:
    """AUTH-06."""
    server = await with_puzzle(start, verifier, ["recaptcha"])
    question = await server.client.post("/register", json={"password": PASSWORD}, expect=401)
    assert question["params"] == {STAGE: {"public_key": "public"}}
    assert (await register(server, 401))["errcode"] == "M_CAPTCHA_NEEDED"
    assert (await register(server, 401, response="wrong"))["errcode"] == "M_CAPTCHA_INVALID"
    assert (await register(server, 401, response=5))["errcode"] == "M_BAD_JSON"
    assert (await register(server, 200, response="right"))["user_id"]
    assert asked[-1] == {"secret": "secret", "response": "right", "remoteip": "127.0.0.1"}


async def test_a_solution_is_shown_to_the_verifier_once(start: Any, verifier: str, asked: Any) -> None:
    """AUTH-03: it would not be accepted a second time."""
    server = await with_puzzle(start, verifier, ["recaptcha", "dummy"])
    question = await register(server, 401, response="right")
    assert question["completed"] == [STAGE]
    again = await register(server, 401, response="right", session=question["session"])
    assert again["completed"] == [STAGE]
    assert len(asked) == 1


async def test_if_the_verifier_fails_nobody_gets_in(start: Any, verifier: str) -> None:
    server = await with_puzzle(start, verifier, ["recaptcha"])
    body = {"password": PASSWORD, "auth": {"type": STAGE, "response": "broken"}}
    answer = await server.client.exchange("POST", "/register", json=body, expect=503)
    assert "secret" not in answer.body.decode()


async def test_a_verifier_at_a_private_address_must_be_permitted(
    start: Any, verifier: str, asked: Any
) -> None:
    server = await with_puzzle(start, verifier, ["recaptcha"], outbound={})
    await register(server, 503, response="right")
    assert asked == []


async def test_auth_07_the_puzzle_is_solved_on_a_page(start: Any, verifier: str, asked: Any) -> None:
    server = await with_puzzle(start, verifier, ["recaptcha"])
    body = {"password": PASSWORD}
    session = (await server.client.post("/register", json=body, expect=401))["session"]
    path, query = "/auth/{}/fallback/web", {"session": session}
    shown = await server.client.exchange("GET", path, STAGE, params=query)
    assert b'class="g-recaptcha" data-sitekey="public"' in shown.body
    policy = shown.headers["content-security-policy"]
    assert "script-src https://www.google.com/recaptcha/" in policy
    assert "default-src 'none'" in policy

    async def solve(solution: str) -> str:
        answer = await server.client.exchange(
            "POST",
            path,
            STAGE,
            data=urlencode({"session": session, "g-recaptcha-response": solution}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        return answer.body.decode()

    assert "has not been solved" in await solve("")
    assert "is not right" in await solve("wrong")
    assert "onAuthDone" in await solve("right")
    assert asked[-1]["response"] == "right"
    await server.client.post("/register", json={**body, "auth": {"session": session}})


async def test_a_puzzle_that_is_not_configured_has_no_page(server: IdentityServer) -> None:
    session = (await server.client.post("/register", json={"password": PASSWORD}, expect=401))["session"]
    refused = await server.client.get("/auth/{}/fallback/web", STAGE, params={"session": session}, expect=400)
    assert refused["errcode"] == "M_INVALID_PARAM"
