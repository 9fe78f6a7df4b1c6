"""The mails in which an address is proved, as jobs: they survive a restart, and wait while the mail server is away.

The queue knows a session and what to write, neither address nor token: the token of a link is made when its mail is
sent, and only its hash is stored.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeserver.jobs.service import Jobs
from homeserver.jobs.types import GiveUp, JobKind, Retry
from homeserver.mail.service import MailService
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.tokens import digest_of, new_token
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.threepids import store
from homeserver.threepids.letters import Kind, letter

PAGE: Final = "/_matrix/static/client/email/confirm"
TOKEN_PREFIX: Final = "ate_"  # noqa: S105  # what kind, not which


class LetterOrder(msgspec.Struct, frozen=True):
    """Which mail is to be sent."""

    sid: str
    """The session whose address it goes to."""
    kind: Kind


LETTER: Final = JobKind(
    "threepids.letter",
    LetterOrder,
    Retry(first=5.0, factor=4.0, longest=900.0, attempts=6),
    timeout=600.0,
    most=1_000,
)


class Letters:
    """Orders mails, and sends those that were ordered."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        jobs: Jobs,
        mail: MailService | None,
        server_name: str,
        base_url: str,
    ) -> None:
        """`mail` None: nothing can be sent. `base_url`: what links begin with."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._jobs = jobs
        self._mail = mail
        self._server_name = server_name
        self._base_url = base_url

    @property
    def possible(self) -> bool:
        """Whether this server sends mail."""
        return self._mail is not None

    async def order(self, tx: Tx, sid: str, kind: Kind) -> None:
        """Have a mail sent after this transaction; call `begin` then. Raises `TooManyJobs`."""
        await self._jobs.add(tx, LETTER, LetterOrder(sid, kind))

    def begin(self) -> None:
        """What was ordered is committed."""
        self._jobs.wake()

    async def send(self, order: LetterOrder) -> None:
        """Send it, unless nobody waits for it any more. Raises as `MailService.send`.

        Each attempt has a token of its own: of a mail server that does not answer nobody knows whether it has the mail.
        """
        if self._mail is None:
            raise GiveUp("this server sends no mail any more")
        now_ms, link = self._clock.now_ms(), ""
        async with self._db.transaction() as tx:
            session = await store.find_unproved(tx, order.sid, now_ms)
            if session is None:
                return
            if order.kind != "known":
                token = new_token(self._entropy, TOKEN_PREFIX)
                await store.insert_token(tx, digest_of(token), order.sid, session.expires_ms)
                link = f"{self._base_url}{PAGE}?token={token}"
        await self._mail.send(letter(order.kind, to=session.address, server=self._server_name, link=link))
