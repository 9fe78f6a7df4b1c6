"""What several commands share: where the configuration is, and an end in words instead of a traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from homeserver.config import Config, ConfigError, load

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The configuration file.", envvar="ATRIUM_CONFIG", show_default=True),
]
DEFAULT_CONFIG = Path("config.yaml")


def load_or_exit(path: Path) -> Config:
    """The configuration; prints all mistakes and exits with 2 if it cannot be used."""
    if not path.exists():
        fail(f"There is no {path}. Make one: atrium init --config {path}", status=2)
    try:
        return load(path)
    except ConfigError as error:
        fail(str(error), status=2)


def fail(sentence: str, *, status: int = 1) -> NoReturn:
    """Say what is wrong on standard error, and exit."""
    sys.stderr.write(f"{sentence}\n")
    raise SystemExit(status)


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Errors that a person can do something about end the command with their sentence."""
    import psycopg

    from homeserver.runtime.ports import PortTaken
    from homeserver.runtime.signing_key import SigningKeyError
    from homeserver.storage.errors import StorageError

    try:
        yield
    except (ConfigError, PortTaken, SigningKeyError, StorageError) as error:
        fail(str(error))
    except psycopg.OperationalError as error:
        fail(f"The database does not answer: {str(error).strip()}")
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        fail("The database is not as this version needs it\nrun: atrium migrate")


@contextlib.contextmanager
def database_of(config: Config) -> Iterator[str]:
    """The connection string of the configured database; the embedded one is started if no server runs it."""
    if config.database.url is not None:
        yield config.database.url
        return
    from homeserver.storage.embedded import EmbeddedPostgres

    with EmbeddedPostgres(config.server.data_dir).use() as dsn:
        yield dsn
