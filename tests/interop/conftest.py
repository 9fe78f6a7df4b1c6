"""Programs from elsewhere meet a server here; which one, `tests.support.met_server` says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.dendrite import binary
from tests.support.federation import Federation
from tests.support.met_server import base_url, killable, own_server
from tests.support.partner import Partner, running_dendrite, running_synapse
from tests.support.postgres import Postgres

__all__ = ["base_url", "killable", "own_server"]

for module in ("played", "shared_rooms", "coming_in", "devices_elsewhere", "partitioned"):
    pytest.register_assert_rewrite(f"tests.interop.{module}")

FOLDER = Path(__file__).parent
INSTALLING = 900
"""Seconds a test may take here: the first one that needs a program from elsewhere installs it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.timeout(INSTALLING))


@pytest.fixture
async def partner(federation: Federation, tmp_path: Path) -> AsyncIterator[Partner]:
    """A Synapse that trusts the certificate of the Atriums of this test, and they its."""
    async with running_synapse(tmp_path / "synapse", federation.certificate) as partner:
        yield partner


@pytest.fixture
async def dendrite(
    federation: Federation, postgres: Postgres, worker: str, tmp_path: Path
) -> AsyncIterator[Partner]:
    """A Dendrite in the same way; the test is skipped where there is none."""
    program = binary()
    database = f"dendrite_{worker}"
    async with running_dendrite(
        program, tmp_path / "dendrite", federation.certificate, postgres.create(database)
    ) as partner:
        yield partner
    postgres.drop(database)
