"""The part of the composition root that makes accounts, authentication, devices and profiles out of what they need.

Nobody receives an `Identity`; `app.py` takes the pieces out of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from homeserver.accounts.api import RegistrationApi
from homeserver.accounts.names import Names
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.service import AccountService
from homeserver.auth.api import AuthApi
from homeserver.auth.appservices import AppserviceSessions
from homeserver.auth.authenticator import Sessions, TokenAuthenticator
from homeserver.auth.identifiers import Identifiers
from homeserver.auth.last_seen import LastSeen
from homeserver.auth.login import LoginService
from homeserver.auth.login_tokens import LoginTokens
from homeserver.auth.password_check import PasswordCheck
from homeserver.auth.passwords import Passwords
from homeserver.auth.ports import Appservices, NoAppservices, NoThreepids
from homeserver.auth.sessions import SessionService, in_ms
from homeserver.auth.stages import DummyStage, PasswordStage, RegistrationTokenStage, TermsStage
from homeserver.auth.uia import Uia
from homeserver.config import Config
from homeserver.devices.service import DeviceService
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.web.rate_limit import RateLimiter


class Identity:
    """Everything about who somebody is."""

    def __init__(
        self,
        config: Config,
        *,
        db: Database,
        log: LogWriter,
        tail: Tail,
        clock: Clock,
        entropy: Entropy,
        limiter: RateLimiter,
        appservices: Appservices | None = None,
    ) -> None:
        registry = appservices or NoAppservices()
        server_name = ServerName(config.server.name)
        self._base_url = config.server.public_baseurl
        self.last_seen = LastSeen(db, clock)
        self.session_cache = Sessions()
        tail.attach(self.session_cache)
        masks = AppserviceSessions(db, registry)
        self.session_cache.on_change(masks.forget)
        self.authenticator = TokenAuthenticator(
            db=db, clock=clock, sessions=self.session_cache, last_seen=self.last_seen, appservices=masks
        )
        self.passwords = Passwords(config.auth.password_hash, config.auth.password_policy)
        self.sessions = SessionService(
            db=db, log=log, sessions=self.session_cache, clock=clock, entropy=entropy, config=config.auth
        )
        self.devices = DeviceService(db=db, log=log, clock=clock, last_seen=self.last_seen)
        self.accounts = AccountService(
            db=db,
            log=log,
            clock=clock,
            server_name=server_name,
            passwords=self.passwords,
            devices=self.devices,
        )
        identifiers = Identifiers(server_name, NoThreepids())
        password_check = PasswordCheck(db, self.passwords, limiter)
        self.uia = Uia(
            db=db,
            clock=clock,
            entropy=entropy,
            limiter=limiter,
            lifetime_ms=in_ms(config.auth.ui_auth_session_lifetime) or 0,
        )
        self.uia.add(
            DummyStage(),
            PasswordStage(password_check, identifiers),
            RegistrationTokenStage(db, clock),
            TermsStage(config.registration.policies),
        )
        login = LoginService(
            config=config.auth,
            sessions=self.sessions,
            passwords=password_check,
            identifiers=identifiers,
            appservices=registry,
            tokens=LoginTokens(db, clock, entropy),
            limiter=limiter,
        )
        names = Names(server_name, config.registration.reserved_names, registry, entropy)
        self.registration = RegistrationService(
            db=db,
            log=log,
            clock=clock,
            names=names,
            config=config.registration,
            passwords=self.passwords,
            sessions=self.sessions,
        )
        self.apis: list[object] = [
            AuthApi(
                login=login,
                sessions=self.sessions,
                devices=self.devices,
                uia=self.uia,
                well_known={"m.homeserver": {"base_url": self._base_url}} if self._base_url else None,
            ),
            RegistrationApi(
                registration=self.registration,
                accounts=self.accounts,
                names=names,
                uia=self.uia,
                authenticator=self.authenticator,
                appservices=registry,
                limiter=limiter,
            ),
        ]
        self.loops: dict[str, Callable[[], Awaitable[None]]] = {"last_seen": self.last_seen.run}

    async def close(self) -> None:
        """Write what was only noted, and let the threads go. The database must still be open."""
        await self.last_seen.flush()
        self.passwords.close()
