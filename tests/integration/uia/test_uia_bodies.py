"""What a proof is for: bodies that grow until a stage is completed, and never after (CHECKLIST AUTH-05)."""

import asyncio
from typing import Any

import pytest

from tests.integration.uia.test_uia import DUMMY, POLICIES, ask, by_password, page
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User

TERMS = {"type": "m.login.terms"}
STEPS = {"registration": {"flows": [["terms", "dummy"]], "policies": POLICIES}}


async def test_cinny_registers(start: Any) -> None:
    """It asks with `{}` what the flows are, names itself, and goes through the stages in that session."""
    server = await start(**STEPS)
    session = (await ask(server, {}))["session"]
    body = {"username": "cinny", "password": PASSWORD, "initial_device_display_name": "Cinny Web"}
    named = await ask(server, {**body, "auth": {"session": session}})
    assert (named["session"], named["completed"]) == (session, [])
    agreed = await ask(server, {**body, "auth": {**TERMS, "session": session}})
    assert (agreed["session"], agreed["completed"]) == (session, ["m.login.terms"])
    made = await ask(server, {**body, "auth": {**DUMMY, "session": session}}, 200)
    assert made["user_id"] == "@cinny:localhost"
    owner = server.user(made, PASSWORD)
    assert (await owner.get("/devices/{}", owner.device_id))["display_name"] == "Cinny Web"


async def test_a_name_that_is_taken_may_be_changed_before_anything_is_proved(start: Any) -> None:
    server = await start(**STEPS)
    session = (await ask(server, {}))["session"]
    body = {"username": "!", "password": PASSWORD, "auth": {**TERMS, "session": session}}
    await ask(server, body, (400, "M_INVALID_USERNAME"))
    await ask(server, {**body, "username": "second.thought"})
    done = {"username": "second.thought", "password": PASSWORD, "auth": {**DUMMY, "session": session}}
    await ask(server, done, 200)


async def test_what_the_first_stage_came_with_is_what_is_registered(start: Any) -> None:
    """Nothing is added, changed or dropped once a stage is completed."""
    server = await start(**STEPS)
    session = (await ask(server, {}))["session"]
    body = {"username": "fixed", "password": PASSWORD}
    await ask(server, {**body, "auth": {**TERMS, "session": session}})
    auth = {**DUMMY, "session": session}
    for other in (
        {**body, "device_id": "MORE"},
        {**body, "username": "another"},
        {**body, "password": PASSWORD + "!"},
        {"username": "fixed"},
    ):
        await ask(server, {**other, "auth": auth}, (403, "M_FORBIDDEN"))
    # nothing but `auth`: the body of the first stage, not the one the session was begun with
    assert (await ask(server, {"auth": auth}, 200))["user_id"] == "@fixed:localhost"


async def test_what_was_completed_on_a_page_is_for_what_was_asked_before(start: Any) -> None:
    server = await start(**STEPS)
    session = (await ask(server, {"password": PASSWORD}))["session"]
    await page(server, "m.login.terms", session, agree="yes")
    more = {"password": PASSWORD, "username": "afterthought", "auth": {**DUMMY, "session": session}}
    await ask(server, more, (403, "M_FORBIDDEN"))
    await ask(server, {"password": PASSWORD, "auth": {**DUMMY, "session": session}}, 200)


async def test_of_two_that_complete_a_stage_at_once_one_binds_the_session(start: Any) -> None:
    server = await start(**STEPS)
    session = (await ask(server, {}))["session"]
    bodies = [{"username": f"racer.{number}", "password": PASSWORD} for number in range(8)]
    answers = await asyncio.gather(
        *(ask(server, {**body, "auth": {**TERMS, "session": session}}, None) for body in bodies)
    )
    won = [body for body, answer in zip(bodies, answers, strict=True) if answer.get("completed")]
    assert len(won) == 1
    for body in bodies:
        if body is not won[0]:
            await ask(server, {**body, "auth": {**DUMMY, "session": session}}, (403, "M_FORBIDDEN"))
    await ask(server, {**won[0], "auth": {**DUMMY, "session": session}}, 200)


async def test_the_same_stage_twice_at_once_is_one_completion(start: Any) -> None:
    server = await start(**STEPS)
    body = {"username": "twice", "password": PASSWORD}
    session = (await ask(server, {}))["session"]
    request = {**body, "auth": {**TERMS, "session": session}}
    answers = await asyncio.gather(*(ask(server, request) for _ in range(6)))
    assert [answer["completed"] for answer in answers] == [["m.login.terms"]] * 6
    assert all("errcode" not in answer for answer in answers)
    await ask(server, {**body, "auth": {**DUMMY, "session": session}}, 200)


# ------------------------------------------------------------------------------- the matrix: whatever needs a proof

ACTS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # name: method, path, what it begins with, what is added, what would be another act
    "deactivateAccount": ("POST", "/account/deactivate", {}, {"erase": False}, {"erase": True}),
    "changePassword": (
        "POST",
        "/account/password",
        {"new_password": "a new password of 1"},
        {"logout_devices": False},
        {"logout_devices": True},
    ),
    "deleteDevices": (
        "POST",
        "/delete_devices",
        {"devices": ["ONE"]},
        {"org.example": 1},
        {"devices": ["TWO"]},
    ),
    "deleteDevice": ("DELETE", "/devices/ONE", {}, {"org.example": 1}, {"org.example": 2}),
    "generateLoginToken": (
        "POST",
        "/_matrix/client/v1/login/get_token",
        {},
        {"org.example": 1},
        {"org.example": 2},
    ),
    "add3PID": (
        "POST",
        "/account/3pid/add",
        {"sid": "none", "client_secret": "secret"},
        {"org.example": 1},
        {"org.example": 2},
    ),
}
_DONE = {"add3PID": (400, "M_THREEPID_AUTH_FAILED")}


async def act(user: User, name: str, body: dict[str, Any], expect: Any = None) -> dict[str, Any]:
    method, path, *_ = ACTS[name]
    answer = await user.exchange(method, path, json=body, expect=expect)
    return dict(answer.json)


@pytest.mark.parametrize("name", list(ACTS))
async def test_more_may_be_said_with_the_proof(server: IdentityServer, name: str) -> None:
    alice = await server.register("alice")
    _, _, begins, added, _ = ACTS[name]
    question = await act(alice, name, begins, 401)
    auth = by_password(alice, question["session"])
    await act(alice, name, {**begins, **added, "auth": auth}, _DONE.get(name, 200))


@pytest.mark.parametrize("name", list(ACTS))
async def test_what_was_said_is_not_taken_back(server: IdentityServer, name: str) -> None:
    alice = await server.register("alice")
    _, _, begins, added, other = ACTS[name]
    question = await act(alice, name, {**begins, **added}, 401)
    auth = by_password(alice, question["session"])
    await act(alice, name, {**begins, **added, **other, "auth": auth}, (403, "M_FORBIDDEN"))


@pytest.mark.parametrize("name", list(ACTS))
async def test_a_password_given_on_a_page_is_for_the_request_as_it_was(
    server: IdentityServer, name: str
) -> None:
    alice = await server.register("alice")
    _, _, begins, added, other = ACTS[name]
    session = (await act(alice, name, begins, 401))["session"]
    await page(server, "m.login.password", session, password=PASSWORD)
    for grown in ({**begins, **added}, {**begins, **added, **other}):
        await act(alice, name, {**grown, "auth": {"session": session}}, (403, "M_FORBIDDEN"))
        proof = by_password(alice, session)
        await act(alice, name, {**grown, "auth": proof}, (403, "M_FORBIDDEN"))
    await act(alice, name, {**begins, "auth": {"session": session}}, _DONE.get(name, 200))


@pytest.mark.parametrize("begun", list(ACTS))
async def test_a_proof_of_one_act_serves_no_other(server: IdentityServer, begun: str) -> None:
    """Whether it lies in the session or comes with the request, and whoever else asks."""
    alice, mallory = await server.register("alice"), await server.register("mallory")
    session = (await act(alice, begun, ACTS[begun][2], 401))["session"]
    await page(server, "m.login.password", session, password=PASSWORD)
    for name, (_, _, begins, *_) in ACTS.items():
        for user in (alice, mallory):
            if (name, user) != (begun, alice):
                for auth in ({"session": session}, by_password(user, session)):
                    await act(user, name, {**begins, "auth": auth}, (403, "M_FORBIDDEN"))
    refused = {"username": "by.proof", "password": PASSWORD, "auth": {**DUMMY, "session": session}}
    await ask(server, refused, (403, "M_FORBIDDEN"))
