"""`atrium doctor`: says in words what is wrong with a set-up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption
from homeserver.config import Config, ConfigError, load

if TYPE_CHECKING:
    from homeserver.graph.state.drift import Examined
    from homeserver.runtime.checkup import Finding

_MARKS = {"good": "\033[32m✓\033[0m", "doubtful": "\033[33m!\033[0m", "wrong": "\033[31m✗\033[0m"}
_PLAIN = {"good": "ok   ", "doubtful": "maybe", "wrong": "WRONG"}


RoomsOption = Annotated[
    int, typer.Option("--rooms", min=0, help="How many rooms to recompute and compare; 0: none.")
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0, help="How long to go on with that; one room at least.")
]


def doctor(
    config: ConfigOption = DEFAULT_CONFIG, rooms: RoomsOption = 100, seconds: SecondsOption = 20.0
) -> None:
    """Look at configuration, database, rooms, keys, ports, disk and clock, and say what is wrong, and what to do about it.

    Of a sample of rooms, what is kept beside their events is computed anew and compared. Nothing is changed.
    """
    from homeserver.runtime.checkup import Finding, examine

    marks = _MARKS if sys.stdout.isatty() else _PLAIN
    wrong = 0

    def tell(finding: Finding) -> None:
        sys.stdout.write(f"{marks[finding.verdict]} {finding.sentence}\n")
        if finding.advice:
            sys.stdout.write(f"      {finding.advice}\n")
        sys.stdout.flush()

    try:
        loaded = load(config)
    except ConfigError as error:
        tell(
            Finding(
                "wrong", str(error), f"see: atrium config sample, or make one: atrium init --config {config}"
            )
        )
        raise SystemExit(1) from None
    tell(Finding("good", f"{config} is in order; the server is {loaded.server.name}"))

    def further(dsn: str) -> Iterator[Finding]:
        yield from asyncio.run(_background(dsn))
        yield from asyncio.run(_hosts(loaded, dsn))
        yield from _rooms(loaded, dsn, rooms, seconds)

    for finding in examine(loaded, further=further):
        wrong += finding.verdict == "wrong"
        tell(finding)
    sys.stdout.write(f"{wrong} things are wrong.\n" if wrong else "Nothing is wrong.\n")
    raise SystemExit(1 if wrong else 0)


async def _background(dsn: str) -> list[Finding]:
    """Of jobs, periodic work, and readers of the log."""
    from homeserver.jobs.checkup import examine
    from homeserver.log.readers import figures
    from homeserver.runtime.checkup import Finding
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        readers = [
            Finding("good" if good else "doubtful", sentence, advice)
            for good, sentence, advice in await figures.findings(db)
        ]
        return [*await examine(db), *readers]


async def _hosts(config: Config, dsn: str) -> list[Finding]:
    """Of what several hosts must share."""
    from homeserver.media import place
    from homeserver.runtime.checkup import Finding
    from homeserver.storage.database import Database

    if not config.database.shared or config.media.s3 is not None:
        return []
    folder = config.media.path or config.server.data_dir / "media"
    async with Database(dsn, size=1) as db:
        trouble = await place.examine(db, folder)
    if trouble is None:
        return [Finding("good", f"All hosts that were started keep files in {folder}")]
    return [Finding("wrong", trouble)]


def _rooms(config: Config, dsn: str, rooms: int, seconds: float) -> Iterator[Finding]:
    """What is kept about rooms, beside what their events say."""
    from homeserver.runtime.checkup import Finding

    if rooms == 0:
        return
    done = asyncio.run(_examine(config, dsn, rooms, seconds))
    for drift in done.drift:
        yield Finding(
            "wrong" if drift.grave else "doubtful",
            f"Room {drift.room_id}: {drift.sentence}",
            "make a backup as it is now, and report this: it should not be possible"
            if drift.grave
            else "a running server puts this right by itself within hours",
        )
    differ = len({drift.room_id for drift in done.drift if drift.grave})
    looked = f"{done.rooms} of {done.of} rooms were computed anew from their events"
    if not differ:
        yield Finding("good", f"{looked}: nothing differs")
    else:
        yield Finding("wrong", f"{looked}: {differ} differ from what is kept of them")


async def _examine(config: Config, dsn: str, rooms: int, seconds: float) -> Examined:
    from homeserver.graph.state.drift import DriftCheck
    from homeserver.matrix.ids import ServerName
    from homeserver.runtime.clock import Entropy, SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=2) as db:
        check = DriftCheck(db, ServerName(config.server.name), SystemClock(), Entropy())
        return await check.examine(rooms, seconds)
