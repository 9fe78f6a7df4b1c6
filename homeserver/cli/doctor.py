"""`atrium doctor`: says in words what is wrong with a set-up."""

from __future__ import annotations

import sys

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption
from homeserver.config import ConfigError, load

_MARKS = {"good": "\033[32m✓\033[0m", "doubtful": "\033[33m!\033[0m", "wrong": "\033[31m✗\033[0m"}
_PLAIN = {"good": "ok   ", "doubtful": "maybe", "wrong": "WRONG"}


def doctor(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Look at configuration, database, keys, ports, disk and clock, and say what is wrong, and what to do about it."""
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
    for finding in examine(loaded):
        wrong += finding.verdict == "wrong"
        tell(finding)
    sys.stdout.write(f"{wrong} things are wrong.\n" if wrong else "Nothing is wrong.\n")
    raise SystemExit(1 if wrong else 0)
