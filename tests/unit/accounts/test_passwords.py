"""Hashing passwords: off the event loop, bounded, replaceable."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest

from homeserver.accounts import passwords as module
from homeserver.accounts.passwords import Passwords
from homeserver.config.auth import PasswordHash, PasswordPolicy
from homeserver.matrix.errors import LimitExceeded

CHEAP = PasswordHash(memory="8K", passes=1, concurrent=1)  # type: ignore[arg-type]  # as people write it


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(CHEAP, PasswordPolicy(), imported_pepper="pepper")
    yield made
    made.close()


async def test_a_hash_says_how_it_was_made_and_is_never_the_same_twice(passwords: Passwords) -> None:
    first, second = await passwords.hash("secret"), await passwords.hash("secret")
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert first != second
    assert await passwords.verify("secret", first)
    assert not await passwords.verify("Secret", first)
    assert not await passwords.verify("secret", None)
    assert not await passwords.verify("", None)


@pytest.mark.parametrize("stored", ["", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$broken", "$2b$04$broken"])
async def test_a_hash_that_cannot_be_read_lets_nobody_in(passwords: Passwords, stored: str) -> None:
    assert not await passwords.verify("secret", stored)
    assert passwords.outdated(stored)


async def test_what_was_made_with_other_costs_is_out_of_date(passwords: Passwords) -> None:
    dearer = Passwords(PasswordHash(memory="16K", passes=1), PasswordPolicy())  # type: ignore[arg-type]
    made = await dearer.hash("secret")
    dearer.close()
    assert passwords.outdated(made)
    assert await passwords.verify("secret", made)
    assert not passwords.outdated(await passwords.hash("secret"))


@pytest.mark.parametrize("password", ["secret", "Å" * 60, "x" * 100])
async def test_imported_bcrypt_hashes_are_checked_with_their_pepper(
    passwords: Passwords, password: str
) -> None:
    stored = bcrypt.hashpw((password + "pepper").encode()[:72], bcrypt.gensalt(4)).decode()
    assert await passwords.verify(password, stored)
    assert not await passwords.verify("other", stored)
    assert passwords.outdated(stored)


@pytest.mark.parametrize("password", ["\0", "a\0b", "\ud800", "x" * 1024])
async def test_any_string_can_be_a_password(passwords: Passwords, password: str) -> None:
    assert await passwords.verify(password, await passwords.hash(password))


async def test_what_is_too_long_is_no_password_of_anybody(passwords: Passwords) -> None:
    assert not await passwords.verify("x" * 1025, await passwords.hash("x"))


async def test_the_event_loop_goes_on_and_no_more_than_a_bounded_number_waits(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    go_on = threading.Event()

    def blocked(*_: Any) -> bool:
        go_on.wait(10)
        return True

    monkeypatch.setattr(passwords, "_verify", blocked)
    waiting = [asyncio.create_task(passwords.verify("secret", None)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(LimitExceeded):
        await passwords.verify("secret", None)
    go_on.set()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert await passwords.verify("secret", None)
