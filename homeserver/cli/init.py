"""`atrium init`: write a configuration file and a signing key."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, fail, in_words
from homeserver.config import load, parse
from homeserver.config.server import check_server_name


def init(
    server_name: Annotated[
        str,
        typer.Option(
            help="The part after the colon in user ids; it can never be changed.", prompt="Server name"
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    data: Annotated[
        str, typer.Option(help="Where everything is kept; a relative path starts at the configuration file.")
    ] = "data",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: the default.")] = 0,
    address: Annotated[
        str, typer.Option(help="Where to listen: 127.0.0.1 unless said otherwise; 0.0.0.0: everywhere.")
    ] = "",
) -> None:
    """Write a configuration file, with every option and its default, and the server's signing key."""
    from homeserver.config.sample import render_sample
    from homeserver.runtime.clock import Entropy
    from homeserver.runtime.signing_key import load_or_create
    from homeserver.storage import data_folder

    try:
        check_server_name(server_name)
    except ValueError as error:
        fail(f"--server-name: {error}", status=2)
    text = render_sample(server_name, data, port, address)
    with in_words():
        parse(text, source="What was given", base=config.absolute().parent, environment={})
    try:
        data_folder.make(config.parent)
        # It may hold passwords one day: for its owner alone from the start.
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{config} exists already; it was left as it is")
    except OSError as error:
        fail(f"{config} cannot be written: {error.strerror}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    with in_words():
        made = load(config, {})
        key = load_or_create(made.server.signing_key, Entropy())
    sys.stdout.write(
        f"Wrote {config} and {made.server.signing_key} ({key.key_id}). Keep a copy of the key.\n"
    )
