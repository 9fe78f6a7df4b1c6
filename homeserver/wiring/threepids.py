"""Mail and addresses, put together."""

from __future__ import annotations

from federation.x_matrix import Signer
from homeserver.config import Config
from homeserver.mail.service import MailService
from homeserver.matrix.ids import ServerName
from homeserver.threepids.api import ThreepidsApi
from homeserver.threepids.binding import Bindings
from homeserver.threepids.identity import IdentityServers
from homeserver.threepids.outgoing import LETTER, Letters
from homeserver.threepids.page_api import ConfirmationPage
from homeserver.threepids.service import ThreepidService
from homeserver.threepids.stage import EmailStage
from homeserver.threepids.validation import Rules, ValidationService
from homeserver.uia.service import Stage, Uia
from homeserver.web.outbound import Outbound, trusting
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.landing import branding_of


class ThreepidsFeature:
    """Services, the stage, endpoints. Without a mail section nobody can prove an address; those there are stay."""

    def __init__(self, config: Config, core: Core, limiter: RateLimiter, outbound: Outbound) -> None:
        self._branding = branding_of(config)
        self.service = ThreepidService(core.db, core.clock)

        def sign(method: str, uri: str, host: str, content: bytes) -> str:
            signer = Signer(core.server_name, core.identity.key)
            return signer.authorization(method, uri, ServerName(host), content)

        self.identity = IdentityServers(outbound, config.identity.trusted_servers, sign)
        self.bindings = Bindings(core.db, self.identity)
        self.mail: MailService | None = None
        if config.mail is not None:
            tls = trusting(config.outbound.extra_ca_files)
            host = core.server_name.partition(":")[0]
            self.mail = MailService(config.mail, core.clock, core.entropy, tls, host)
        letters = Letters(
            db=core.db,
            clock=core.clock,
            entropy=core.entropy,
            jobs=core.jobs,
            mail=self.mail,
            server_name=core.server_name,
            base_url=config.server.public_baseurl or "",
        )
        self.jobs = {LETTER: letters.send}
        self.validation = ValidationService(
            db=core.db,
            clock=core.clock,
            entropy=core.entropy,
            limiter=limiter,
            threepids=self.service,
            letters=letters,
            rules=_rules(config),
        )

    def stages(self) -> list[Stage]:
        """Kinds of proof."""
        return [] if self.mail is None else [EmailStage(self.validation)]

    def apis(self, uia: Uia) -> list[object]:
        """Endpoints."""
        return [
            ThreepidsApi(self.service, self.validation, self.bindings, uia),
            ConfirmationPage(self.validation, self._branding),
        ]


def _rules(config: Config) -> Rules:
    if config.mail is None:
        return Rules()
    return Rules(
        link_lifetime_ms=int(config.mail.link_lifetime * 1000),
        hide_addresses=config.mail.hide_addresses,
        next_link_hosts=config.mail.next_link_hosts,
        domains={domain.lower() for domain in config.registration.email_domains},
    )
