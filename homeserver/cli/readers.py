"""`atrium readers`: how far the readers of the log are, which of their cursors fail, and trying these again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit

if TYPE_CHECKING:
    from homeserver.storage.database import Database

T = TypeVar("T")

readers_app = typer.Typer(no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Of the reader, as `atrium readers list` shows it.")]
MOST = 100
"""Cursors that are listed."""


@readers_app.command("list")
def list_readers(
    name: Annotated[
        str | None, typer.Argument(help="Show the cursors of this reader that are behind.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show all readers, or what one of them still has to deliver and to whom."""
    from homeserver.log.readers import commands

    async def overview(db: Database) -> list[str]:
        return [
            f"{each.name}: {lag} entries behind, {each.behind} cursors with something to deliver, "
            f"{each.failing} failing, run by {each.owner or 'nobody'}"
            for each, lag in await commands.overview(db)
        ]

    async def cursors(db: Database) -> list[str]:
        return [
            f"{row.key or '(the only one)'}: acknowledged up to {row.position}, {row.failures} failures in a row, "
            f"tried again in {max(row.wait, 0):.0f} s"
            for row in await commands.failing(db, str(name), MOST)
        ]

    lines = _with_database(config, overview if name is None else cursors)
    sys.stdout.write("\n".join(lines or ["There are none."]) + "\n")


@readers_app.command()
def retry(
    name: NameArgument,
    key: Annotated[str | None, typer.Argument(help="Of one cursor; without it, all that fail.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Try failing cursors again at once, without waiting for the end of their pause."""
    from homeserver.log.readers import commands

    retried = _with_database(config, lambda db: commands.retry(db, name, key))
    sys.stdout.write(f"{retried} cursors are tried again.\n")


@readers_app.command()
def forget(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Forget a reader that this server no longer has, with what it still had to deliver.

    A reader that is forgotten holds back no purge any more. One that the server still has begins anew.
    """
    from homeserver.log.readers import commands

    if not _with_database(config, lambda db: commands.forget(db, name)):
        fail(f"There is no reader {name}: see atrium readers list")
    sys.stdout.write(f"{name} is forgotten.\n")


def _with_database(path: Path, work: Callable[[Database], Awaitable[T]]) -> T:
    from homeserver.storage import migrate
    from homeserver.storage.database import Database

    loaded = load_or_exit(path)

    async def run(dsn: str) -> T:
        async with Database(dsn, size=1) as db:
            return await work(db)

    with in_words(), database_of(loaded) as dsn:
        migrate.require_current(dsn)
        return asyncio.run(run(dsn))
