"""A server that may be abused, the people it is abused through, and the account of it at the end."""

from collections.abc import AsyncIterator

import pytest

from tests.fuzz import cast as fuzz_cast
from tests.fuzz import invariants
from tests.fuzz.cast import Cast
from tests.support.postgres import Postgres
from tests.support.server import Server, run


@pytest.fixture(scope="session")
async def abused_server(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server of its own: other tests should not find what fuzzing leaves in rooms and profiles."""
    dsn = postgres.create(f"abused_{worker}", template=migrated_template)
    # Nothing may leave this machine: requests name hosts at random.
    media = {"previews": {"allow": ["previews.invalid"]}}
    federation = {"allow": ["nobody.invalid"]}
    async with run(dsn, tmp_path_factory.mktemp("abused"), media=media, federation=federation) as running:
        yield running
        await invariants.check_all(running)


class Casting:
    """Hands out the cast, and a new one when an attack has logged the attacker out or worse."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cast: Cast | None = None

    def dismiss(self) -> None:
        """The next `cast` is a new one: its people have nothing yet but what they begin with."""
        self._cast = None

    async def cast(self) -> Cast:
        """The people and things that requests can name."""
        if self._cast is None or not await self._alive(self._cast):
            self._cast = await fuzz_cast.assemble(self._server.register)
        return self._cast

    @staticmethod
    async def _alive(cast: Cast) -> bool:
        who = await cast.attacker.exchange("GET", "/account/whoami", expect=None)
        room = await cast.attacker.exchange("GET", "/rooms/{}/joined_members", cast.room, expect=None)
        return who.status == room.status == 200


@pytest.fixture(scope="session")
def casting(abused_server: Server) -> Casting:
    return Casting(abused_server)
