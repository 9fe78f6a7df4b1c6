"""`atrium bot …`: writing bots. What they stand on is `appservices.bots`; docs/bots.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from homeserver.cli.common import fail

bot_app = typer.Typer(no_args_is_help=True)


@bot_app.callback()
def bots() -> None:
    """Bots."""


@bot_app.command()
def new(
    name: Annotated[str, typer.Argument(help="The bot's name: @NAME:your.server.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where it is written; by default NAME.", show_default=False),
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="Where the homeserver will reach it.")
    ] = "http://127.0.0.1:9100",
) -> None:
    """Write a bot that runs: its code, a test, its registration."""
    from appservices.bots import NotConfigured, scaffold

    where = folder or Path(name)
    try:
        written = scaffold.write(name, where, url)
    except NotConfigured as error:
        fail(str(error))
    for path in written:
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(
        f"\nTell the server:  atrium appservice add {where / 'registration.yaml'}\n"
        f"Run it:           cd {where} && {sys.executable} bot.py\n"
    )
