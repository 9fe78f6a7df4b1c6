"""Whose database this is: the name of the server that used it first, and of no other ever after; and the key it signs with.

Accounts, rooms and aliases end in the name. Under another one every account would be somebody else's, and its owner could
not log in. Hosts that share a database sign for one and the same server: with a key each, others would take half of its
events for forged. spec: appendices/#server-name, server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Tx


class OtherServer(StorageError):
    """The database belongs to a server of another name."""


class OtherKey(StorageError):
    """The server of this database signs with another key."""


class PublicKey(NamedTuple):
    """What everybody may know of a signing key."""

    key_id: str
    """`ed25519:version`."""
    public_key: bytes
    """32 bytes."""


class Owner(NamedTuple):
    """What is noted. `key`: None in a database that an earlier version has used, until the next start."""

    name: str
    key: PublicKey | None

    @classmethod
    def of(cls, name: str, key_id: str | None, public_key: bytes | None) -> Owner:
        """From a row."""
        return cls(name, PublicKey(key_id, public_key) if key_id and public_key else None)


async def settle(db: Database, name: str, key: PublicKey) -> None:
    """Note name and key at the first start. Raises `OtherServer`, `OtherKey` if others are noted."""
    async with db.transaction() as tx:
        owner = await find(tx)
        if owner is None or owner.key is None:
            await tx.execute(
                """
                INSERT INTO server_name (name, key_id, public_key) VALUES (%(name)s, %(key_id)s, %(public_key)s)
                ON CONFLICT (one) DO UPDATE SET key_id = excluded.key_id, public_key = excluded.public_key
                    WHERE server_name.key_id IS NULL AND server_name.name = excluded.name
                """,
                name=name,
                key_id=key.key_id,
                public_key=key.public_key,
            )
            owner = await find(tx)
    if owner is not None and owner.name != name:
        raise OtherServer(refusal(owner.name, name))
    if owner is not None and owner.key is not None and owner.key != key:
        raise OtherKey(key_refusal(owner.key.key_id, key.key_id))


async def change_key(db: Database, name: str, key: PublicKey) -> None:
    """Note another key, because whoever runs the server says so. Raises `OtherServer`."""
    async with db.transaction() as tx:
        owner = await find(tx)
        if owner is not None and owner.name != name:
            raise OtherServer(refusal(owner.name, name))
        await tx.execute(
            """
            INSERT INTO server_name (name, key_id, public_key) VALUES (%(name)s, %(key_id)s, %(public_key)s)
            ON CONFLICT (one) DO UPDATE SET key_id = excluded.key_id, public_key = excluded.public_key
            """,
            name=name,
            key_id=key.key_id,
            public_key=key.public_key,
        )


async def find(tx: Tx) -> Owner | None:
    """What is noted."""
    return await tx.row(Owner.of, "SELECT name, key_id, public_key FROM server_name")


def refusal(owner: str, name: str) -> str:
    """In words."""
    return (
        f"This database belongs to the server {owner}, and a server's name can never be changed. Say server.name: {owner}, "
        f"or give {name} a server.data_dir or database.url of its own"
    )


def key_refusal(noted: str, given: str) -> str:
    """In words."""
    which = f"{given}, not {noted}" if given != noted else f"another one of the name {noted}"
    return (
        f"The server of this database signs with the key {noted}; the signing key here is {which}. All hosts of a server "
        "sign with one and the same: put the file of the host that came first in its place (server.signing_key_path). "
        "If the old key is lost, or was replaced on purpose: atrium signing-key accept"
    )
