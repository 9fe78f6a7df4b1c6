"""How many addresses an account may have: CHECKLIST AUTH-31."""

import asyncio
from collections.abc import Sequence

from homeserver.matrix.errors import ResourceLimitExceeded
from homeserver.runtime.clock import FakeClock
from homeserver.threepids.service import MAX_ADDRESSES, ThreepidService
from homeserver.threepids.types import Proof
from tests.support.identity import IdentityServer


async def test_the_bound_holds_for_many_at_once_and_what_is_there_can_be_proved_anew(
    mailing: IdentityServer,
) -> None:
    assert mailing.db is not None
    alice = await mailing.register("alice")
    account = await mailing.parts.accounts.find(alice.user_id)
    assert account is not None
    services = [ThreepidService(mailing.db, FakeClock()) for _ in range(2)]  # as two processes have

    async def add(names: Sequence[str]) -> list[BaseException | None]:
        assert mailing.db is not None
        proofs = [Proof(f"s-{name}", "email", f"{name}@example.org", 1) for name in names]
        async with mailing.db.transaction() as tx:
            for proof in proofs:
                await tx.execute(
                    """
                    INSERT INTO threepid_sessions
                        (sid, purpose, medium, address, secret_hash, send_attempt, expires_ms)
                    VALUES (%(sid)s, 'add', 'email', %(address)s, '', 1, 9)
                    """,
                    sid=proof.sid,
                    address=proof.address,
                )
        return await asyncio.gather(
            *(
                services[number % 2].add(account.user_nid, proof)  # type: ignore[union-attr]
                for number, proof in enumerate(proofs)
            ),
            return_exceptions=True,
        )

    refused = [error for error in await add([str(n) for n in range(MAX_ADDRESSES + 8)]) if error]
    assert len(refused) == 8
    assert all(isinstance(error, ResourceLimitExceeded) for error in refused)
    there = await services[0].list_of(account.user_nid)
    assert len(there) == MAX_ADDRESSES
    async with mailing.db.transaction() as tx:
        await tx.execute("DELETE FROM threepid_sessions")
    assert await add([there[0].address.partition("@")[0]]) == [None]
