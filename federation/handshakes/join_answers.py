"""The answer to who has joined one of our rooms through this server: the state before the join, and what it rests on.

Large rooms are told some hundred events at a time, so that nothing of it is held in memory as a whole.
spec: op:sendJoinV2 (FED-20)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final

from federation.handshakes.ports import AuthChains
from federation.implied_create import implied_create
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.matrix import json
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.runtime.turns import next_turn, pieces
from homeserver.web.response import StreamedJson

MEMBER: Final = "m.room.member"
NAMES: Final[tuple[StateKey, ...]] = (("m.room.name", ""), ("m.room.canonical_alias", ""))
HEROES: Final = 5
AT_ONCE: Final = 200
"""Events that are read and sent together."""
COMPUTED_AT_ONCE: Final = 2
"""Answers that a process works out at the same time; others wait."""


class JoinAnswers:
    """Tells joining servers of rooms. Keeps nothing in memory."""

    def __init__(
        self,
        events: EventCache,
        states: StateStore,
        interning: Interning,
        chains: AuthChains,
        server_name: ServerName,
    ) -> None:
        self._events = events
        self._states = states
        self._interning = interning
        self._chains = chains
        self._server_name = server_name
        self._turns = asyncio.Semaphore(COMPUTED_AT_ONCE)

    async def of(self, room: Room, join: PersistedEvent, *, omit_members: bool) -> StreamedJson:
        """`omit_members`: memberships are left out of the state, but for those that name the room. Raises `Unavailable`."""
        async with self._turns:
            before = await self._states.load(join.state_before.nid)
            state = set(before.values())
            if omit_members:
                state = await self._without_members(room, before, UserId(join.event.sender))
            auth = (await self._events.numbers(join.event.auth_event_ids)).values()
            found = await self._chains.chain_of({*state, *auth})
            if found is None:
                raise Unavailable("What the room rests on is not known here yet, try again")
            chain = {*found.values(), *auth, *implied_create(room)} - (state if omit_members else set())
        head: dict[str, object] = {"origin": self._server_name, "members_omitted": omit_members}
        if omit_members:
            head["servers_in_room"] = sorted(_servers_in(room, join.event.sender))
        return StreamedJson(self._pieces(json.dumps(head)[:-1], join, sorted(state), sorted(chain)))

    async def _without_members(self, room: Room, before: Mapping[int, int], joiner: UserId) -> set[int]:
        keys: dict[int, StateKey] = {}
        for some in pieces(before, AT_ONCE * 10):
            await next_turn()
            keys |= await self._interning.keys(some)
        state = {nid for key, nid in before.items() if keys[key][0] != MEMBER}
        if not any(key in NAMES for key in keys.values()):
            heroes = {(MEMBER, str(user)) for user in _heroes(room, joiner)}
            state.update(nid for key, nid in before.items() if keys[key] in heroes)
        return state

    async def _pieces(
        self, head: bytes, join: PersistedEvent, state: Collection[int], chain: Collection[int]
    ) -> AsyncIterator[bytes]:
        yield head + b',"event":' + join.event.pdu + b',"state":['
        async for piece in self._pdus(state):
            yield piece
        yield b'],"auth_chain":['
        async for piece in self._pdus(chain):
            yield piece
        yield b"]}"

    async def _pdus(self, nids: Collection[int]) -> AsyncIterator[bytes]:
        comma = b""
        for some in pieces(nids, AT_ONCE):
            await next_turn()
            loaded = await self._events.load(some)
            yield comma + b",".join(each.event.pdu for each in loaded.values())
            comma = b","


def _heroes(room: Room, joiner: UserId) -> list[UserId]:
    """Whose names stand for the room's. spec: op:sync `m.heroes`"""
    others = (
        user
        for user, member in room.members.items()
        if user != joiner and member.membership in (JOIN, INVITE)
    )
    return [user for user, _ in zip(others, range(HEROES), strict=False)]


def _servers_in(room: Room, joiner: str) -> set[str]:
    return {domain_of(user) for user in room.users_with(JOIN) if user != joiner}
