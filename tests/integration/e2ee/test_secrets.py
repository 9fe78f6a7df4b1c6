"""Secrets and preferences of encryption are account data like any other: CHECKLIST E2E-17."""

import pytest

from tests.support.server import Server


@pytest.mark.parametrize(
    "kind",
    ["m.secret_storage.default_key", "m.secret_storage.key.abc", "m.cross_signing.master", "m.key_backup"],
)
async def test_secrets_are_stored_unchanged(server: Server, kind: str) -> None:
    """E2E-17: read back, and in the sync of the user's other devices."""
    alice = await server.register("alice")
    phone = await alice.new_device()
    await phone.sync()
    content = {
        "key": "abc",
        "enabled": False,
        "encrypted": {"abc": {"iv": "x", "ciphertext": "é\0", "mac": "z"}},
        "passphrase": {"iterations": 500_000, "extra": 1.5, "none": None},
    }
    path = ("/user/{}/account_data/{}", alice.user_id, kind)
    await alice.put(*path, json=content)
    assert await phone.get(*path) == content
    events = (await phone.sync())["account_data"]["events"]
    assert {"type": kind, "content": content} in events
