"""`atrium appservice`: bridges and bots, registered while the server runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit

if TYPE_CHECKING:
    from appservices.administration import Administration, Registered
    from homeserver.config import Config
    from homeserver.storage.database import Database

appservice_app = typer.Typer(no_args_is_help=True)
IdArgument = Annotated[
    str, typer.Argument(help="Of the application service, as `atrium appservice list` shows it.")
]
Work = Callable[["Administration", "Database"], Awaitable[list[str]]]


@appservice_app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The registration file (YAML); it is not needed afterwards.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Register an application service, or change one that was added so. A running server needs no restart."""

    async def work(administration: Administration, _: Database) -> list[str]:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            fail(f"{file} cannot be read: {reason}")
        service, new = await administration.add(text, str(file))
        return [f"{service.id} is {'registered' if new else 'changed'}: it acts as {service.sender}."]

    _run(config, work)


@appservice_app.command("list")
def list_services(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List application services, and where each is registered."""

    async def work(administration: Administration, _: Database) -> list[str]:
        return [
            f"{service.id}: {service.sender}, {service.url or 'hears nothing'}, in {service.origin}"
            for service, _standing in await administration.registered()
        ] or ["There are none."]

    _run(config, work)


@appservice_app.command()
def remove(service_id: IdArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Remove an application service that was added by command. Its users stay, as nobody's."""

    async def work(administration: Administration, _: Database) -> list[str]:
        await administration.remove(service_id)
        return [f"{service_id} is removed."]

    _run(config, work)


@appservice_app.command()
def status(
    service_id: Annotated[str | None, typer.Argument(help="One alone; without it, all.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show whether application services take what they are told, and how far behind they are."""
    from homeserver.log.readers import commands

    async def work(administration: Administration, db: Database) -> list[str]:
        found = [each for each in await administration.registered() if service_id in {None, each.service.id}]
        if not found:
            fail("There is no such application service." if service_id else "There are none.")
        waiting = {
            row.key: f"has everything up to {row.position} of the log; tried {row.failures} times without success"
            for row in await commands.failing(db, "appservices", len(found) + 1_000)
        }
        return [_line(each, waiting.get(each.service.id)) for each in found]

    _run(config, work)


def _line(registered: Registered, waiting: str | None) -> str:
    service, standing = registered
    if service.url is None:
        return f"{service.id}: hears nothing: it has no URL"
    if standing is None:
        return f"{service.id}: was told nothing yet"
    if standing.failing_since_ms is None:
        return f"{service.id}: takes what it is told; last transaction {standing.upto}"
    since = datetime.fromtimestamp(standing.failing_since_ms / 1000, UTC).isoformat(timespec="seconds")
    return f"{service.id}: takes nothing since {since}: {standing.reason}" + (
        f"; {waiting}" if waiting else ""
    )


def _run(path: Path, work: Work) -> None:
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    loaded = load_or_exit(path)
    setup_logging(level="warning", style="console")
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        lines = asyncio.run(_carry_out(loaded.with_database(dsn), work))
    sys.stdout.write("\n".join(lines) + "\n")


async def _carry_out(config: Config, work: Work) -> list[str]:
    from homeserver.wiring.offline import appservices_of

    async with appservices_of(config) as (administration, db):
        return await work(administration, db)
