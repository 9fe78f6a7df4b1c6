"""`atrium user create`: an account, made by whoever runs the server."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit

user_app = typer.Typer(no_args_is_help=True)


@user_app.callback()
def users() -> None:
    """Accounts."""


@user_app.command()
def create(
    name: Annotated[
        str, typer.Argument(help="The local part (alice) or the whole user id (@alice:example.com).")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    password: Annotated[
        str,
        typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for if left out."),
    ] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May administer the server.")] = False,
) -> None:
    """Make an account. Works while the server runs, and without it."""
    from homeserver import app
    from homeserver.matrix.errors import MatrixError
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    loaded = load_or_exit(config)
    setup_logging(level="warning", style="console")
    localpart = name.removeprefix("@").removesuffix(f":{loaded.server.name}")
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        try:
            user_id = asyncio.run(
                app.create_user(
                    loaded.with_database(dsn), localpart=localpart, password=password, admin=admin
                )
            )
        except MatrixError as error:
            fail(f"{name}: {error}")
    sys.stdout.write(f"Made {user_id}{', an administrator' if admin else ''}.\n")
