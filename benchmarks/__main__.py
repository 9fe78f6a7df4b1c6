"""`python -m benchmarks`: start the servers, measure them in turns, print the table."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks.comparison import comparison
from benchmarks.peer import Meeting
from benchmarks.procfs import Watched
from benchmarks.report import Report, machine, write_into
from benchmarks.runner import Outcome, Plan, run, tell
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import atrium, dendrite, synapse
from benchmarks.servers.server import Options, Server, Start
from benchmarks.stage import Abroad, Stage
from benchmarks.wire import Target
from tests.support.synapse import DEFAULT_ENVIRONMENT

SERVERS: dict[str, Start] = {"atrium": atrium.start, "synapse": synapse.start, "dendrite": dendrite.start}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer 0 when everything that was asked for was measured, 1 otherwise."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["growth"]:
        from benchmarks.growth import run as growth

        return growth.main(given[1:])
    asked = parser().parse_args(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    names = [scenario.name for scenario in SCENARIOS]
    default = [scenario.name for scenario in SCENARIOS if not scenario.by_name_only]
    chosen = asked.only.split(",") if asked.only else default
    if unknown := sorted(set(chosen) - set(names)):
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are: {', '.join(names)}")
    plan = Plan([scenario for scenario in SCENARIOS if scenario.name in chosen], asked.rounds, asked.seconds)
    with ExitStack() as stack:
        meeting, servers = start_servers(asked, stack)
        stages = [_stage(server, meeting, asked) for server in servers]
        memory = [
            f"{server.label}: {server.about}; {_megabytes(server)} MB after start" for server in servers
        ]
        if asked.pin_load is not None:  # after the servers are started: they would inherit it
            os.sched_setaffinity(0, {asked.pin_load})
        outcome = uvloop.run(run(plan, stages, tell))
        memory = [
            f"{line}, {_megabytes(server)} MB at the end ({_megabytes(server, largest=True)} in the largest process)"
            for line, server in zip(memory, servers, strict=True)
        ]
    report = Report(
        outcome.figures, {scenario.name: scenario.title for scenario in SCENARIOS}, about(asked, memory)
    )
    publish(report, outcome, asked)
    return 1 if outcome.failures else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument(
        "--servers", default="atrium,synapse", help=f"which to start, of {', '.join(SERVERS)}"
    )
    options.add_argument("--url", help="measure a homeserver that runs already, instead of starting any")
    options.add_argument(
        "--pid", type=int, action="append", default=[], help="a process of it (with its children)"
    )
    options.add_argument(
        "--pg-pid", type=int, action="append", default=[], help="the PostgreSQL master it uses"
    )
    options.add_argument("--registration-token", help="if it registers nobody without one")
    options.add_argument(
        "--rounds", type=int, default=3, help="how often each scenario is measured, in turns (3)"
    )
    options.add_argument("--seconds", type=float, default=5, help="how long each time (5)")
    options.add_argument(
        "--scale", type=float, default=1, help="stretches rooms and members (1); 0.1 for a quick try"
    )
    options.add_argument(
        "--processes", type=_numbers, default=(1,), help="processes of Atrium (1); 1,2,4: one server for each"
    )
    options.add_argument("--pin-load", type=int, metavar="CORE", help="where the load is made")
    options.add_argument(
        "--only", help="scenarios, with commas between: " + ", ".join(one.name for one in SCENARIOS)
    )
    options.add_argument("--json", type=Path, help="write the figures there as well")
    options.add_argument(
        "--write", action="store_true", help=f"put the table into {PAGE.parent.name}/{PAGE.name}"
    )
    options.add_argument(
        "--synapse-environment",
        type=Path,
        default=DEFAULT_ENVIRONMENT,
        help="its virtual environment, made on demand",
    )
    return options


def _stage(server: Server, meeting: Meeting | None, asked: argparse.Namespace) -> Stage:
    target = Target.parse(server.url)
    abroad = Abroad(server.name, meeting) if meeting is not None else None
    return Stage(server.label, target, server.watched, asked.scale, asked.registration_token, abroad)


def start_servers(asked: argparse.Namespace, stack: ExitStack) -> tuple[Meeting | None, list[Server]]:
    """The servers to measure, and how they meet others; those that are started here end with `stack`."""
    if asked.url:
        watched = Watched(tuple(asked.pid), tuple(asked.pg_pid))
        return None, [Server("server", asked.url, watched, f"at {asked.url}")]
    chosen = asked.servers.split(",")
    if unknown := sorted(set(chosen) - set(SERVERS)):
        raise SystemExit(f"no such server: {', '.join(unknown)}; there are: {', '.join(SERVERS)}")
    directory = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
    )
    if os.geteuid() == 0:
        directory.chmod(0o755)  # the database runs as another user and must pass
    meeting = Meeting.arrange(directory)
    for file in directory.iterdir():
        file.chmod(0o644)
    options = Options(directory, asked.synapse_environment.absolute(), meeting)
    servers = []
    for name in chosen:
        for processes in asked.processes if name == "atrium" else (1,):
            label = name if len(asked.processes) == 1 else f"{name}-{processes}"
            tell(f"starting {label}")
            started = SERVERS[name](replace(options, processes=processes, label=label))
            servers.append(stack.enter_context(started))
    return meeting, servers


def about(asked: argparse.Namespace, servers: Sequence[str]) -> list[str]:
    """What has to be known to read the figures."""
    how = f"{asked.rounds} rounds of {asked.seconds:g} s, scale {asked.scale:g}; servers and load on the same {machine()}"
    return [how, *servers]


def publish(report: Report, outcome: Outcome, asked: argparse.Namespace) -> None:
    """Print the table; write it where it was asked for."""
    print(report.markdown())
    if len(asked.processes) > 1:
        print(comparison(outcome.rounds, report.titles))
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(report.json())
    for failure in outcome.failures:
        tell(f"NOT MEASURED: {failure}")
    if asked.write and not outcome.failures:
        write_into(PAGE, report.markdown())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _megabytes(server: Server, *, largest: bool = False) -> int:
    """Of all its processes together, or of the largest."""
    usage = server.watched.usage()
    return round((usage.largest_bytes if largest else usage.resident_bytes) / 1e6)


if __name__ == "__main__":
    sys.exit(main())
