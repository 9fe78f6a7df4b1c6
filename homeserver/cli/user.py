"""`atrium user …`: accounts, by whoever runs the server. Works while it runs, and without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeserver.cli.common import DEFAULT_CONFIG, ConfigOption, database_of, fail, in_words, load_or_exit
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import UserId

if TYPE_CHECKING:
    from homeserver.accounts.types import Account
    from homeserver.config import Config
    from homeserver.wiring.accounts import AccountsFeature

user_app = typer.Typer(no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="The local part (alice) or the whole user id (@alice:example.com).")
]
NewPassword = Annotated[
    str,
    typer.Option(
        prompt=True,
        hide_input=True,
        confirmation_prompt=True,
        show_default=False,
        help="Asked for if left out.",
    ),
]
PAGE = 500


@user_app.callback()
def users() -> None:
    """Accounts."""


@user_app.command()
def create(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    password: NewPassword = "",
    admin: Annotated[bool, typer.Option("--admin", help="May administer the server.")] = False,
) -> None:
    """Make an account."""

    async def work(feature: AccountsFeature) -> str:
        from homeserver.accounts.types import NewAccount

        feature.registration.check_password(password)
        user_id = feature.names.wished(_localpart(feature, name), by_admin=True)
        made = await feature.registration.register(
            NewAccount(user_id, is_admin=admin), password=password, session=None
        )
        return f"Made {made.user_id}{', an administrator' if admin else ''}."

    _run(config, work)


@user_app.command(name="list")
def list_(
    config: ConfigOption = DEFAULT_CONFIG,
    ended: Annotated[bool, typer.Option("--ended", help="Deactivated accounts and guests too.")] = False,
) -> None:
    """List accounts."""

    async def work(feature: AccountsFeature) -> str:
        after, count = UserId(""), 0
        while page := await feature.accounts.list_after(after, PAGE):
            after = page[-1].user_id
            for account in page:
                if ended or not (account.deactivated or account.is_guest):
                    print(_line(account))
                    count += 1
        return f"{count} accounts."

    _run(config, work)


@user_app.command()
def password(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    password: NewPassword = "",
    keep_sessions: Annotated[bool, typer.Option("--keep-sessions", help="Devices stay logged in.")] = False,
) -> None:
    """Set a new password; devices are logged out."""

    async def work(feature: AccountsFeature) -> str:
        account = await _find(feature, name)
        await feature.accounts.change_password(
            account.user_nid, account.user_id, password, keep=None, logout_devices=not keep_sessions
        )
        return f"{account.user_id} has a new password."

    _run(config, work)


@user_app.command()
def deactivate(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    erase: Annotated[
        bool, typer.Option("--erase", help="Whoever joins later sees the user's messages redacted.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End an account for ever."""
    if not yes:
        typer.confirm(f"End the account {name} for ever?", abort=True)

    async def work(feature: AccountsFeature) -> str:
        account = await _find(feature, name)
        await feature.ending.deactivate(account.user_nid, account.user_id, erase=erase)
        return f"{account.user_id} has ended."

    _run(config, work)


@user_app.command(name="reset-cross-signing")
def reset_cross_signing(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a user's cross-signing keys: they set up new ones without proof, and others verify them anew."""
    if not yes:
        typer.confirm(f"Remove the cross-signing keys of {name}?", abort=True)

    async def work(feature: AccountsFeature) -> str:
        account = await _find(feature, name)
        await feature.cross_signing.reset(account.user_nid, account.user_id)
        return f"{account.user_id} has no cross-signing keys any more; the next ones need no proof."

    _run(config, work)


@user_app.command()
def admin(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    revoke: Annotated[bool, typer.Option("--revoke", help="No administrator any more.")] = False,
) -> None:
    """Make a user an administrator of the server."""

    async def work(feature: AccountsFeature) -> str:
        account = await _find(feature, name)
        await feature.accounts.set_flags(account.user_nid, is_admin=not revoke)
        return (
            f"{account.user_id} is {'no' if revoke else 'an'} administrator{' any more' if revoke else ''}."
        )

    _run(config, work)


@user_app.command()
def token(
    config: ConfigOption = DEFAULT_CONFIG,
    uses: Annotated[
        int | None,
        typer.Option(min=1, max=2**31 - 1, help="How often it can be used; any number if left out."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36500, help="How long it is valid; for ever if left out.")
    ] = None,
) -> None:
    """Make a registration token, to be given to whoever may make an account."""

    async def work(feature: AccountsFeature) -> str:
        lifetime_ms = None if days is None else round(days * 86_400_000)
        return await feature.registration.make_token(uses_allowed=uses, lifetime_ms=lifetime_ms)

    _run(config, work)


def _run(config: ConfigOption, work: Callable[[AccountsFeature], Coroutine[Any, Any, str]]) -> None:
    """Carry out on the configured database; the sentence goes to standard output, a refusal to standard error."""
    from homeserver.runtime.logging import setup_logging
    from homeserver.storage import migrate

    loaded = load_or_exit(config)
    setup_logging(level="warning", style="console")
    with in_words(), database_of(loaded) as dsn:
        migrate.apply(dsn) if loaded.database.url is None else migrate.require_current(dsn)
        try:
            sentence = asyncio.run(_carry_out(loaded.with_database(dsn), work))
        except MatrixError as error:
            fail(error.error)
    sys.stdout.write(f"{sentence}\n")


async def _carry_out(config: Config, work: Callable[[AccountsFeature], Coroutine[Any, Any, str]]) -> str:
    from homeserver.wiring.offline import accounts_of

    async with accounts_of(config) as feature:
        return await work(feature)


def _localpart(feature: AccountsFeature, name: str) -> str:
    return name.removeprefix("@").removesuffix(f":{feature.names.server_name}")


async def _find(feature: AccountsFeature, name: str) -> Account:
    user_id = UserId(f"@{_localpart(feature, name)}:{feature.names.server_name}")
    account = await feature.accounts.find(user_id)
    if account is None or account.deactivated:
        fail(f"There is no account {user_id}.")
    return account


def _line(account: Account) -> str:
    marks = {
        "administrator": account.is_admin,
        "guest": account.is_guest,
        "locked": account.locked,
        "suspended": account.suspended,
        "ended": account.deactivated,
        f"of {account.appservice_id}": account.appservice_id is not None,
    }
    return "  ".join([account.user_id, *(mark for mark, set_ in marks.items() if set_)])
