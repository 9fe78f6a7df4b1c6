"""`atrium hook …`: incoming webhooks. Works while the server runs, and without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit
from homeserver.matrix.errors import MatrixError

if TYPE_CHECKING:
    from homeserver.config import Config
    from homeserver.hooks.administration import HookAdministration
    from homeserver.hooks.types import Hook

hook_app = typer.Typer(no_args_is_help=True)
Work = Callable[["HookAdministration"], Awaitable[list[str]]]


@hook_app.callback()
def hooks() -> None:
    """Incoming webhooks."""


@hook_app.command()
def add(
    room: Annotated[str, typer.Argument(help="The room: its id, or an alias of this server.")],
    name: Annotated[str, typer.Option("--name", help="As who it speaks: Alertmanager.")],
    by: Annotated[str, typer.Option("--by", help="A user in the room who may invite: @alice:example.com.")],
    avatar: Annotated[
        str | None, typer.Option("--avatar", help="Its picture: the mxc:// address of one that was uploaded.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a webhook. Its address is shown once; whoever knows it may post."""
    from homeserver.matrix.ids import UserId

    loaded = load_or_exit(config)
    user_id = by if by.startswith("@") else f"@{by}:{loaded.server.name}"

    async def work(administration: HookAdministration) -> list[str]:
        from homeserver.hooks.administration import NewHook

        made = await administration.add(NewHook(room, name, UserId(user_id), avatar))
        base = (loaded.server.public_baseurl or "").rstrip("/")
        return [
            f"{made.hook.hook_id} speaks as {made.hook.user_id} in {made.hook.room_id}.",
            "Post to this address. It is shown this once; keep it secret:",
            base + made.path,
        ]

    _run(loaded, work)


@hook_app.command("list")
def list_hooks(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List webhooks."""

    async def work(administration: HookAdministration) -> list[str]:
        return [_line(hook) for hook in await administration.hooks()] or ["There are none."]

    _run(load_or_exit(config), work)


@hook_app.command()
def revoke(
    hook_id: Annotated[str, typer.Argument(help="As `atrium hook list` shows it.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Revoke a webhook: its address is worth nothing from now on, and its user leaves the room."""

    async def work(administration: HookAdministration) -> list[str]:
        hook = await administration.revoke(hook_id)
        return [f"{hook.hook_id} ({hook.name}) is revoked."]

    _run(load_or_exit(config), work)


def _line(hook: Hook) -> str:
    used = "never used" if hook.last_used_ms is None else f"last used {_moment(hook.last_used_ms)}"
    return f"{hook.hook_id}: {hook.name} in {hook.room_id}, made by {hook.made_by} {_moment(hook.created_ms)}, {used}"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes")


def _run(loaded: Config, work: Work) -> None:
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    setup_logging(level="warning", style="console")
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        try:
            lines = asyncio.run(_carry_out(loaded.with_database(dsn), work))
        except MatrixError as error:
            fail(error.error)
    sys.stdout.write("\n".join(lines) + "\n")


async def _carry_out(config: Config, work: Work) -> list[str]:
    from homeserver.wiring.offline import hooks_of

    async with hooks_of(config) as administration:
        return await work(administration)
