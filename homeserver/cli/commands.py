"""The tree of commands, and how a mistake is told to a person."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from homeserver.cli.appservice import appservice_app
from homeserver.cli.bot import bot_app
from homeserver.cli.config import config_app
from homeserver.cli.doctor import doctor
from homeserver.cli.federation import federation_app
from homeserver.cli.hook import hook_app
from homeserver.cli.init import init
from homeserver.cli.media import media_app
from homeserver.cli.migrate import migrate
from homeserver.cli.readers import readers_app
from homeserver.cli.restored import restored
from homeserver.cli.search import search_app
from homeserver.cli.serve import serve
from homeserver.cli.signing_key import signing_key_app
from homeserver.cli.user import user_app


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"Atrium {version('atrium-homeserver')}\n")
        raise typer.Exit


app = typer.Typer(
    name="atrium",
    help="Atrium, a Matrix homeserver.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    del version  # told already


app.command()(serve)
app.command()(init)
app.command()(migrate)
app.command()(doctor)
app.command()(restored)
app.add_typer(user_app, name="user", help="Accounts.")
app.add_typer(media_app, name="media", help="Files people share.")
app.add_typer(appservice_app, name="appservice", help="Bridges and bots: application services.")
app.add_typer(bot_app, name="bot", help="Writing bots.")
app.add_typer(hook_app, name="hook", help="Incoming webhooks: programs that post into rooms.")
app.add_typer(readers_app, name="readers", help="Readers of the log: what is delivered to others.")
app.add_typer(search_app, name="search", help="The index by which messages are found.")
app.add_typer(
    federation_app, name="federation", help="Other homeservers: what is wrong with one, and what waits."
)
app.add_typer(signing_key_app, name="signing-key", help="The key the server signs with.")
app.add_typer(signing_key_app, name="key", help="The same as signing-key.")
app.add_typer(config_app, name="config", help="The configuration file.")
