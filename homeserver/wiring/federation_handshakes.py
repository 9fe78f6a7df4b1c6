"""Joining, knocking, leaving and inviting between servers, put together."""

from __future__ import annotations

from typing import NamedTuple

from federation.handshakes.api import HandshakesApi
from federation.handshakes.asking import Residency
from federation.handshakes.entering import Candidates, Entering
from federation.handshakes.invited import Invited
from federation.handshakes.inviting import Inviting
from federation.handshakes.join_answers import JoinAnswers
from federation.handshakes.key_validity import KeyValidity
from federation.handshakes.leaving import Leaving
from federation.handshakes.remote_rooms import FederatedRooms
from federation.handshakes.residents import Residents
from federation.handshakes.third_party import ThirdPartyInvites
from federation.outbound.relays import Relays
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.rooms.ports import Accounts
from homeserver.rooms.restricted import RestrictedJoins
from homeserver.wiring.core import Core
from homeserver.wiring.federation import FederationFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class Parts(NamedTuple):
    """What other features have."""

    federation: FederationFeature
    rooms: RoomsFeature
    accounts: Accounts


class HandshakesFeature:
    """`remote_rooms` is for `rooms`; `invited.ended` for who gets events of rooms that this server is not in."""

    def __init__(self, core: Core, parts: Parts, *, enabled: bool) -> None:
        federation = parts.federation
        partners, checker = federation.partners, federation.checker
        self.invited = Invited(
            core.rooms,
            core.events,
            core.interning,
            parts.rooms.memberships,
            core.beside,
            parts.accounts,
            core.gate,
            checker,
            federation.acls,
            partners,
            core.identity,
        )
        self._residents = Residents(
            core.rooms,
            core.events,
            core.receiver,
            RestrictedJoins(core.rooms, core.events),
            core.gate,
            checker,
            federation.acls,
            partners,
            Relays(core.log),
            core.identity,
            core.clock,
        )
        self._answers = JoinAnswers(
            core.events, core.states, core.interning, AuthCover(core.db, core.events), core.server_name
        )
        self.remote_rooms = self._remote(core, federation)
        self._third_party = ThirdPartyInvites(
            core.rooms,
            core.events,
            core.graph,
            parts.rooms.elsewhere,
            parts.accounts,
            federation.client,
            federation.acls,
            KeyValidity(federation.outbound),
            core.server_name,
        )
        self._core = core
        self._enabled = enabled
        if enabled:
            parts.rooms.elsewhere.ask_with(self.remote_rooms)

    @staticmethod
    def _remote(core: Core, federation: FederationFeature) -> FederatedRooms:
        residency = Residency(federation.client, core.identity, core.clock, core.computing.warm)
        candidates = Candidates(core.events, core.beside, federation.partners, core.server_name)
        entering = Entering(
            core.rooms,
            core.adoption,
            core.beside,
            core.receiver,
            residency,
            federation.checker,
            candidates,
            core.outliers,
        )
        leaving = Leaving(core.rooms, core.events, core.beside, residency, candidates)
        inviting = Inviting(federation.client, federation.checker, core.events, federation.partners)
        return FederatedRooms(entering, leaving, inviting)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        api = HandshakesApi(
            self._residents, self._answers, self.invited, self._third_party, self._core.events
        )
        return Manifest(name="federation.handshakes", apis=[api] if self._enabled else [])
