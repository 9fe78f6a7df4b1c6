"""`atrium federation …`: whom the server reaches and what is wrong, and destinations that it sends to."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit

if TYPE_CHECKING:
    from homeserver.config import Config
    from homeserver.matrix.ids import ServerName

federation_app = typer.Typer(no_args_is_help=True)
_MARKS = {"good": " ok ", "doubtful": " ?? ", "wrong": "FAIL"}


@federation_app.callback()
def federation() -> None:
    """Other homeservers."""


@federation_app.command("test")
def look_at(
    name: Annotated[
        str, typer.Argument(help="The other server's name: what stands behind the colon of its users.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Look at another server, and at this one as others see it: names, certificates, keys, clocks.

    Ends with status 1 if something is wrong.
    """
    loaded = load_or_exit(config)
    with in_words():
        wrong = asyncio.run(_test(loaded, name))
    raise SystemExit(1 if wrong else 0)


@federation_app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="One server; without it, all that are sent to.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Try this one again at once.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show the servers that this one sends to: what waits for them, when they answered last, how long they are left alone."""
    from homeserver.matrix.ids import ServerName

    if reset and name is None:
        raise typer.BadParameter("--reset needs the name of a server")
    loaded = load_or_exit(config)
    with in_words(), database_of(loaded) as dsn:
        lines = asyncio.run(_status(dsn, loaded, ServerName(name) if name else None, reset=reset))
    sys.stdout.write("\n".join(lines or ["There are none."]) + "\n")


async def _test(config: Config, name: str) -> bool:
    from federation.partners.lists import PartnerLists
    from federation.partners.probe import Probe
    from homeserver.matrix.ids import ServerName
    from homeserver.runtime.clock import Entropy, SystemClock
    from homeserver.wiring.federation import ways_of

    section, clock = config.federation, SystemClock()
    resolver, connections = ways_of(config, clock, Entropy())
    probe = Probe(resolver, connections, clock)
    permitted = PartnerLists(enabled=section.enabled, allow=section.allow, deny=section.deny)
    wrong = False
    try:
        for each, title in (
            (name, "The other server"),
            (config.server.name, "This server, as others find it"),
        ):
            sys.stdout.write(f"{title}: {each}\n")
            if not permitted.may_speak(ServerName(each)):
                wrong = True
                sys.stdout.write(f"{_MARKS['wrong']} Not allowed by federation.enabled, .allow or .deny\n")
            async for finding in probe.look(ServerName(each)):
                wrong = wrong or finding.verdict == "wrong"
                sys.stdout.write(f"{_MARKS[finding.verdict]} {finding.sentence}\n")
    finally:
        await resolver.close()
        await connections.close()
    return wrong


async def _status(dsn: str, config: Config, name: ServerName | None, *, reset: bool) -> list[str]:
    from federation.outbound import commands
    from federation.transport.commands import end_pause
    from homeserver.matrix.ids import ServerName
    from homeserver.runtime.clock import SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        if reset and name is not None:
            await end_pause(db, name, SystemClock())
            await commands.reset(db, name)
        found = await commands.overview(db, ServerName(config.server.name), destination=name)
    return [
        f"{each.destination}: {each.backlog if each.backlog is not None else 'some'} events waiting, "
        + (
            f"{each.failures} failures in a row, tried again in {each.retry_in:.0f} s: {each.last_error}"
            if each.failures
            else "answers"
        )
        for each in found
    ]
