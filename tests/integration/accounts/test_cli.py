"""`atrium user …` as an operator uses it: beside a running server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import atrium
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.waiting import until


class Operator:
    """Runs commands with the server's configuration."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.config = folder / "config.yaml"
        server = {"name": "localhost", "data_dir": str(folder / "data")}
        (folder / "data").mkdir()
        self.config.write_text(json.dumps({"server": server, "database": {"url": dsn}}))

    async def user(self, *arguments: str, status: int = 0) -> str:
        """What the command says: on standard output if it went well, else on standard error."""
        return await atrium("user", *arguments, config=self.config, status=status)


@pytest.fixture
async def running(start: Any) -> IdentityServer:
    return await start(registration={"flows": [["token"]]})


@pytest.fixture
def operator(running: IdentityServer, tmp_path: Path) -> Operator:
    return Operator(tmp_path, running.dsn)


async def test_an_account_that_is_made_can_be_used_at_once(
    running: IdentityServer, operator: Operator
) -> None:
    said = await operator.user("create", "alice", "--password", PASSWORD, "--admin")
    assert said == "Made @alice:localhost, an administrator."
    alice = await running.login("alice")
    assert "m.account_moderation" in (await alice.get("/capabilities"))["capabilities"]
    again = await operator.user("create", "@alice:localhost", "--password", PASSWORD, status=1)
    assert again == "User ID already taken"
    assert "at least 8" in await operator.user("create", "bob", "--password", "short", status=1)
    assert "a-z" in await operator.user("create", "b ob", "--password", PASSWORD, status=1)


async def test_the_running_server_hears_of_every_change(running: IdentityServer, operator: Operator) -> None:
    """A session that is in the server's memory ends all the same."""
    await operator.user("create", "bob", "--password", PASSWORD)
    bob = await running.login("bob")
    await operator.user("password", "bob", "--password", "another good one")

    async def is_out() -> bool:
        return (await bob.exchange("GET", "/account/whoami", expect=None)).status == 401

    await until(is_out)
    bob = await running.login("bob", "another good one")
    assert await operator.user("admin", "bob") == "@bob:localhost is an administrator."

    async def may_moderate() -> bool:
        return "m.account_moderation" in (await bob.get("/capabilities"))["capabilities"]

    await until(may_moderate)
    assert await operator.user("deactivate", "bob", "--yes") == "@bob:localhost has ended."
    await until(is_out)
    assert (
        await operator.user("deactivate", "bob", "--yes", status=1) == "There is no account @bob:localhost."
    )
    assert await operator.user("list") == "0 accounts."
    assert await operator.user("list", "--ended") == "@bob:localhost  ended\n1 accounts."


@pytest.mark.parametrize("option", [("--days", "1e300"), ("--uses", "99999999999")])
async def test_a_token_for_longer_than_there_is_time_is_refused(
    operator: Operator, option: tuple[str, str]
) -> None:
    assert "Invalid value" in await operator.user("token", *option, status=2)


async def test_a_registration_token_can_be_given_out(running: IdentityServer, operator: Operator) -> None:
    token = await operator.user("token", "--uses", "1", "--days", "1")
    auth = {"type": "m.login.registration_token", "token": token}
    body = {"username": "invited", "password": PASSWORD, "auth": auth}
    assert (await running.client.post("/register", json=body))["user_id"] == "@invited:localhost"
    refusal = await running.client.post("/register", json={**body, "username": "second"}, expect=401)
    assert refusal["errcode"] == "M_UNAUTHORIZED"
