"""Accounts, authentication, devices, profiles and discovery, put together."""

from __future__ import annotations

from homeserver.accounts.account_api import AccountApi
from homeserver.accounts.api import RegistrationApi
from homeserver.accounts.ending import Deactivation
from homeserver.accounts.erasure import ErasedUsers, UserErasedSink
from homeserver.accounts.housekeeping import EVERY_SECONDS as CLEAN_EVERY
from homeserver.accounts.housekeeping import Housekeeping
from homeserver.accounts.moderation_api import ModerationApi
from homeserver.accounts.names import Names
from homeserver.accounts.openid import OpenIdTokens
from homeserver.accounts.password_check import PasswordCheck
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.rates_api import RatesAdminApi
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.service import AccountService
from homeserver.accounts.shared_secret import SharedSecretApi
from homeserver.accounts.stages import RegistrationTokenStage, TermsStage
from homeserver.accounts.tasks import AccountTasks
from homeserver.accounts.usage import UsageLimit
from homeserver.auth.api import AuthApi
from homeserver.auth.identifiers import Identifiers
from homeserver.auth.login import LoginService
from homeserver.auth.password_stage import PasswordStage
from homeserver.config import Config
from homeserver.devices.api import DevicesApi
from homeserver.devices.service import DeviceService
from homeserver.discovery.api import DiscoveryApi
from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.profiles.api import ProfilesApi
from homeserver.profiles.entries import ProfileChangedSink
from homeserver.profiles.service import ProfileCache, ProfileService
from homeserver.runtime.periodic import every
from homeserver.sessions.appservices import AppserviceSessions
from homeserver.sessions.authenticator import Sessions, TokenAuthenticator
from homeserver.sessions.entries import SessionsChangedSink
from homeserver.sessions.last_seen import FLUSH_SECONDS, LastSeen
from homeserver.sessions.login_tokens import LoginTokens
from homeserver.sessions.ports import Appservices, NoAppservices
from homeserver.sessions.service import SessionService, in_ms
from homeserver.threepids.fallback import FallbackMail
from homeserver.uia.fallback_api import FallbackApi
from homeserver.uia.recaptcha import RecaptchaStage
from homeserver.uia.service import Uia
from homeserver.uia.stages import DummyStage
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.landing import branding_of
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of
from homeserver.wiring.threepids import ThreepidsFeature


class AccountsFeature:
    """Everything about who somebody is."""

    def __init__(
        self, config: Config, core: Core, limiter: RateLimiter, appservices: Appservices | None = None
    ) -> None:
        self._config = config
        self._core = core
        self._limiter = limiter
        self._appservices = appservices or NoAppservices()
        self._outbound = outbound_of(config.outbound)
        self._sessions_and_devices()
        self._accounts_and_profiles()
        self._ways_in()

    def _sessions_and_devices(self) -> None:
        core, auth = self._core, self._config.auth
        self.last_seen = LastSeen(core.db, core.clock)
        self.current_sessions = cache = Sessions(core.memory)
        self.masquerades = masks = AppserviceSessions(core.db, self._appservices, core.memory)
        cache.on_change(masks.forget)
        self.authenticator = TokenAuthenticator(
            db=core.db, clock=core.clock, sessions=cache, last_seen=self.last_seen, appservices=masks
        )
        self.cross_signing = CrossSigningService(core.db, core.log, core.clock)
        self.sessions = SessionService(
            db=core.db,
            log=core.log,
            clock=core.clock,
            entropy=core.entropy,
            config=auth,
            cross_signing=self.cross_signing,
        )
        self.devices = DeviceService(
            db=core.db,
            log=core.log,
            clock=core.clock,
            last_seen=self.last_seen,
            cross_signing=self.cross_signing,
            most=self._config.limits.devices_per_user,
        )

    def _accounts_and_profiles(self) -> None:
        core, auth = self._core, self._config.auth
        self.passwords = Passwords(auth.password_hash, auth.password_policy)
        self.accounts = AccountService(
            db=core.db,
            log=core.log,
            server_name=core.server_name,
            passwords=self.passwords,
            devices=self.devices,
        )
        self.usage = UsageLimit(core.db, core.clock, self._config.limits.monthly_active_users)
        self.tasks = AccountTasks(core.db, core.jobs)
        self.erased = ErasedUsers(core.db)
        self._profile_cache = profile_cache = ProfileCache(core.memory)
        self.profiles = ProfileService(
            db=core.db,
            log=core.log,
            cache=profile_cache,
            tasks=self.tasks,
            gate=core.gate,
            server_name=core.server_name,
        )
        self.ending = Deactivation(
            devices=self.devices, profiles=self.profiles, tasks=self.tasks, clock=core.clock
        )
        self.openid = OpenIdTokens(core.db, core.clock, core.entropy)

    def _ways_in(self) -> None:
        core, auth, registration = self._core, self._config.auth, self._config.registration
        self.threepids = ThreepidsFeature(self._config, core, self._limiter, self._outbound)
        identifiers = Identifiers(core.server_name, self.threepids.service)
        check = PasswordCheck(core.db, self.passwords, self._limiter)
        self.uia = Uia(
            db=core.db,
            clock=core.clock,
            entropy=core.entropy,
            limiter=self._limiter,
            lifetime_ms=in_ms(auth.ui_auth_session_lifetime) or 0,
        )
        self.uia.add(
            DummyStage(),
            PasswordStage(check, identifiers),
            RegistrationTokenStage(core.db, core.clock),
            TermsStage(registration.policies),
        )
        self.uia.add(*self.threepids.stages())
        if registration.recaptcha is not None:
            self.uia.add(RecaptchaStage(registration.recaptcha, self._outbound))
        login_tokens = LoginTokens(core.db, core.clock, core.entropy)
        self.login = LoginService(
            config=auth,
            sessions=self.sessions,
            passwords=check,
            identifiers=identifiers,
            appservices=self._appservices,
            tokens=login_tokens,
            accounts=self.accounts,
            limiter=self._limiter,
            devices=self.devices,
            usage=self.usage,
        )
        self._registering()
        self.housekeeping = Housekeeping(
            core.db, core.clock, login_tokens.clean, self.uia.clean, self.threepids.validation.clean
        )

    def _registering(self) -> None:
        core, registration = self._core, self._config.registration
        self.names = Names(core.server_name, registration.reserved_names, self._appservices, core.entropy)
        self.registration = RegistrationService(
            db=core.db,
            log=core.log,
            clock=core.clock,
            names=self.names,
            config=registration,
            passwords=self.passwords,
            sessions=self.sessions,
            tasks=self.tasks,
            profiles=self.profiles,
            usage=self.usage,
        )
        self.registration.check_possible(self.uia)
        self.registration.note_with(self.threepids.service)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="accounts",
            apis=self._apis(),
            sinks=[SessionsChangedSink(), ProfileChangedSink(), UserErasedSink()],
            projections=[self.current_sessions, self.erased, self._profile_cache],
            jobs=self.threepids.jobs,
            periodic=[
                every(FLUSH_SECONDS, self.last_seen.flush, name="accounts.last_seen"),
                every(
                    CLEAN_EVERY, self.housekeeping.clean, name="accounts.housekeeping", once_in_cluster=True
                ),
            ],
            forgets=[self.threepids.service, self.threepids.bindings],
            stop=[self.stop],
        )

    def _apis(self) -> list[object]:
        base_url, core = self._config.server.public_baseurl, self._core
        return [
            AuthApi(
                login=self.login,
                sessions=self.sessions,
                devices=self.devices,
                uia=self.uia,
                well_known={"m.homeserver": {"base_url": base_url}} if base_url else None,
            ),
            FallbackApi(
                self.uia,
                self._config.registration.policies,
                branding_of(self._config),
                FallbackMail(self.threepids.validation, core.entropy),
            ),
            RegistrationApi(
                registration=self.registration,
                accounts=self.accounts,
                names=self.names,
                uia=self.uia,
                authenticator=self.authenticator,
                appservices=self._appservices,
                limiter=self._limiter,
            ),
            SharedSecretApi(
                config=self._config.registration,
                registration=self.registration,
                names=self.names,
                clock=core.clock,
                entropy=core.entropy,
            ),
            AccountApi(
                accounts=self.accounts,
                ending=self.ending,
                passwords=self.passwords,
                uia=self.uia,
                openid=self.openid,
                server_name=core.server_name,
                change_password=self._config.auth.password_login,
                reset=self.threepids.service if self.uia.can(self.threepids.service.stage) else None,
            ),
            *self.threepids.apis(self.uia),
            ModerationApi(self.accounts, self.devices),
            RatesAdminApi(self.accounts),
            DevicesApi(self.devices, self.uia),
            ProfilesApi(self.profiles),
            DiscoveryApi(self._config),
        ]

    async def stop(self) -> None:
        """Write what was only noted, and let the threads go."""
        await self.last_seen.flush()
        self.passwords.close()
        await self._outbound.close()
