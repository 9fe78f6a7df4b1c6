"""Whose database this is: the name of the server that used it first, and of no other ever after.

Accounts, rooms and aliases end in the name. Under another one every account would be somebody else's, and its owner could
not log in. spec: appendices/#server-name
"""

from __future__ import annotations

from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Tx


class OtherServer(StorageError):
    """The database belongs to a server of another name."""


async def settle(db: Database, name: str) -> None:
    """Note the name at the first start. Raises `OtherServer` if another one is noted."""
    async with db.transaction() as tx:
        owner = await find(tx)
        if owner is None:
            await tx.execute(
                "INSERT INTO server_name (name) VALUES (%(name)s) ON CONFLICT DO NOTHING", name=name
            )
            owner = await find(tx)
    if owner is not None and owner != name:
        raise OtherServer(refusal(owner, name))


async def find(tx: Tx) -> str | None:
    """The name that is noted."""
    owner: str | None = await tx.value("SELECT name FROM server_name")
    return owner


def refusal(owner: str, name: str) -> str:
    """In words."""
    return (
        f"This database belongs to the server {owner}, and a server's name can never be changed. Say server.name: {owner}, "
        f"or give {name} a server.data_dir or database.url of its own"
    )
