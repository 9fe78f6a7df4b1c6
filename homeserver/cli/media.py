"""`atrium media …`: files, by whoever runs the server. Works while it runs, and without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit
from homeserver.matrix.errors import MatrixError

if TYPE_CHECKING:
    from homeserver.config import Config
    from homeserver.wiring.media import MediaFeature

media_app = typer.Typer(no_args_is_help=True)
Uri = Annotated[str, typer.Argument(help="Of the file: mxc://server/id.")]
MOST = 50
"""People that are listed."""


@media_app.callback()
def media() -> None:
    """Files people share."""


@media_app.command()
def usage(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Show whose files take most room."""

    async def work(feature: MediaFeature) -> str:
        users = await feature.admin.largest_users(0, MOST)
        lines = [f"{user_id}: {each.files} files, {each.bytes / 2**20:.1f} MiB" for user_id, each in users]
        return "\n".join(lines or ["There are no files."])

    _run(config, work)


@media_app.command()
def hold(uri: Uri, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Keep a file whoever deletes it, and however old it is."""
    _set_held(config, uri, held=True)


@media_app.command()
def unhold(uri: Uri, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a file be deleted again."""
    _set_held(config, uri, held=False)


@media_app.command()
def reconcile(
    config: ConfigOption = DEFAULT_CONFIG,
    even_most: Annotated[
        bool, typer.Option("--even-most", help="Also where most of the store belongs to no file.")
    ] = False,
) -> None:
    """Remove what lies in the store and belongs to no file, if it is older than a day."""

    async def work(feature: MediaFeature) -> str:
        return f"{await feature.upkeep.reconcile(even_most=even_most)} orphans removed."

    _run(config, work)


def _set_held(config: ConfigOption, uri: str, *, held: bool) -> None:
    async def work(feature: MediaFeature) -> str:
        from homeserver.matrix import mxc

        await feature.admin.hold(mxc.parse(uri, "URI"), held=held)
        return f"{uri} is {'held' if held else 'no longer held'}."

    _run(config, work)


def _run(config: ConfigOption, work: Callable[[MediaFeature], Coroutine[Any, Any, str]]) -> None:
    """Carry out on the configured database; what came of it goes to standard output, a refusal to standard error."""
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    loaded = load_or_exit(config)
    setup_logging(level="warning", style="console")
    with in_words(), database_of(loaded) as dsn:
        migrate.require_current(dsn)
        try:
            told = asyncio.run(_carry_out(loaded.with_database(dsn), work))
        except MatrixError as error:
            fail(error.error)
    sys.stdout.write(f"{told}\n")


async def _carry_out(config: Config, work: Callable[[MediaFeature], Coroutine[Any, Any, str]]) -> str:
    from homeserver.wiring.offline import media_of

    async with media_of(config) as feature:
        return await work(feature)
