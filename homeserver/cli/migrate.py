"""`atrium migrate`: bring the database's schema to the one this version needs."""

from __future__ import annotations

import sys

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, in_words, load_or_exit


def migrate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the database's schema to the one this version needs. Stop the servers first."""
    from homeserver.storage import migrate as schema

    loaded = load_or_exit(config)
    with in_words(), database_of(loaded) as dsn:
        applied = schema.apply(dsn, on_each=lambda name: print(f"applying {name} …", flush=True))
    sys.stdout.write(f"Applied {len(applied)} migrations.\n" if applied else "Nothing to do.\n")
