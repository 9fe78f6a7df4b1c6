"""User-interactive authentication: CHECKLIST AUTH-02 to AUTH-07, AUTH-13, AUTH-23, AUTH-24."""

import re
from typing import Any

import pytest

from homeserver.runtime.clock import FakeClock
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User

DUMMY = {"type": "m.login.dummy"}
POLICIES = {
    "privacy": {"version": "1.2", "languages": {"en": {"name": "Privacy", "url": "https://example.com/p"}}},
    "conduct": {"version": "7", "languages": {"de": {"name": "Regeln", "url": "https://example.com/c"}}},
}


def by_password(user: User, session: str | None = None, password: str = PASSWORD) -> dict[str, Any]:
    proof = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user.user_id},
        "password": password,
    }
    return {**proof, "session": session} if session else proof


async def ask(server: IdentityServer, body: dict[str, Any], expect: Any = 401) -> dict[str, Any]:
    return dict(await server.client.post("/register", json=body, expect=expect))


async def new_body(**more: Any) -> dict[str, Any]:
    return {"password": PASSWORD, **more}


# ------------------------------------------------------------------------------------------------------- the question


async def test_the_first_request_is_answered_with_a_question_even_for_the_dummy(
    server: IdentityServer,
) -> None:
    """AUTH-02."""
    question = await ask(server, {"password": PASSWORD})
    assert question["flows"] == [{"stages": ["m.login.dummy"]}]
    assert question["params"] == {}
    assert question["session"]
    assert "errcode" not in question
    assert question["completed"] == []


@pytest.mark.parametrize("auth", [None, {}])
async def test_an_empty_auth_is_no_auth(server: IdentityServer, auth: Any) -> None:
    """AUTH-02."""
    assert "errcode" not in await ask(server, {"password": PASSWORD, "auth": auth})


@pytest.mark.parametrize(
    ("auth", "errcode"),
    [
        ("dummy", "M_BAD_JSON"),
        ({"type": 5}, "M_BAD_JSON"),
        ({"type": "m.login.dummy", "session": 5}, "M_BAD_JSON"),
        ({"type": "m.login.dummy", "session": "unheard of"}, "M_UNKNOWN"),
        ({"type": "m.login.dummy", "session": "x" * 10_000}, "M_UNKNOWN"),
    ],
)
async def test_other_mistakes_keep_the_normal_form(server: IdentityServer, auth: Any, errcode: str) -> None:
    """AUTH-05: a 4xx that is no question."""
    refusal = await ask(server, {"password": PASSWORD, "auth": auth}, (400, errcode))
    assert "flows" not in refusal


async def test_a_client_that_knows_the_question_may_answer_at_once(server: IdentityServer) -> None:
    assert (await ask(server, {"password": PASSWORD, "auth": DUMMY}, 200))["user_id"]


# ------------------------------------------------------------------------------------- one operation and one request


async def test_a_session_is_good_for_one_request_body_only(server: IdentityServer) -> None:
    """AUTH-05."""
    body = {"username": "one.body.a", "password": PASSWORD}
    session = (await ask(server, body))["session"]
    auth = {**DUMMY, "session": session}
    other = {"username": "one.body.b", "password": PASSWORD, "auth": auth}
    await ask(server, other, (403, "M_FORBIDDEN"))
    await ask(server, {**body, "password": PASSWORD + "!", "auth": auth}, (403, "M_FORBIDDEN"))
    await ask(server, {"username": "one.body.a", "org.example": 1, "auth": auth}, (403, "M_FORBIDDEN"))
    assert (await ask(server, {**body, "auth": auth}, 200))["user_id"] == "@one.body.a:localhost"


async def test_who_goes_on_registering_need_not_say_everything_again(start: Any) -> None:
    """AUTH-05: Element for Android sends nothing but `auth` from the second request on, to whatever process."""
    steps = {"registration": {"flows": [["terms", "dummy"]], "policies": POLICIES}}
    first, second = await start(alone=False, **steps), await start(alone=False, **steps)
    await ask(first, {})
    body = {
        "username": "brief",
        "password": PASSWORD,
        "device_id": "PHONE",
        "initial_device_display_name": "P",
    }
    session = (await ask(first, body))["session"]
    auth = {"type": "m.login.terms", "session": session}
    assert (await ask(second, {"auth": auth}))["completed"] == ["m.login.terms"]
    assert (await ask(first, {"auth": {"session": session}}))["completed"] == ["m.login.terms"]
    other = {"username": "other", "auth": {**DUMMY, "session": session}}
    await ask(second, other, (403, "M_FORBIDDEN"))
    made = await ask(second, {"auth": {**DUMMY, "session": session}}, 200)
    assert (made["user_id"], made["device_id"]) == ("@brief:localhost", "PHONE")
    await ask(first, {"auth": {**DUMMY, "session": session}}, (400, "M_UNKNOWN"))
    assert (await second.login("brief", PASSWORD)).user_id == "@brief:localhost"


async def test_a_session_of_something_else_registers_nobody(server: IdentityServer) -> None:
    """AUTH-05."""
    alice = await server.register("alice")
    session = (await alice.post("/account/password", json={"new_password": "x" * 12}, expect=401))["session"]
    await ask(server, {"auth": {**DUMMY, "session": session}}, (403, "M_FORBIDDEN"))


async def test_a_session_is_good_for_one_operation_only(server: IdentityServer) -> None:
    """AUTH-05: deleting one device does not allow deleting another, nor anything else."""
    alice = await server.register("alice")
    phone, tablet = await alice.new_device(), await alice.new_device()
    session = (await alice.delete("/devices/{}", phone.device_id, json={}, expect=401))["session"]
    auth = by_password(alice, session)
    await alice.delete("/devices/{}", tablet.device_id, json={"auth": auth}, expect=(403, "M_FORBIDDEN"))
    await alice.post("/account/deactivate", json={"auth": auth}, expect=(403, "M_FORBIDDEN"))
    await alice.post("/_matrix/client/v1/login/get_token", json={"auth": auth}, expect=(403, "M_FORBIDDEN"))
    await alice.delete("/devices/{}", phone.device_id, json={"auth": auth})


async def test_a_session_belongs_to_the_user_who_began_it(server: IdentityServer) -> None:
    """AUTH-05."""
    alice, mallory = await server.register("alice"), await server.register("mallory")
    session = (await alice.post("/account/deactivate", expect=401))["session"]
    body = {"auth": by_password(mallory, session)}
    await mallory.post("/account/deactivate", json=body, expect=(403, "M_FORBIDDEN"))


async def test_a_session_makes_one_account(server: IdentityServer) -> None:
    """Even where the body does not name it."""
    body = {"password": PASSWORD}
    auth = {**DUMMY, "session": (await ask(server, body))["session"]}
    assert (await ask(server, {**body, "auth": auth}, 200))["user_id"]
    await ask(server, {**body, "auth": auth}, (400, "M_UNKNOWN"))


async def test_a_session_nobody_goes_on_with_expires(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock, auth={"ui_auth_session_lifetime": 60})
    body = {"password": PASSWORD}
    session = (await ask(server, body))["session"]
    await clock.advance(61)
    await ask(server, {**body, "auth": {**DUMMY, "session": session}}, (400, "M_UNKNOWN"))
    await server.parts.housekeeping.clean()
    async with server.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM uia_sessions") == 0


@pytest.mark.parametrize("length", [0, 30_000])
async def test_neither_password_nor_session_can_be_read_from_the_database(
    server: IdentityServer, length: int
) -> None:
    """A body that is too long to be kept is not kept: then it has to be sent again."""
    body = {"password": "a password that is nowhere", "org.example": "x" * length}
    session = (await ask(server, body))["session"]
    assert server.db is not None
    async with server.db.read() as tx:
        stored = repr(await tx.all("SELECT * FROM uia_sessions"))
    assert "nowhere" not in stored
    assert session not in stored
    assert len(stored) < 5_000
    await ask(server, {"auth": {**DUMMY, "session": session}}, 403 if length else 200)


async def test_an_authentication_goes_on_in_another_process_and_after_a_restart(start: Any) -> None:
    """AUTH-03, AUTH-04: the database remembers what was completed."""
    steps = {"registration": {"flows": [["terms", "dummy"]], "policies": POLICIES}}
    first, second = await start(alone=False, **steps), await start(alone=False, **steps)
    body = {"username": "traveller", "password": PASSWORD}
    session = (await ask(first, body))["session"]
    agreed = await ask(second, {**body, "auth": {"type": "m.login.terms", "session": session}})
    assert agreed["completed"] == ["m.login.terms"]
    done = await ask(first, {**body, "auth": {**DUMMY, "session": session}}, 200)
    assert done["user_id"] == "@traveller:localhost"


# ------------------------------------------------------------------------------------------------------------- stages


async def test_stages_go_in_order_and_are_not_done_twice(start: Any) -> None:
    """AUTH-03, AUTH-04, AUTH-24."""
    server = await start(registration={"flows": [["terms", "dummy"]], "policies": POLICIES})
    body = {"username": "orderly", "password": PASSWORD}
    question = await ask(server, body)
    assert question["flows"] == [{"stages": ["m.login.terms", "m.login.dummy"]}]
    assert question["params"]["m.login.terms"]["policies"] == {
        "privacy": {"version": "1.2", "en": {"name": "Privacy", "url": "https://example.com/p"}},
        "conduct": {"version": "7", "de": {"name": "Regeln", "url": "https://example.com/c"}},
    }
    session = question["session"]
    too_early = await ask(server, {**body, "auth": {**DUMMY, "session": session}})
    assert too_early["errcode"] == "M_INVALID_PARAM"
    assert too_early["session"] == session
    unknown = await ask(server, {**body, "auth": {"type": "m.login.cat", "session": session}})
    assert unknown["errcode"]
    terms = {"type": "m.login.terms", "session": session}
    for _ in range(2):
        question = await ask(server, {**body, "auth": terms})
        assert question["completed"] == ["m.login.terms"]
        assert "errcode" not in question
    polled = await ask(server, {**body, "auth": {"session": session}})
    assert polled["completed"] == ["m.login.terms"]
    await ask(server, {**body, "auth": {**DUMMY, "session": session}}, 200)


async def test_which_versions_were_agreed_to_is_remembered(start: Any) -> None:
    """AUTH-24."""
    server = await start(registration={"flows": [["terms"]], "policies": POLICIES})
    alice = await ask(server, {"password": PASSWORD, "auth": {"type": "m.login.terms"}}, 200)
    async with server.db.read() as tx:
        rows = await tx.all(
            "SELECT policy, version FROM accepted_terms JOIN users USING (user_nid) WHERE user_id = %(id)s ORDER BY 1",
            id=alice["user_id"],
        )
    assert rows == [("conduct", "7"), ("privacy", "1.2")]


async def test_any_one_of_the_flows_will_do(start: Any) -> None:
    """AUTH-04: and what is completed must begin one of them."""
    server = await start(registration={"flows": [["token"], ["terms", "dummy"]], "policies": POLICIES})
    body = {"password": PASSWORD}
    question = await ask(server, body)
    assert len(question["flows"]) == 2
    session = question["session"]
    await ask(server, {**body, "auth": {"type": "m.login.terms", "session": session}})
    await ask(server, {**body, "auth": {**DUMMY, "session": session}}, 200)


async def test_a_failed_stage_says_why_and_may_be_tried_again(server: IdentityServer) -> None:
    """AUTH-03."""
    alice = await server.register("alice")
    question = await alice.post("/account/deactivate", expect=401)
    session = question["session"]
    assert question["flows"] == [{"stages": ["m.login.password"]}]
    for wrong in (
        by_password(alice, session, "wrong"),
        {"type": "m.login.password", "session": session},
        {"type": "m.login.password", "session": session, "password": 5},
    ):
        failed = await alice.post("/account/deactivate", json={"auth": wrong}, expect=401)
        assert failed["errcode"]
        assert failed["error"]
        assert failed["session"] == session
        assert failed["flows"] == question["flows"]
    await alice.post("/account/deactivate", json={"auth": by_password(alice, session)})


async def test_a_failure_in_the_first_request_opens_a_session_too(server: IdentityServer) -> None:
    alice = await server.register("alice")
    failed = await alice.post(
        "/account/deactivate", json={"auth": by_password(alice, password="wrong")}, expect=401
    )
    assert failed["errcode"] == "M_FORBIDDEN"
    await alice.post("/account/deactivate", json={"auth": by_password(alice, failed["session"])})


async def test_somebody_elses_password_proves_nothing(server: IdentityServer) -> None:
    alice, mallory = await server.register("alice"), await server.register("mallory", "mallory's own")
    session = (await alice.post("/account/deactivate", expect=401))["session"]
    auth = by_password(mallory, session, "mallory's own")
    await alice.post("/account/deactivate", json={"auth": auth}, expect=(403, "M_FORBIDDEN"))
    del auth["session"]  # nor all at once
    await alice.post("/account/deactivate", json={"auth": auth}, expect=(403, "M_FORBIDDEN"))


@pytest.mark.parametrize(
    "named", [{}, {"user": "ALICE"}, {"identifier": {"type": "m.id.user", "user": "ALICE"}}]
)
async def test_the_password_stage_knows_whose_token_it_is(
    server: IdentityServer, named: dict[str, Any]
) -> None:
    alice = await server.register("alice")
    text = {key: _fill(value, alice) for key, value in named.items()}
    auth = {"type": "m.login.password", "password": PASSWORD, **text}
    await alice.post("/account/deactivate", json={"auth": auth})


def _fill(value: Any, user: User) -> Any:
    return {**value, "user": user.localpart} if isinstance(value, dict) else user.localpart


async def test_proofs_are_rate_limited_per_user(start: Any) -> None:
    server = await start(
        rate_limits={"enabled": True, "ui_auth": {"per_second": 0.01, "burst": 8}, "login_failed": None}
    )
    alice = await server.register("alice")
    auth = by_password(alice, password="wrong")
    for _ in range(8):
        await alice.post("/account/deactivate", json={"auth": auth}, expect=401)
    await alice.post("/account/deactivate", json={"auth": auth}, expect=(429, "M_LIMIT_EXCEEDED"))


# ------------------------------------------------------------------------------------------------- registration token


async def token_of(server: IdentityServer, uses: int | None = None, lifetime_ms: int | None = None) -> str:
    return str(await server.parts.registration.make_token(uses_allowed=uses, lifetime_ms=lifetime_ms))


async def valid(server: IdentityServer, token: str) -> bool:
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    return bool((await server.client.get(path, params={"token": token}))["valid"])


async def test_a_registration_token_lets_so_many_people_in(start: Any) -> None:
    """AUTH-23."""
    server = await start(registration={"flows": [["token"]]})
    token = await token_of(server, uses=2)
    auth = {"type": "m.login.registration_token", "token": token}
    for left in (1, 0):
        assert await valid(server, token)
        await ask(server, {"password": PASSWORD, "auth": auth}, 200)
        assert await valid(server, token) is (left > 0)
    refusal = await ask(server, {"password": PASSWORD, "auth": auth})
    assert refusal["errcode"] == "M_UNAUTHORIZED"
    for wrong in ({}, {"token": 5}, {"token": "unheard of"}, {"token": "x" * 5000}):
        refusal = await ask(server, {"password": PASSWORD, "auth": {"type": auth["type"], **wrong}})
        assert refusal["errcode"]


async def test_a_registration_token_is_held_while_somebody_registers(start: Any) -> None:
    """AUTH-23: two people with one use left do not both get it."""
    clock = FakeClock()
    server = await start(clock=clock, registration={"flows": [["token", "dummy"]]})
    token = await token_of(server, uses=1)
    auth = {"type": "m.login.registration_token", "token": token}
    first = await ask(server, {"username": "first", "password": PASSWORD, "auth": auth})
    assert first["completed"] == ["m.login.registration_token"]
    assert not await valid(server, token)
    second = await ask(server, {"username": "second", "password": PASSWORD, "auth": auth})
    assert second["errcode"] == "M_UNAUTHORIZED"
    done = {"username": "first", "password": PASSWORD, "auth": {**DUMMY, "session": first["session"]}}
    await ask(server, done, 200)
    assert not await valid(server, token)


async def test_a_use_that_was_held_for_nothing_is_free_again(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock, registration={"flows": [["token", "dummy"]]})
    token = await token_of(server, uses=1)
    auth = {"type": "m.login.registration_token", "token": token}
    await ask(server, {"username": "first", "password": PASSWORD, "auth": auth})
    await clock.advance(16 * 60)
    assert await valid(server, token)
    await ask(server, {"username": "second", "password": PASSWORD, "auth": auth})


async def test_a_registration_token_expires(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock, registration={"flows": [["token"]]})
    token = await token_of(server, lifetime_ms=60_000)
    assert await valid(server, token)
    await clock.advance(60)
    assert not await valid(server, token)


async def test_an_unknown_registration_token_is_simply_not_valid(start: Any) -> None:
    """AUTH-23: 403 only where nobody can register."""
    server = await start(registration={"flows": [["token"]]})
    assert not await valid(server, "unheard of")
    closed = await start(registration={"enabled": False})
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    await closed.client.get(path, params={"token": "any"}, expect=(403, "M_FORBIDDEN"))
    await closed.client.get(path, expect=(400, "M_MISSING_PARAM"))


async def test_guessing_registration_tokens_is_slowed_down(start: Any) -> None:
    """AUTH-23."""
    server = await start(
        registration={"flows": [["token"]]},
        rate_limits={"enabled": True, "ui_auth": {"per_second": 0.01, "burst": 3}},
    )
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    for number in range(3):
        await server.client.get(path, params={"token": f"guess{number}"})
    await server.client.get(path, params={"token": "guess"}, expect=(429, "M_LIMIT_EXCEEDED"))


# ------------------------------------------------------------------------------------------------------ fallback pages


async def page(server: IdentityServer, stage: str, session: str, **form: str) -> tuple[int, str]:
    path = "/auth/{}/fallback/web"
    if not form:
        answer = await server.client.exchange("GET", path, stage, params={"session": session}, expect=None)
    else:
        from urllib.parse import urlencode

        answer = await server.client.exchange(
            "POST",
            path,
            stage,
            data=urlencode({"session": session, **form}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            expect=None,
        )
    assert answer.headers["content-type"].startswith(("text/html", "application/json"))
    return answer.status, answer.body.decode()


async def test_a_stage_can_be_completed_on_a_web_page_and_polled(server: IdentityServer) -> None:
    """AUTH-04, AUTH-07."""
    alice = await server.register("alice")
    session = (await alice.post("/account/deactivate", expect=401))["session"]
    status, text = await page(server, "m.login.password", session)
    assert status == 200
    assert 'type="password"' in text
    assert session in text
    status, text = await page(server, "m.login.password", session, password="wrong")
    assert status == 200
    assert "Invalid username or password" in text
    status, text = await page(server, "m.login.password", session, password=PASSWORD)
    assert status == 200
    assert "onAuthDone" in text
    assert 'postMessage("authDone"' in text
    status, text = await page(server, "m.login.password", session)
    assert "onAuthDone" in text
    await alice.post("/account/deactivate", json={"auth": {"session": session}})


async def test_terms_token_and_dummy_have_pages_too(start: Any) -> None:
    """AUTH-07."""
    server = await start(registration={"flows": [["token", "terms", "dummy"]], "policies": POLICIES})
    token = await token_of(server, uses=1)
    body = {"password": PASSWORD}
    session = (await ask(server, body))["session"]
    status, text = await page(server, "m.login.registration_token", session, token="wrong")
    assert (status, "Invalid registration token" in text) == (200, True)
    await page(server, "m.login.registration_token", session, token=token)
    _, text = await page(server, "m.login.terms", session)
    assert "https://example.com/p" in text
    await page(server, "m.login.terms", session, agree="yes")
    polled = await ask(server, {**body, "auth": {"session": session}})
    assert polled["completed"] == ["m.login.registration_token", "m.login.terms"]
    await page(server, "m.login.dummy", session, go="on")
    await ask(server, {**body, "auth": {"session": session}}, 200)


async def test_pages_run_only_their_own_script(server: IdentityServer) -> None:
    session = (await ask(server, {"password": PASSWORD}))["session"]
    answer = await server.client.exchange(
        "GET", "/auth/{}/fallback/web", "m.login.dummy", params={"session": f"{session}"}
    )
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    refused = await server.client.exchange(
        "GET", "/auth/{}/fallback/web", "m.login.dummy", params={"session": "<script>"}, expect=400
    )
    assert b"<script>" not in refused.body


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_person_who_comes_too_late_is_shown_a_page(server: IdentityServer, method: str) -> None:
    path, gone = "/auth/{}/fallback/web", {"session": "gone"}
    sent: dict[str, Any] = {"params": gone} if method == "GET" else {"data": b"session=gone"}
    form = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
    answer = await server.client.exchange(
        method,
        path,
        "m.login.dummy",
        headers={**form, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
        **sent,
    )
    assert b"Too late" in answer.body
    refused = await server.client.exchange(method, path, "m.login.dummy", headers=form, expect=400, **sent)
    assert b"M_UNKNOWN" in refused.body


async def test_there_is_a_page_to_log_in_with(server: IdentityServer) -> None:
    """AUTH-17."""
    answer = await server.client.exchange("GET", "/_matrix/static/client/login/")
    text = answer.body.decode()
    assert "window.matrixLogin.onLogin(answer)" in text
    assert re.search(r"script-src 'sha256-[^']+'", answer.headers["content-security-policy"])
