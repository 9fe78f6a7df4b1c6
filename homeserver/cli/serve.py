"""`atrium serve`: run the server, from a configuration file or, with --dev, to try it out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, fail, in_words, load_or_exit
from homeserver.config import Config, dev_config


def serve(  # noqa: PLR0913, PLR0917  # options, not arguments
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    dev: Annotated[
        bool, typer.Option("--dev", help="Try it out on this machine: open to everybody on it.")
    ] = False,
    port: Annotated[int, typer.Option(help="With --dev: where to listen; 0 lets the system choose.")] = 8008,
    address: Annotated[str, typer.Option(help="With --dev: a loopback address.")] = "127.0.0.1",
    data: Annotated[Path, typer.Option(help="With --dev: where everything is kept.")] = Path("data"),
    server_name: Annotated[
        str, typer.Option(help="With --dev: the part after the colon in user ids.")
    ] = "localhost",
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="How many processes serve.")] = None,
    guide: Annotated[bool, typer.Option("--guide", hidden=True)] = False,
) -> None:
    """Run the server until SIGTERM or SIGINT."""
    _refuse(context, dev=dev)
    with in_words():
        if dev:
            chosen = dev_config(
                port=port, address=address, data=data, server_name=server_name, processes=processes or 1
            )
        else:
            chosen = load_or_exit(config)
            if processes is not None:
                chosen = chosen.with_processes(processes)
        sys.exit(run(chosen, guide=config if guide else None))


def _refuse(context: typer.Context, *, dev: bool) -> None:
    """Say so where an option was given that would count for nothing."""
    for option in ("config",) if dev else ("port", "address", "data", "server_name"):
        source = context.get_parameter_source(option)
        if source is None or source.name != "COMMANDLINE":
            continue
        name = f"--{option.replace('_', '-')}"
        if dev:
            fail(f"{name} does not go with --dev, which reads no file", status=2)
        fail(f"{name} is for --dev; here the configuration file says so", status=2)


def run(config: Config, *, guide: Path | None = None) -> int:
    """Serve; the exit status. With `guide`, also say how to go on, naming that configuration file."""
    from homeserver.runtime import supervisor
    from homeserver.runtime.logging import setup_logging
    from homeserver.runtime.worker import Serve

    setup_logging(level=config.log.level, style=config.log.format)

    def load_serve() -> Serve:
        from homeserver import app

        return app.serve

    def announce(settled: Config) -> None:
        sys.stdout.write(_serving(settled) + "\n")
        if guide is not None:
            sys.stdout.write(_guide(settled, guide))
        sys.stdout.flush()

    return supervisor.run(config, load_serve, announce=announce)


def _serving(config: Config) -> str:
    from homeserver.runtime.ports import urls

    line = f"Atrium serves {config.server.name} on {' and '.join(urls(config.listeners)) or 'its listeners'}"
    if not config.development:
        return line
    warning = (
        'FOR DEVELOPMENT ONLY: anybody may register, the shared secret is "dev", there are no rate limits'
    )
    if sys.stdout.isatty():
        warning = f"\033[1;31m{warning}\033[0m"
    return f"{line} -- {warning}"


def _guide(config: Config, file: Path) -> str:
    from homeserver.runtime.ports import urls

    url = next(iter(urls(config.listeners)), "the address of your listener")
    atrium = Path(sys.argv[0])
    return f"""
  Make the first account (in another terminal):
      {atrium} user create alice --admin --config {file}

  Then open a Matrix client, for example Element Desktop, choose "Edit" beside the homeserver, and enter
      {url}
  To see that it answers: {url}/_matrix/client/versions

  The configuration is {file}, everything else is in {config.server.data_dir}. Ctrl-C stops the server.

"""
