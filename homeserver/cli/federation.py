"""`atrium federation …`: whom the server reaches and what is wrong, and destinations that it sends to."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit

if TYPE_CHECKING:
    from federation.outbound.commands import DestinationStatus
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
    """Show the servers that this one sends to: what waits for them, how long they are left alone; what was agreed with them, and
    what they did in the last week.
    """
    from homeserver.matrix.ids import ServerName

    if reset and name is None:
        raise typer.BadParameter("--reset needs the name of a server")
    loaded = load_or_exit(config)
    with in_words(), database_of(loaded) as dsn:
        lines = asyncio.run(_status(dsn, loaded, ServerName(name) if name else None, reset=reset))
    sys.stdout.write("\n".join(lines or ["There are none."]) + "\n")


@federation_app.command("dry-run")
def dry_run(
    config: ConfigOption = DEFAULT_CONFIG,
    days: Annotated[int, typer.Option(min=1, max=14, help="Of how many days, today among them.")] = 7,
) -> None:
    """Say what a configuration would have refused of what other servers did in the last days: give the new file to --config.

    Nothing changes. The running server, if it has another file, goes on by its own.
    """
    loaded = load_or_exit(config)
    with in_words(), database_of(loaded) as dsn:
        lines = asyncio.run(_dry_run(dsn, loaded, days))
    sys.stdout.write("\n".join(lines or [f"Nothing of the last {days} days would have been refused."]) + "\n")


async def _dry_run(dsn: str, config: Config, days: int) -> list[str]:
    from federation.partners.dry_run import would_refuse
    from homeserver.runtime.clock import SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        found = await would_refuse(db, config.federation, SystemClock(), days=days)
    return [each.sentence for each in found]


async def _test(config: Config, name: str) -> bool:
    from federation.partners.policy import Policy
    from federation.partners.probe import Probe
    from federation.partners.tls import TlsOfPartners
    from homeserver.matrix.ids import ServerName
    from homeserver.runtime.clock import Entropy, SystemClock
    from homeserver.wiring.federation import ways_of
    from homeserver.wiring.outbound import outbound_of

    clock = SystemClock()
    permitted = Policy(config.federation)
    trust = TlsOfPartners(permitted, config.outbound.extra_ca_files)
    outbound = outbound_of(config.outbound, verify_federation=config.federation.verify_certificates)
    resolver, connections = ways_of(outbound, clock, Entropy(), trust)
    probe = Probe(resolver, connections, clock)
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
        await outbound.close()
    return wrong


async def _status(dsn: str, config: Config, name: ServerName | None, *, reset: bool) -> list[str]:
    from federation.outbound import commands
    from federation.partners import commands as partners
    from federation.partners.policy import Policy
    from federation.transport.commands import end_pause
    from homeserver.matrix.ids import ServerName
    from homeserver.runtime.clock import SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        if reset and name is not None:
            await end_pause(db, name, SystemClock())
            await commands.reset(db, name)
        found = await commands.overview(db, ServerName(config.server.name), destination=name)
        policy = Policy(config.federation)
        named = list(dict.fromkeys([*(each.destination for each in found), *([name] if name else [])]))
        did = await partners.figures(db, named, SystemClock())
    lines = (
        []
        if name
        else [f"{each.name}: {partners.in_words(each) or 'no terms'}" for each in policy.agreements]
    )
    told = {each.destination: _line(each) for each in found}
    for server in named:
        lines.append(told.get(server, f"{server}: nothing was ever sent to it"))
        if words := partners.agreed(policy, server):
            lines.append(f"    agreed: {words}")
        if counts := did.get(server):
            kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
            lines.append(f"    in {partners.DAYS} days: {kinds}")
    return lines


def _line(each: DestinationStatus) -> str:
    waiting = f"{each.backlog if each.backlog is not None else 'some'} events waiting"
    last = f"has taken something last at {_minute(each.last_success_ms)}"
    took = last if each.last_success_ms else "has never taken anything"
    if not each.failures:
        return f"{each.destination}: {waiting}, {took}"
    again = f"{each.failures} failures in a row, tried again in {each.retry_in:.0f} s"
    return f"{each.destination}: {waiting}, {took}, {again}: {each.last_error}"


def _minute(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
