"""Calls, put together."""

from __future__ import annotations

from typing import Final

import msgspec

from federation.ports import Ask, Client, RemoteFault
from homeserver.accounts.openid import OpenIdTokens
from homeserver.calls.api import CallsApi
from homeserver.calls.delegation import POLL, DelegatedLeaves
from homeserver.calls.livekit import LiveKit, LiveKitServer
from homeserver.calls.rtc_api import LiveKitApi, LiveKitService, OwnLeavesApi, TransportsApi
from homeserver.calls.service import CallTokens
from homeserver.calls.types import OpenIdProof
from homeserver.config import Config
from homeserver.config.calls import LiveKitSection
from homeserver.delayed.service import DelayedEvents
from homeserver.matrix.ids import UserId, is_user_id
from homeserver.runtime.periodic import every
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of

_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 64 * 1024


class _OpenIdUser(msgspec.Struct):
    sub: str


class OpenIdOfOthers:
    """Fulfils `calls.types.RemoteOpenId`. spec: op:exchangeOpenIdToken (FED-40)"""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def user_of(self, proof: OpenIdProof) -> UserId | None:
        """See the protocol."""
        ask = Ask(
            method="GET",
            path=("_matrix", "federation", "v1", "openid", "userinfo"),
            query=(("access_token", proof.token),),
            timeout=_SECONDS,
            max_bytes=_MAX_ANSWER,
            long_retry=False,
        )
        try:
            user = await self._client.ask(proof.server_name, ask, _OpenIdUser)
        except RemoteFault:
            return None
        return UserId(user.sub) if is_user_id(user.sub) else None


class CallsFeature:
    """TURN, transports, and the tokens for LiveKit."""

    def __init__(
        self, config: Config, core: Core, openid: OpenIdTokens, events: DelayedEvents, client: Client
    ) -> None:
        livekit = config.calls.livekit
        base_url = config.server.public_baseurl
        service_url = livekit.service_at(base_url) if livekit is not None else None
        self._apis: list[object] = [CallsApi(config.calls.turn, core.clock), TransportsApi(service_url)]
        self._outbound = outbound_of(config.outbound)
        service: LiveKitService | None = None
        self._leaves: DelegatedLeaves | None = None
        if livekit is not None:
            server = LiveKitServer(_livekit(livekit), self._outbound, core.clock)
            self._leaves = DelegatedLeaves(core.db, server, events, core.clock)
            tokens = CallTokens(server, self._leaves, openid, core.rooms, core.server_name)
            if config.federation.enabled:
                tokens.ask_with(OpenIdOfOthers(client))
            service = LiveKitService(tokens, self._leaves, server)
            self._apis.append(OwnLeavesApi(tokens))
        self._apis.append(LiveKitApi(service))

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        leaves = self._leaves
        return Manifest(
            name="calls",
            apis=self._apis,
            periodic=[every(POLL, leaves.look, name="calls.delegated_leaves")] if leaves else [],
            stop=[self._outbound.close],
        )


def _livekit(section: LiveKitSection) -> LiveKit:
    return LiveKit(
        url=section.url, api_url=section.api, key=section.key, secret=section.secret.get_secret_value()
    )
