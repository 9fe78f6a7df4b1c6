"""`atrium restored`: what must be done once after the database was restored from a backup."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit

if TYPE_CHECKING:
    from homeserver.config import Config


def restored(
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that the database was restored from a backup. Run it once, before the servers are started.

    No one-time key in it is given out any more: keys in the backup may have been given out after it was made, and a key
    given out twice makes messages nobody can read. Clients upload new keys with their next sync. And the log goes on far
    ahead, so that tokens which clients got after the backup are not mistaken for what is written now.
    """
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    if not yes:
        typer.confirm("Invalidate the one-time keys of all devices, and move the log ahead?", abort=True)
    loaded = load_or_exit(config)
    setup_logging(level="warning", style="console")
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        count = asyncio.run(_spend(loaded.with_database(dsn)))
    sys.stdout.write(
        f"Invalidated {count} one-time keys. Devices upload new ones with their next sync.\n"
        "The log goes on far ahead: tokens that clients got after the backup stay good.\n"
    )


async def _spend(config: Config) -> int:
    from homeserver.e2ee.keys import KeyService
    from homeserver.log.restore import break_off
    from homeserver.storage.database import Database
    from homeserver.wiring.offline import core_of

    assert config.database.url is not None
    async with Database(config.database.url, size=1) as db:
        await break_off(db)
    async with core_of(config) as core:
        return await KeyService(core.db, core.log, core.interning, core.server_name).spend_all()
