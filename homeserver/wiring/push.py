"""Push rules and unread counts, put together."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.account_data.ignores import Ignores as IgnoresOfUsers
from homeserver.account_data.service import AccountDataService
from homeserver.config import Config
from homeserver.graph.event_source import EventSource
from homeserver.log.readers import commands
from homeserver.log.readers.sources import FreshSource
from homeserver.log.readers.types import Backoff, Reader
from homeserver.mail.service import MailService
from homeserver.presence.service import PresenceService
from homeserver.push.api import PushRulesApi
from homeserver.push.counts import UnreadCounts
from homeserver.push.evaluators import Evaluators
from homeserver.push.mail.figures import MailFigures
from homeserver.push.mail.letters import client_link
from homeserver.push.mail.page_api import UnsubscribePage
from homeserver.push.mail.service import MailDigests, Sending
from homeserver.push.mail.types import DIGEST, MailSettings
from homeserver.push.mail.unread import UnreadForMail
from homeserver.push.notifications import Notifications
from homeserver.push.notifications_api import NotificationsApi
from homeserver.push.pushers.api import PushersApi, plainly_reached
from homeserver.push.pushers.badges import Badges
from homeserver.push.pushers.content import Content
from homeserver.push.pushers.deciding import Deciding
from homeserver.push.pushers.delivery import Delivery, host_of_key
from homeserver.push.pushers.figures import PusherFigures
from homeserver.push.pushers.gateway import Gateways
from homeserver.push.pushers.interest import Interest
from homeserver.push.pushers.resume import Resume
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.sources import ReadSource
from homeserver.push.pushers.types import PushersChanged, PushersChangedSink
from homeserver.push.recent import RecentEvents
from homeserver.push.service import PushRuleService
from homeserver.push.stream import UnreadStream
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.periodic import every
from homeserver.sync.types import Ignores
from homeserver.threepids.service import ThreepidService
from homeserver.wiring.core import Core
from homeserver.wiring.landing import branding_of
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of


class PushFeature:
    """Rules, their endpoints, and what they make of events."""

    def __init__(self, core: Core, account_data: AccountDataService) -> None:
        self.rules = PushRuleService(core.db, core.log, account_data)
        self.evaluators = Evaluators(core.db, core.memory)
        self.recent = recent = RecentEvents(core.tail)
        self.counts = UnreadCounts(
            core.db, core.tail, core.rooms, core.events, core.interning, self.evaluators, recent
        )
        self.stream = UnreadStream(core.db)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="push",
            apis=[PushRulesApi(self.rules)],
            projections=[self.evaluators, self.recent, self.counts],
            streams=[self.stream],
            forgets=[self.rules],
        )


class NotificationsFeature:
    """What one was notified of."""

    def __init__(self, core: Core, push: PushFeature, memberships: Memberships, ignores: Ignores) -> None:
        self.service = Notifications(
            core.db,
            core.rooms,
            core.events,
            core.interning,
            memberships,
            ignores,
            push.evaluators,
            core.clock,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="push.notifications", apis=[NotificationsApi(self.service)])


class Letters(NamedTuple):
    """What mails about unread messages need of other features."""

    threepids: ThreepidService
    mail: MailService | None
    presence: PresenceService


def sending_of(config: Config, letters: Letters) -> Sending:
    """What letters are sent with."""
    section, client, branding = config.mail, config.web_client, branding_of(config)
    base_url = (config.server.public_baseurl or "").rstrip("/")
    settings, link = MailSettings(600.0, 3600.0, content=False), client_link(None)
    if section is not None:
        settings = MailSettings(
            section.notification_delay, section.notification_pause, section.notification_content
        )
        own = f"{base_url}/web/" if client is not None else None
        by_room = section.client_url is not None or client is None or client.kind == "element"
        link = client_link(section.client_url or own, by_room=by_room)
    return Sending(
        letters.mail if section is not None and section.notifications else None,
        settings,
        base_url,
        branding.name,
        branding.colour,
        link,
        letters.threepids.is_bound,
        letters.presence.is_online,
    )


READER = "pushers"
AT_ONCE = 48
"""Users that are notified at the same time; as many again whose gateway is slow, fails or was not asked yet."""
OF_A_HOST, OF_A_STRUGGLING_HOST = 32, 16
"""How many of them at one gateway's host: more than one of those that struggle may be asked at a time."""
BATCH = 20
"""Entries of a user that are looked at together; what is unread is counted once for them."""
BACK_EVERY = 60.0
CLEAN_EVERY = 6 * 3600.0


class PushersFeature:
    """Notifying clients that are not looking, and people by mail."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        config: Config,
        core: Core,
        push: PushFeature,
        memberships: Memberships,
        ignores: IgnoresOfUsers,
        letters: Letters,
    ) -> None:
        self._core = core
        self._plain = plainly_reached(config.outbound.allow_private.push)
        self._outbound = outbound_of(config.outbound)
        self._letters = letters
        self._branding = branding_of(config)
        self.service = PusherService(core.db, core.log)
        letters.threepids.tell_of_removed(self.service.address_removed)
        self.gateways = Gateways(self._outbound, core.clock, core.entropy)
        self._resume = Resume(core.db, core.events, core.interning, memberships, ignores, core.clock)
        badges = Badges(push.counts, memberships, ignores, core.interning, core.events)
        deciding = Deciding(push.evaluators, push.rules, core.rooms, core.events)
        unread = UnreadForMail(
            core.db,
            core.rooms,
            core.events,
            core.interning,
            push.evaluators,
            badges,
            deciding,
            push.recent,
        )
        sending = sending_of(config, letters)
        self.mails = MailDigests(
            core.db, core.tail, core.jobs, core.clock, core.entropy, self.service, unread, sending
        )
        content = Content(core.rooms, core.events)
        self.delivery = Delivery(self.service, badges, deciding, content, self.gateways, self.mails)
        self.interest = Interest(
            core.db,
            core.rooms,
            push.evaluators,
            core.memory,
            self.delivery.may_show,
            self.mails,
        )
        self.delivery.run_with(self.interest)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        is_bound = self._letters.threepids.is_bound if self.mails.possible else None
        return Manifest(
            name="push.pushers",
            apis=[
                PushersApi(self.service, self._core.clock, self._plain, is_bound),
                UnsubscribePage(self.mails, self._branding),
            ],
            sinks=[PushersChangedSink()],
            projections=[self.interest],
            readers=[self._reader()],
            jobs={DIGEST: self.mails.look},
            device_listeners=[self.service],
            forgets=[self.service],
            periodic=[
                every(BACK_EVERY, self._try_again, name="push.back", wake=self.gateways.back),
                every(CLEAN_EVERY, self.mails.clean, name="push.mail", once_in_cluster=True),
            ],
            collectors=[PusherFigures(self.gateways), MailFigures(self.mails)],
            stop=[self._outbound.close],
        )

    def _reader(self) -> Reader:
        return Reader(
            name=READER,
            sources=[EventSource(self._core.events), ReadSource(), FreshSource(PushersChanged)],
            interest=self.interest.of,
            deliver=self.delivery.deliver,
            prepare=self.delivery.prepare,
            resume=self._resume.of,
            resume_together=self._resume.of_many,
            batch=BATCH,
            at_once=AT_ONCE,
            struggling_at_once=AT_ONCE,
            group=host_of_key,
            group_at_once=OF_A_HOST,
            group_struggling_at_once=OF_A_STRUGGLING_HOST,
            may_be_slow=self.delivery.may_be_slow,
            timeout=120.0,
            backoff=Backoff(first=0.5, longest=600.0, jitter=0.3),
        )

    async def _try_again(self) -> None:
        """Once: a gateway is back, so those are told who wait for it. Others that fail ask once more, too."""
        if self.gateways.recovered:
            self.gateways.recovered = False
            await commands.retry(self._core.db, READER, None)
