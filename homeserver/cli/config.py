"""`atrium config check` and `atrium config sample`."""

from __future__ import annotations

import sys

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, load_or_exit

config_app = typer.Typer(no_args_is_help=True)


@config_app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Name every mistake in the configuration, each with its path."""
    loaded = load_or_exit(config)
    sys.stdout.write(f"{config} is in order; the server is {loaded.server.name}.\n")


@config_app.command()
def sample() -> None:
    """Print a configuration file with every option, its default and what it means."""
    from homeserver.config.sample import render_sample

    sys.stdout.write(render_sample())
