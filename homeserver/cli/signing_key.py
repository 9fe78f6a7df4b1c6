"""`atrium signing-key …`: the key that a server signs with."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit

if TYPE_CHECKING:
    from pathlib import Path

    from homeserver.storage.owner import PublicKey

signing_key_app = typer.Typer(no_args_is_help=True)


@signing_key_app.callback()
def signing_keys() -> None:
    """The key the server signs with."""


@signing_key_app.command()
def accept(
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let the server sign with the key that is configured now, instead of the one it has signed with so far.

    For when the old key is lost, or was replaced on purpose. Stop the servers first, and give all hosts the same file.
    """
    from homeserver.runtime.signing_key import load
    from homeserver.storage import migrate
    from homeserver.storage.owner import PublicKey

    loaded = load_or_exit(config)
    with in_words():
        key = load(loaded.server.signing_key)
        if not yes:
            typer.confirm(f"Sign with {key.key_id} from now on?", abort=True)
        with database_of(loaded) as dsn:
            migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
            asyncio.run(_accept(dsn, loaded.server.name, PublicKey(key.key_id, key.public_key)))
    sys.stdout.write(f"The server signs with {key.key_id} from its next start on.\n")


@signing_key_app.command()
def rotate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make a new key, and let the server sign with it from now on, on all hosts, while they serve.

    What was signed with the old key stays valid: the old one is published as such.
    """
    from homeserver.runtime.key_change import GRACE_MS
    from homeserver.storage import migrate

    loaded = load_or_exit(config)
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        key_id = asyncio.run(_rotate(dsn, loaded.server.signing_key))
    sys.stdout.write(
        f"The server signs with {key_id}: every process within seconds, and the old key is valid for another "
        f"{GRACE_MS // 1000} s. Keep a copy of {loaded.server.signing_key}.\n"
    )


async def _rotate(dsn: str, path: Path) -> str:
    from homeserver.runtime import key_change
    from homeserver.runtime.clock import Entropy, SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        return (await key_change.rotate(db, path, SystemClock(), Entropy())).key_id


async def _accept(dsn: str, name: str, key: PublicKey) -> None:
    from homeserver.runtime import key_change
    from homeserver.runtime.clock import SystemClock
    from homeserver.storage.database import Database

    async with Database(dsn, size=1) as db:
        await key_change.accept(db, name, key, SystemClock())
