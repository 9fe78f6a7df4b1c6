"""Of several hosts of the database the last primary is asked first."""

from typing import Any

import psycopg
import pytest

from homeserver.storage.primary import ONE, SEVERAL, Primary


class _Info:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.hostaddr, self.port = host, host, port


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self.info = _Info(host, port)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked for; the primary is `b`."""
    calls: list[dict[str, Any]] = []

    async def connect(**parameters: Any) -> _Connection:
        calls.append(parameters)
        return _Connection("b", 5433)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    return calls


async def test_the_last_primary_is_asked_first(asked: list[dict[str, Any]]) -> None:
    primary = Primary()
    for _ in range(2):
        await primary.connect("postgresql://u@a:5432,b:5433,c/atrium?target_session_attrs=read-write")
    assert [each["host"] for each in asked] == ["a,b,c", "b,a,c"]
    assert [each["port"] for each in asked] == ["5432,5433,", "5433,5432,"]
    assert {each["connect_timeout"] for each in asked} == {SEVERAL}


@pytest.mark.parametrize(
    ("dsn", "seconds"), [("host=/run/pg dbname=x", ONE), ("host=b dbname=x connect_timeout=7", "7")]
)
async def test_one_host_is_asked_as_it_is_named(
    asked: list[dict[str, Any]], dsn: str, seconds: object
) -> None:
    primary = Primary()
    for _ in range(2):
        await primary.connect(dsn, application_name="here")
    for each in asked:
        assert each["connect_timeout"] == seconds
        assert each["host"] == dsn.split(maxsplit=1)[0].removeprefix("host=")
        assert each["application_name"] == "here"
