"""The command `atrium`: one file per command, each importing what it needs when it runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command."""
    _import_structlog_alone()
    if sys.argv[1:2] == ["worker"]:  # started by the supervisor, not by a person
        from homeserver.cli.worker import worker

        sys.exit(worker())
    from homeserver.cli.commands import app

    app()


def _import_structlog_alone() -> None:
    """Structlog imports rich if it can, for tracebacks we do not show; that alone would double the start-up time."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        import structlog.dev  # noqa: F401  # for its effect
    finally:
        del sys.modules["rich"]
