"""What a message in a large room of local people costs the database: the same as in a small one, whoever is in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from homeserver.storage import connection
from tests.integration.push.test_many_pushers import furnish, say
from tests.support import server as support_server
from tests.support.appservice import FakeService
from tests.support.postgres import Postgres
from tests.support.server import Server
from tests.support.unread import looked_at
from tests.support.user import User

WRITES = ("INSERT", "UPDATE", "DELETE", "COPY")
MESSAGES = 5


@dataclass
class Costs:
    """Statements of the whole process, and the rows that they wrote."""

    statements: int = 0
    rows: int = 0
    most: list[tuple[int, str]] = field(default_factory=list)
    """Rows of a statement and its text, of those that wrote more than ten."""

    def add(self, sql: bytes, result: Any) -> None:
        self.statements += 1
        status = (result.command_status or b"").decode()
        if status.startswith(WRITES):
            rows = int(result.command_tuples or 0)
            self.rows += rows
            if rows > 10:
                self.most.append((rows, " ".join(sql.decode().split())[:100]))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    costs, real = Costs(), connection.Connection.run

    async def run(self: connection.Connection, commands: Sequence[Any]) -> Any:
        results = await real(self, commands)
        for (statement, _), result in zip(commands, results, strict=True):
            costs.add(statement.sql, result)
        return results

    with monkeypatch.context() as patch:
        patch.setattr(connection.Connection, "run", run)
        yield costs


async def member(server: Server, service: FakeService, name: str) -> User:
    login = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": f"_irc_{name}"},
    }
    return server.user(await server.client.post("/login", json=login, token=service.as_token))


@pytest.mark.parametrize("size", [20, pytest.param(2_000, marks=pytest.mark.slow)])
async def test_a_message_costs_no_row_and_no_statement_per_member(
    tmp_path: Path,
    postgres: Postgres,
    worker: str,
    migrated_template: str,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    """Sent, delivered to who syncs, and looked at by all that follows the log: the same bounds for 20 and for 2 000 people."""
    dsn = postgres.create(f"large_room_{worker}_{size}", template=migrated_template)
    service = FakeService()
    sections: dict[str, Any] = {
        "outbound": {"allow_private": {"appservices": ["127.0.0.1/32"]}},
        "rate_limits": {"enabled": False},
        "appservices": {"registration_files": [str(service.file(tmp_path))]},
    }
    async with service, support_server.run(dsn, tmp_path, **sections) as server:
        room = await furnish(server, service, size)
        readers = [await member(server, service, f"{number}") for number in range(3)]
        for reader in readers:
            await reader.sync()
        await say(server, service, room, "first")
        for reader in readers:
            await reader.sync()
        await looked_at(server)
        with counted(monkeypatch) as costs:
            sent = [await say(server, service, room, f"message-{number}") for number in range(MESSAGES)]
            for reader in readers:
                told = (await reader.sync())["rooms"]["join"][room]["timeline"]["events"]
                assert [event["event_id"] for event in told] == sent
            await service.hears_event(sent[-1])
            await looked_at(server)
        print(
            f"{size} people, a message: {costs.statements / MESSAGES} statements, {costs.rows / MESSAGES} rows"
        )
        assert MESSAGES <= costs.rows < 40 * MESSAGES, costs.most
        assert costs.statements < 60 * MESSAGES
