"""Users of ours come into rooms that this server is not in: joining and knocking through other servers. Fulfils, with `leaving` and
`inviting`, `rooms.ports.RemoteRooms`.

Of a room one at a time: whoever wants to join beside somebody else finds the room here when they have joined. How many join at once
is bounded, and what they have fetched is stored some events at a time, so that nobody else waits for them.
spec: server-server-api/#joining-rooms, #knocking-upon-a-room (FED-19 to FED-24)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog

from federation.handshakes.asking import JoinAnswer, Residency, by_one_of
from federation.handshakes.shown import ShownState
from federation.handshakes.templates import MEMBER, Wish
from federation.handshakes.under_way import JoinsUnderWay
from federation.handshakes.verifying import Verified, Verifier
from federation.ports import BadAnswer, EventChecker, Partners, RemoteFault
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import INVITE, JOIN, KNOCK
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.adopt import Adoption
from homeserver.graph.write.beside import MembershipsBeside, NotAway, Unfit
from homeserver.graph.write.outliers import Outliers
from homeserver.graph.write.receive import MissingEvents, Receiver
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix.errors import Forbidden, LimitExceeded
from homeserver.matrix.ids import ServerName, domain_of, is_server_name
from homeserver.policy.passages import Passage
from homeserver.rooms.ports import RemoteWish
from homeserver.runtime.turns import next_turn, pieces

_log = structlog.get_logger("atrium.federation.handshakes")

MAX_SERVERS: Final = 8
"""Servers that are asked for one wish."""
ASKING: Final = 50
"""Users who ask other servers at the same time, in a process; further ones are told to come back."""
DECODED_AT_ONCE: Final = 1_000
STORING: Final = 2
"""Rooms that are checked and stored at the same time, in a process."""
RETRY_MS: Final = 5_000
PATIENCE: Final = (0.2, 0.8)
"""Seconds until those are asked again who may not have heard yet of what lets a user in."""


class Candidates:
    """Which servers may know a room. Keeps nothing in memory."""

    def __init__(
        self,
        events: EventCache,
        beside: MembershipsBeside,
        partners: Partners,
        server_name: ServerName,
    ) -> None:
        self._events = events
        self._beside = beside
        self.partners = partners
        self.server_name = server_name

    async def of(self, wish: RemoteWish, room: Room | None) -> list[ServerName]:
        """The likeliest first: who has invited, whom the client names, who was in the room when we were, whose it is by name.

        Raises `Forbidden` if there are some, but our own configuration forbids all of them.
        """
        found: list[str] = []
        member = room.members.get(wish.user_id) if room is not None else None
        if member is not None and member.membership in (INVITE, KNOCK):
            found += await self._beside.servers(member.event_nid)
            pending = await self._events.one(member.event_nid)
            if pending is not None:
                found.append(domain_of(pending.event.sender))
        found += wish.servers
        if room is not None:
            found += servers_in(room)
        found.append(domain_of(wish.room_id))
        named = [
            ServerName(each)
            for each in dict.fromkeys(found)
            if each != self.server_name and is_server_name(each)
        ]
        usable = [each for each in named if await self.partners.may_share(each, wish.room_id, presumed=each)]
        if named and not usable:
            self.partners.refused(named[0], "join", wish.room_id)
            raise Forbidden(f"This server does not share rooms with {', '.join(named[:3])}")
        return usable[:MAX_SERVERS]


def servers_in(room: Room) -> list[str]:
    """Servers of who is joined, as far as it is known here: those with most users first."""
    counts: dict[str, int] = {}
    for user in room.users_with(JOIN):
        counts[domain_of(user)] = counts.get(domain_of(user), 0) + 1
    return sorted(counts, key=lambda server: -counts[server])[:MAX_SERVERS]


class _Content(msgspec.Struct, frozen=True):
    membership: Any = None


class _Said(msgspec.Struct, frozen=True):
    """What of a state event says who is in a room."""

    type: str
    sender: str
    state_key: str = ""
    content: _Content = _Content()


_decode = msgspec.json.Decoder(_Said).decode


async def _said_of(answer: JoinAnswer) -> tuple[ServerName | None, set[ServerName]]:
    """Who has made a room, and which servers are in it, as another server says; nothing of it is verified."""
    owner, joined = None, set[ServerName]()
    for piece in pieces(answer.state, DECODED_AT_ONCE):
        await next_turn()
        for raw in piece:
            try:
                said = _decode(raw)
            except (ValueError, RecursionError):
                continue
            if said.type == "m.room.create":
                owner = domain_of(said.sender)
            elif said.type == MEMBER and said.content.membership == "join":
                joined.add(domain_of(said.state_key))
    return owner, {each for each in joined if is_server_name(each)}


class Entering:
    """Joins and knocks. Owns who is at it in this process."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        adoption: Adoption,
        beside: MembershipsBeside,
        receiver: Receiver,
        residency: Residency,
        checker: EventChecker,
        candidates: Candidates,
        outliers: Outliers,
    ) -> None:
        self._rooms = rooms
        self._adoption = adoption
        self._beside = beside
        self._receiver = receiver
        self._residency = residency
        self._verifier = Verifier(checker)
        self._shown = ShownState(checker)
        self._candidates = candidates
        self._partners = candidates.partners
        self._outliers = outliers
        self._turns = KeyedLocks()
        self._storing = asyncio.Semaphore(STORING)
        self._asking = 0
        self.under_way = JoinsUnderWay()

    async def join(self, wish: RemoteWish) -> None:
        """See `RemoteRooms.join`. Nothing if the room is no longer away when it is our turn, unless the user was asked for who
        vouches for them by others (a restricted room that this server is in).
        """
        first = await self._rooms.by_id(wish.room_id)
        with self._one_more():
            async with self._turns.of(wish.room_id):
                room = await self._rooms.by_id(wish.room_id)
                if room is not None and not room.away and (first is None or first.away):
                    return
                servers = await self._candidates.of(wish, room)
                if room is not None and not room.away:
                    await self._join_restricted(servers, wish)
                else:
                    await by_one_of(servers, "join", lambda server: self._join(server, wish))

    async def knock(self, wish: RemoteWish) -> None:
        """See `RemoteRooms.knock`."""
        with self._one_more():
            async with self._turns.of(wish.room_id):
                room = await self._rooms.by_id(wish.room_id)
                servers = await self._candidates.of(wish, room)
                await by_one_of(servers, "knock", lambda server: self._knock(server, wish))

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._asking >= ASKING:
            raise LimitExceeded(RETRY_MS, "Too many join rooms of other servers at the moment")
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    # --- joining -------------------------------------------------------------------------------------------------------

    async def _join_restricted(self, servers: Sequence[ServerName], wish: RemoteWish) -> None:
        """Of a room that this server is in, and where nobody of it may vouch for the user: they are in a room that lets them in, as
        it is known here. Others who refuse may not have heard of that yet: they are asked again. Raises what `by_one_of` raises.
        """
        for pause in PATIENCE:
            try:
                await by_one_of(servers, "join", lambda server: self._join(server, wish))
            except Forbidden:
                await self._residency.sleep(pause)
            else:
                return
        await by_one_of(servers, "join", lambda server: self._join(server, wish))

    async def _join(self, server: ServerName, wish: RemoteWish) -> None:
        """Raises `RemoteFault`."""
        wanted = Wish(wish.room_id, wish.user_id, "join", wish.content)
        template = await self._residency.template(server, wanted)
        event = self._residency.event(template, wanted)
        with self.under_way.of(wish.room_id):
            state = await self._enter(server, wish, event)
        _log.info("handshakes.joined", room=wish.room_id, server=server, state=state)

    async def _enter(self, server: ServerName, wish: RemoteWish, event: Event) -> int:
        """Let a server have the join, and store what it answers. How many events the state has. Raises `RemoteFault`."""
        answer = await self._residency.send_join(server, event)
        async with self._storing:
            await self._require_no_strangers(server, wish, answer)
            verified = await self._verifier.verified(server, event, answer)
            del answer
            try:
                await self._store(verified, wish.passage)
            except MissingEvents as missing:
                raise BadAnswer(server, f"send_join: {missing}") from missing
            except Unfit as unfit:
                raise BadAnswer(server, f"send_join: {unfit}") from unfit
        return len(verified.state)

    async def _require_no_strangers(self, server: ServerName, wish: RemoteWish, answer: JoinAnswer) -> None:
        """Raises `Forbidden`, having left again, where there are servers in the room with which we do not share it: who they are is
        only known when the other server has let us in. Its word is enough: keys of those who are not spoken with cannot be had.
        """
        owner, joined = await _said_of(answer)
        strangers = await self._partners.strangers(
            joined - {self._candidates.server_name}, wish.room_id, presumed=owner
        )
        if not strangers and not await self._partners.may_share(server, wish.room_id, presumed=owner):
            strangers = [server]
        if not strangers:
            self._partners.done(server, "joining", wish.room_id)
            return
        self._partners.refused(strangers[0], "join", wish.room_id)
        try:
            leaving = Wish(wish.room_id, wish.user_id, "leave", {"membership": "leave"})
            template = await self._residency.template(server, leaving)
            await self._residency.send_leave(server, self._residency.event(template, leaving))
        except RemoteFault as fault:
            _log.warning("handshakes.not_left", room=wish.room_id, server=server, why=fault.problem)
        raise Forbidden(f"This server does not share rooms with {', '.join(strangers[:3])}")

    async def _store(self, verified: Verified, passage: Passage) -> None:
        """Raises `Unfit`, `MissingEvents`."""
        try:
            await self._adoption.adopt(
                verified.join, verified.state, verified.auth_chain, passage, verified.stored
            )
        except NotAway:
            await self._beside_others(verified)

    async def _beside_others(self, verified: Verified) -> None:
        """This server is in the room: the join is one event more of it, with a state of its own where not all is here that it
        follows. Raises `MissingEvents`.
        """
        join = verified.join
        try:
            await self._receiver.receive(join)
        except MissingEvents:
            room = await self._rooms.known(join.room_id)
            await self._outliers.add(room.name, [*verified.state, *verified.auth_chain], verified.stored)
            state = [event.event_id for event in verified.state]
            await self._receiver.receive_many(room.name.nid, [join], states={join.event_id: state})

    # --- knocking ------------------------------------------------------------------------------------------------------

    async def _knock(self, server: ServerName, wish: RemoteWish) -> None:
        """Raises `RemoteFault`."""
        wanted = Wish(wish.room_id, wish.user_id, "knock", wish.content)
        template = await self._residency.template(server, wanted)
        event = self._residency.event(template, wanted)
        answer = await self._residency.send_knock(server, event)
        shown = await self._shown.stripped(answer.knock_room_state, wish.room_id, template.version, drop=True)
        await self._keep(server, event, wish.passage, shown)

    async def _keep(self, server: ServerName, event: Event, passage: Passage, shown: Sequence[bytes]) -> None:
        try:
            await self._beside.put(event, passage, shown, servers=[server])
        except NotAway:
            pass  # it comes with the room's other events
        except Unfit as unfit:
            raise BadAnswer(server, f"send_knock: {unfit}") from unfit
