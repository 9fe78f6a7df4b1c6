"""Telling a user's gateway what is new: notifications of events, and how much is unread.

What is sent carries the count of the moment, never the one of the event; so whatever was lost on the way, the last one that
arrives is right, and one is sent whenever the gateway was told something else last.

spec: client-server-api/#push-notifications (PUSH-01, PUSH-14, PUSH-15)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog
from yarl import URL

from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, NotNow
from homeserver.push.pushers.badges import Badge, Badges
from homeserver.push.pushers.content import Content, Told, badge_body, groups
from homeserver.push.pushers.deciding import Deciding
from homeserver.push.pushers.gateway import Gateways, NotTaken, TooLarge, host_of
from homeserver.push.pushers.interest import Interest, parse_key
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.types import HTTP, MAILTO, Pusher, PushersChanged

log = structlog.get_logger(__name__)

MAX_SHOWN: Final = 200_000
"""Keys of which it is remembered what they show."""


class Mails(Protocol):
    """What sends mails about what is unread."""

    async def note(self, key: str, address: str, position: Position, *, news: bool) -> None:
        """A pusher was set, or (`news`) something that may notify its user came, at a position or since."""
        ...


class Delivery:
    """Fulfils `Reader.deliver`; one for all gateways of a process."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        service: PusherService,
        badges: Badges,
        deciding: Deciding,
        content: Content,
        gateways: Gateways,
        mails: Mails,
    ) -> None:
        self._service = service
        self._badges = badges
        self._deciding = deciding
        self._content = content
        self._gateways = gateways
        self._mails = mails
        self._interest: Interest | None = None
        self._shown: dict[str, int] = {}
        """Key -> the count that its gateway was told last. Who is not in it is told."""

    def run_with(self, interest: Interest) -> None:
        """What knows the pushers; before the first delivery."""
        self._interest = interest

    def may_show(self, key: str) -> bool:
        """Whether the device behind a key may show that something is unread."""
        return f" {MAILTO}" not in key and self._shown.get(key, 1) > 0

    def may_be_slow(self, key: str) -> bool:
        """See `Reader.may_be_slow`: of mails it is only noted that they are due."""
        _, url = parse_key(key)
        return not url.startswith(MAILTO) and self._gateways.may_be_slow(url)

    async def prepare(self, keys: Sequence[str]) -> None:
        """See `Reader.prepare`: whom a message in a large room concerns is looked up together."""
        assert self._interest is not None
        at_gateways = (parse_key(key)[0] for key in keys if f" {MAILTO}" not in key)
        user_nids = list(dict.fromkeys(at_gateways))
        if len(user_nids) > 1:
            await self._interest.prepare(user_nids)
            await self._badges.prepare(user_nids)

    async def deliver(self, key: str, items: Sequence[Item[Any]]) -> int | None:
        """See `Reader.deliver`. Raises `NotTaken`, `NotNow`."""
        assert self._interest is not None
        user_nid, url = parse_key(key)
        if url.startswith(MAILTO):
            address = url.removeprefix(MAILTO)
            await self._mails.note(key, address, items[0].position, news=not _only_set(items))
            return None
        pushers = [
            each
            for each in await self._interest.pushers_of(user_nid)
            if each.enabled and each.kind == HTTP and each.url == url
        ]
        if not pushers:
            self._shown.pop(key, None)
            return None
        badge = await self._badges.of(user_nid)
        told = [await self._deciding.of(badge, item.value) for item in items]
        known = self._shown.get(key)
        if known is None and not badge.total and _only_set(items):
            known = self._shown[key] = 0  # the app has just shown itself
        if known == badge.total and not any(told):
            return None
        self._gateways.check(url)
        return await self._tell(key, pushers, badge, told)

    async def _tell(
        self, key: str, pushers: list[Pusher], badge: Badge, told: Sequence[Told | None]
    ) -> int | None:
        """Send what there is. Returns as `deliver`."""
        unread = badge.total
        self._shown.pop(key, None)  # until it has arrived, nobody knows
        said = False
        for number, each in enumerate(told):
            if each is None:
                continue
            try:
                for some in groups(pushers):
                    said |= await self._tell_of(each, pushers, some, badge)
            except (NotTaken, NotNow):
                if number:
                    return number  # those before it have arrived
                raise
        if not said:
            for some in groups(pushers):
                with contextlib.suppress(TooLarge):  # a gateway that takes nothing is told nothing
                    await self._send(pushers, some, badge_body(some, unread))
        if pushers:
            if len(self._shown) >= MAX_SHOWN:
                self._shown.clear()
            self._shown[key] = unread
        return None

    async def _tell_of(self, told: Told, pushers: list[Pusher], some: Sequence[Pusher], badge: Badge) -> bool:
        """Send a notification of an event; by its ids alone where the gateway takes no more. Whether it took that."""
        for brief in (True,) if some[0].event_id_only else (False, True):
            body = await self._content.body(told, some, badge, brief=brief)
            with contextlib.suppress(TooLarge):
                await self._send(pushers, some, body)
                return True
        log.warning("push.too_large", gateway=URL(some[0].url).host)
        return False

    async def _send(self, pushers: list[Pusher], some: Sequence[Pusher], body: bytes) -> None:
        """Send one notification; whom the gateway does not know any more is out of `pushers`, and gone."""
        some = [each for each in some if each in pushers]
        if not some:
            return
        rejected = set(await self._gateways.notify(some[0].url, body))
        gone = [each for each in some if each.pushkey in rejected]
        if gone:
            await self._service.rejected(gone)
            for each in gone:
                pushers.remove(each)


def host_of_key(key: str) -> str:
    """See `Reader.group`: the host of a gateway; of mails the group without a name."""
    _, url = parse_key(key)
    return "" if url.startswith(MAILTO) else host_of(url)


def _only_set(items: Sequence[Item[Any]]) -> bool:
    """Whether nothing happened but that a pusher was set: with nothing unread there is nothing to say."""
    return all(isinstance(item.value, PushersChanged) for item in items)
