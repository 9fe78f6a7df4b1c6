"""`atrium search`: how far the index of messages is, and having it made anew."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit

if TYPE_CHECKING:
    from homeserver.search.commands import Overview
    from homeserver.storage.database import Database

T = TypeVar("T")

search_app = typer.Typer(no_args_is_help=True)
LOOK_EVERY = 0.5
"""Seconds between looks at how far it is."""


@search_app.command()
def status(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Show how large the index is, and how far going through all messages has come."""
    from homeserver.search import commands

    sys.stdout.write(_sentence(_with_database(config, commands.overview)) + "\n")


@search_app.command()
def rebuild(
    wait: Annotated[
        bool, typer.Option("--wait", help="Show how far it is, and return when it is done.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Have the server go through all messages again. Search works meanwhile; a server that is restarted goes on."""
    from homeserver.search import commands

    async def begin(db: Database) -> None:
        await commands.rebuild(db)
        while wait:
            found = await commands.overview(db)
            _draw(found.progress)
            if found.rebuild is None or found.rebuild.ended:
                return
            await asyncio.sleep(LOOK_EVERY)

    _with_database(config, begin)
    sys.stdout.write(
        "Done.\n" if wait else "The server goes through all messages: see atrium search status\n"
    )


def _draw(progress: float) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{progress:6.1%}" + ("\n" if progress >= 1 else ""))
        sys.stdout.flush()


def _sentence(found: Overview) -> str:
    size = f"About {found.entries} messages, room names and topics in {found.size / 2**20:.0f} MiB. "
    last = found.rebuild
    if last is None or not found.current:
        return size + "All messages are gone through as soon as the server runs."
    began = time.strftime("%H:%M:%S", time.gmtime(max(0, round(last.seconds))))
    if last.ended:
        return size + f"All were gone through last in {began}."
    return size + f"Going through all messages: {found.progress:.1%} after {began}."


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
