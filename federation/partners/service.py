"""What the configuration says of partners, asked at every request from other servers and to them: `federation.ports.Partners`.

Owns the policy that is in force, which changes while the server serves; counts what it refuses and what is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from federation.partners.activity import Activity
from federation.partners.policy import Policy, RoomFacts
from federation.partners.refusals import Refusals
from federation.partners.rooms import RoomsHere
from federation.partners.tls import TlsOfPartners
from federation.ports import Done, Refused
from federation.transport.tls import TlsTrust
from homeserver.config.federation import FederationSection
from homeserver.matrix.errors import Forbidden, LimitExceeded
from homeserver.matrix.ids import ServerName
from homeserver.web.rate_limit import RateLimiter


class PartnerPolicy:
    """Fulfils `Partners` and `PartnerTls`."""

    def __init__(
        self,
        section: FederationSection,
        rooms: RoomsHere,
        activity: Activity,
        limiter: RateLimiter,
        authorities: Sequence[Path] = (),
    ) -> None:
        """`limiter`: where rates are counted. `authorities`: PEM files that are trusted besides the system's, where nothing else
        was agreed.
        """
        self._rooms = rooms
        self._activity = activity
        self._limiter = limiter
        self._authorities = authorities
        self._replaced = 0
        self.refusals = Refusals()
        self._take(section)

    def _take(self, section: FederationSection) -> None:
        self._policy = Policy(section)
        self._tls = TlsOfPartners(self._policy, self._authorities)

    def replace(self, section: FederationSection) -> None:
        """From now on this holds. What is under way is not looked at again."""
        self._take(section)
        self._replaced += 1
        self.refusals.begin_anew()

    # --- what holds ----------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """That is in force."""
        return self._policy

    @property
    def restricts_rooms(self) -> bool:
        """See `Partners`."""
        return self._policy.restricts_rooms

    @property
    def generation(self) -> int:
        """See `Partners`."""
        return self._replaced + self._rooms.changes

    def of(self, server_name: ServerName) -> TlsTrust | None:
        """See `PartnerTls`."""
        return self._tls.of(server_name)

    def may_speak(self, server_name: ServerName) -> bool:
        """See `Partners`."""
        return self._policy.may_speak(server_name)

    async def may_share(
        self, server_name: ServerName, room_id: str, *, presumed: ServerName | None = None
    ) -> bool:
        """See `Partners`."""
        policy = self._policy
        if not policy.may_speak(server_name):
            return False
        patterns = policy.terms(server_name).rooms
        if patterns is None:
            return True
        facts = await self._rooms.facts(room_id)
        return patterns.match(facts if facts.owner is not None else facts._replace(owner=presumed))

    async def sharing(self, servers: Sequence[ServerName], room_id: str) -> list[ServerName]:
        """See `Partners`."""
        if not self._policy.restricts_rooms:
            return list(servers)
        return [each for each in servers if await self.may_share(each, room_id)]

    async def strangers(
        self, servers: Iterable[ServerName], room_id: str, *, presumed: ServerName | None = None
    ) -> list[ServerName]:
        """See `Partners`."""
        if not self._policy.allows_some_alone:
            return []
        return [
            each for each in sorted(servers) if not await self.may_share(each, room_id, presumed=presumed)
        ]

    def may_share_new(self, server_name: ServerName, ours: ServerName) -> bool:
        """Whether it may be invited into a room of ours that is only to be made: certain where patterns name servers alone."""
        if not self._policy.may_speak(server_name):
            return False
        patterns = self._policy.terms(server_name).rooms
        return patterns is None or patterns.names_rooms or patterns.match(RoomFacts("", ours, ()))

    def hears_presence(self, server_name: ServerName) -> bool:
        """See `Partners`."""
        return self._policy.may_speak(server_name) and self._policy.terms(server_name).presence

    # --- what comes and goes -------------------------------------------------------------------------------------------

    def admit_request(self, server_name: ServerName) -> bool:
        """See `Partners`."""
        if not self._policy.may_speak(server_name):
            self.refused(server_name, "server")
            raise Forbidden("This server does not speak with yours")
        self._activity.note_rate(server_name, "requests")
        rate = self._policy.terms(server_name).requests
        if rate is None:
            return True
        try:
            self._limiter.hit("partner_requests", server_name, rate=rate)
        except LimitExceeded:
            self.refused(server_name, "requests")
            raise
        return False

    def admit_pdus(self, server_name: ServerName, count: int) -> None:
        """See `Partners`."""
        if not count:
            return
        self._activity.note_rate(server_name, "pdus", count)
        rate = self._policy.terms(server_name).pdus
        if rate is None:
            return
        try:
            self._limiter.hit("partner_pdus", server_name, rate=rate, cost=count)
        except LimitExceeded:
            self.refused(server_name, "pdus")
            raise

    def admit_files(self, server_name: ServerName, *, given: bool) -> int | None:
        """See `Partners`."""
        terms = self._policy.terms(server_name)
        if not terms.media:
            self.refused(server_name, "media")
            raise Forbidden(
                "This server gives yours no files" if given else f"No files are fetched from {server_name}"
            )
        return terms.max_media

    def admit_size(self, server_name: ServerName, size: int, *, given: bool) -> None:
        """See `Partners`."""
        most = self._policy.terms(server_name).max_media
        if most is not None and size > most:
            self.refused(server_name, "media_size")
            raise Forbidden(f"Files of more than {most} bytes are not shared with {server_name}")
        self._activity.note(server_name, "media_given" if given else "media_fetched", peak=size)

    def done(self, server_name: ServerName, what: Done, room_id: str = "", *, amount: int = 1) -> None:
        """See `Partners`."""
        self._activity.note(server_name, what, room_id, amount=amount)

    def refused(self, server_name: ServerName, why: Refused, room_id: str = "") -> None:
        """See `Partners`."""
        self.refusals.note(server_name, why, room_id)
        self._activity.note(server_name, "refused", why)
