"""How an account comes to exist.

spec: client-server-api/#account-registration-and-management, #token-authenticated-registration,
#terms-of-service-at-registration, #guest-access
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from homeserver.accounts import store
from homeserver.accounts.names import Names
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.ports import AccountProfiles, JoinFirstRooms, NotesRegistration
from homeserver.accounts.tasks import AccountTasks, user_task
from homeserver.accounts.types import Account, NewAccount
from homeserver.accounts.usage import UsageLimit
from homeserver.config import ConfigError
from homeserver.config.registration import RegistrationSection
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, Unauthorized, UserInUse
from homeserver.matrix.ids import UserId, localpart_of
from homeserver.runtime.clock import Clock
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.service import SessionService
from homeserver.sessions.types import SessionRequest, Tokens
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.uia.service import Uia, Verified
from homeserver.uia.stages import REGISTRATION_TOKEN, TERMS

STAGES: Mapping[str, str] = {
    "dummy": "m.login.dummy",
    "token": REGISTRATION_TOKEN,
    "email": "m.login.email.identity",
    "recaptcha": "m.login.recaptcha",
    "terms": TERMS,
}
"""Steps of the configuration -> stages of the protocol."""


JOIN = user_task("join_first_rooms")
_WAIT_SECONDS = 5.0
"""How long a new user waits to be in the rooms everybody is in; after that, it happens without waiting."""


class Registered(NamedTuple):
    """An account that was just made. `tokens` is None if no session was asked for."""

    user_nid: int
    user_id: UserId
    tokens: Tokens | None


class RegistrationService:
    """Makes accounts."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        *,
        db: Database,
        log: LogWriter,
        clock: Clock,
        names: Names,
        config: RegistrationSection,
        passwords: Passwords,
        sessions: SessionService,
        tasks: AccountTasks,
        profiles: AccountProfiles,
        usage: UsageLimit,
    ) -> None:
        self.usage = usage
        self._db = db
        self._log = log
        self._clock = clock
        self.names = names
        self._config = config
        self._passwords = passwords
        self._sessions = sessions
        self._tasks = tasks
        self._profiles = profiles
        self._noters: list[NotesRegistration] = []

    @property
    def config(self) -> RegistrationSection:
        return self._config

    def join_with(self, rooms: JoinFirstRooms) -> None:
        """Plug in who joins new users to the rooms everybody is in."""

        async def join(_user_nid: int, user_id: UserId) -> None:
            await rooms.join_first_rooms(user_id)

        self._tasks.handle(JOIN, join)

    def note_with(self, *features: NotesRegistration) -> None:
        """Plug in who keeps something of what was proved."""
        self._noters.extend(features)

    def flows(self) -> list[list[str]]:
        """What a person has to go through. Raises `Forbidden` when nobody can register."""
        if not self._config.enabled:
            raise Forbidden("Registration is disabled")
        return [[STAGES[step] for step in flow] for flow in self._config.flows]

    def check_possible(self, uia: Uia) -> None:
        """Raises `ConfigError` for a configured step that this version cannot ask for."""
        if not self._config.enabled:
            return
        for step in dict.fromkeys(step for flow in self._config.flows for step in flow):
            if not uia.can(STAGES[step]):
                where = "registration.flows"
                raise ConfigError("The configuration", [(where, f"this version cannot ask for {step} yet")])

    async def check_free(self, user_id: UserId) -> None:
        """Raises `UserInUse`. Whether it is still free later, only `register` knows."""
        async with self._db.read() as tx:
            if await store.find_account(tx, user_id) is not None:
                raise UserInUse("User ID already taken")

    def check_password(self, password: str) -> None:
        """Raises `WeakPassword`."""
        self._passwords.check_strength(password)

    async def register(
        self,
        new: NewAccount,
        *,
        password: str | None,
        session: SessionRequest | None,
        proof: Verified | None = None,
        nonce: tuple[str, int] | None = None,
    ) -> Registered:
        """Make an account, and log in if `session` says how; all or nothing.

        `proof` is used up. `nonce` is one of shared-secret registration with the time until which it is refused.

        Raises:
            UserInUse: somebody was quicker.
            ThreepidInUse: likewise, with the address that was proved.
            Forbidden: the proof or nonce was used already.
            Unauthorized: the registration token has no use left.
        """
        if password is not None:
            new = new._replace(password_hash=await self._passwords.hash(password))
        async with self._db.transaction() as tx:
            if proof is not None:
                await self._use_proof(tx, proof)
            if nonce is not None and not await store.spend_nonce(tx, *nonce):
                raise Forbidden("This nonce was used already")
            user_nid = await store.insert_account(tx, new, self._clock.now_ms())
            if user_nid is None:
                raise UserInUse("User ID already taken")
            if proof is not None:
                await self._note(tx, proof, user_nid)
            joins = self._joins_rooms(new)
            async with tx.pipeline() as batch:
                if not new.is_guest:
                    name = new.displayname or localpart_of(new.user_id)
                    self._profiles.name_newcomer(batch, user_nid, name)
                if joins:
                    self._tasks.order(batch, JOIN, user_nid)
            tokens = None
            if session is not None:
                tokens = await self._sessions.open_new(tx, user_nid, session)
        if joins:
            await self._tasks.carry_out(JOIN, user_nid, within=_WAIT_SECONDS)
        return Registered(user_nid, new.user_id, tokens)

    async def upgrade_guest(
        self, guest: Account, *, password: str | None, session: SessionRequest | None, proof: Verified
    ) -> Registered:
        """Turn a guest into a user of the same name (CHECKLIST AUTH-22). Its guest sessions go on as the user's.

        Raises as `register`; `Forbidden` if it is no guest any more.
        """
        hashed = None if password is None else await self._passwords.hash(password)
        async with self._db.transaction() as tx:
            await self._use_proof(tx, proof)
            if not await store.upgrade_guest(tx, guest.user_nid, hashed):
                raise Forbidden("This account is no guest")
            await self._note(tx, proof, guest.user_nid)
        await self._log.append(SessionsChanged(guest.user_nid))
        tokens = None if session is None else await self._sessions.open(guest.user_nid, session)
        return Registered(guest.user_nid, guest.user_id, tokens)

    async def token_is_valid(self, token: str) -> bool:
        """Whether somebody could register with it now. Raises `Forbidden` when nobody can register."""
        if not any(REGISTRATION_TOKEN in flow for flow in self.flows()):
            return False
        now_ms = self._clock.now_ms()
        async with self._db.read() as tx:
            found = await store.find_registration_token(tx, token, now_ms)
        return found is not None and found.valid(now_ms)

    def _joins_rooms(self, new: NewAccount) -> bool:
        person = not new.is_guest and new.appservice_id is None and new.user_type is None
        return person and bool(self._config.autojoin_rooms)

    async def make_token(self, *, uses_allowed: int | None, lifetime_ms: int | None) -> str:
        """A registration token; None: any number of uses, for ever."""
        token = self.names.registration_token()
        now_ms = self._clock.now_ms()
        expires_ms = None if lifetime_ms is None else now_ms + lifetime_ms
        async with self._db.transaction() as tx:
            await store.insert_registration_token(tx, token, uses_allowed, expires_ms, now_ms)
        return token

    async def _use_proof(self, tx: Tx, proof: Verified) -> None:
        token = proof.remembered.get(REGISTRATION_TOKEN)
        if token is not None:
            now_ms = self._clock.now_ms()
            if not await store.lock_registration_token(tx, token):
                raise Unauthorized("Invalid registration token")
            found = await store.find_registration_token(tx, token, now_ms, but=proof.session or b"")
            if found is None or not found.valid(now_ms):
                raise Unauthorized("Invalid registration token")
            await store.count_use(tx, token)
        await proof.consume(tx)

    async def _note(self, tx: Tx, proof: Verified, user_nid: int) -> None:
        await self._note_terms(tx, proof, user_nid)
        for feature in self._noters:
            await feature.note_registration(tx, user_nid, proof)

    async def _note_terms(self, tx: Tx, proof: Verified, user_nid: int) -> None:
        shown = proof.remembered.get(TERMS)
        if shown:
            accepted = msgspec.json.decode(shown, type=Sequence[tuple[str, str]])
            await store.insert_terms(tx, user_nid, accepted, self._clock.now_ms())
