"""Endpoints of discovery: versions, capabilities, well-known files.

spec: client-server-api/#server-discovery, #capabilities-negotiation
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeserver.config import Config
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import is_user_id
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, endpoint
from homeserver.web.response import RawJson

VERSIONS: Final = (
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
)
"""Clients look for single ones by name, so every one is listed (CHECKLIST API-15)."""

UNSTABLE_FEATURES: Final[Mapping[str, bool]] = {
    "uk.tcpip.msc4133": True,  # extended profiles; in the specification since v1.16
    "uk.tcpip.msc4133.stable": True,
    "uk.timedout.msc4323": True,  # locking and suspending; since v1.18
    "org.matrix.e2e_cross_signing": True,  # without it Element before 2025 sets up no cross-signing
    "uk.half-shot.msc2666.query_mutual_rooms": True,  # since v1.19; matrix-js-sdk looks for this name alone
    "uk.half-shot.msc2666.query_mutual_rooms.stable": True,  # others do for this one
    "org.matrix.msc2285.stable": True,  # private receipts; since v1.4
    "org.matrix.msc2654": True,  # how many events mark a room as unread
    "org.matrix.msc3030.stable": True,  # the event at a time; since v1.6
    "org.matrix.msc3440.stable": True,  # threads; since v1.3
    "org.matrix.msc3771": True,  # receipts of threads; since v1.4
    "org.matrix.msc3773": True,  # unread counts of threads; since v1.4, and looked for together with the line before
    "org.matrix.msc3814": True,  # dehydrated devices
    "org.matrix.msc3827.stable": True,  # published spaces found by their type; since v1.4
    "org.matrix.msc3881": True,  # switching pushers off from another device
    "org.matrix.msc3912": True,  # redactions of what relates to an event
    "org.matrix.msc3916.stable": True,  # files for those who are logged in; since v1.11
    "org.matrix.msc3981": True,  # relations of relations; since v1.10
    "org.matrix.msc4140": True,  # delayed events
    "org.matrix.msc4222": True,  # state after the timeline in /sync; since v1.16
    "org.matrix.msc4262": True,  # profiles in sliding sync
    "org.matrix.msc4293": True,  # kicks and bans that redact what was said
    "org.matrix.msc4306": True,  # thread subscriptions
    "org.matrix.msc4354": True,  # sticky events
    "org.matrix.msc4380.stable": True,  # invites that are refused altogether; since v1.18
    "org.matrix.msc4429": True,  # profiles in /sync
    "org.matrix.simplified_msc3575": True,  # simplified sliding sync (MSC4186)
}
"""Names under which clients look for what the versions above already say."""


class DiscoveryApi:
    """What this server is and can do."""

    def __init__(self, config: Config) -> None:
        self._config = config
        features = dict(UNSTABLE_FEATURES)
        base_url, support = config.server.public_baseurl, _support(config)
        client: dict[str, Any] = {"m.homeserver": {"base_url": base_url}}
        if (livekit := config.calls.livekit) is not None:
            features["org.matrix.msc4143"] = True  # there is something for calls to run over
            focus = {"type": "livekit", "livekit_service_url": livekit.service_at(base_url)}
            client["org.matrix.msc4143.rtc_foci"] = [focus]
        self._versions = RawJson(msgspec.json.encode({"versions": VERSIONS, "unstable_features": features}))
        self._client = RawJson(msgspec.json.encode(client)) if base_url else None
        self._support = RawJson(msgspec.json.encode(support)) if support else None
        keys = config.server.policy_server_keys
        self._policy_server = RawJson(msgspec.json.encode({"public_keys": keys})) if keys else None

    # A token that has expired must not keep a client from learning how to get a new one: none is looked at.
    @endpoint("getVersions", "GET", "/_matrix/client/versions", auth=Auth.NONE)
    async def versions(self) -> RawJson:
        """Lists the versions of the specification that are served."""
        return self._versions

    @endpoint("getWellknown", "GET", "/.well-known/matrix/client", auth=Auth.NONE)
    async def well_known(self) -> RawJson:
        """Tells clients where the server is (CHECKLIST DISC-01)."""
        if self._client is None:
            raise NotFound("This server's address is not published here")
        return self._client

    @endpoint("getWellknownSupport", "GET", "/.well-known/matrix/support", auth=Auth.NONE)
    async def support(self) -> RawJson:
        """Tells whom to ask for help (CHECKLIST DISC-02)."""
        if self._support is None:
            raise NotFound("No contact is published here")
        return self._support

    @endpoint("getWellknownPolicy", "GET", "/.well-known/matrix/policy_server", auth=Auth.NONE)
    async def policy_server(self) -> RawJson:
        """Tells the keys of the policy server that goes by this name, if there is one (CHECKLIST DISC-03)."""
        if self._policy_server is None:
            raise NotFound("There is no policy server of this name")
        return self._policy_server

    @endpoint(
        "getCapabilities", "GET", "/_matrix/client/{v}/capabilities", auth=Auth.GUEST_ALLOWED, limit="default"
    )
    async def capabilities(self, requester: Requester) -> dict[str, Any]:
        """Tells what the user can do here (CHECKLIST CAP-01 to CAP-05)."""
        config, guest = self._config, requester.is_guest
        by_password = config.auth.password_login and not guest and requester.appservice_id is None
        capabilities: dict[str, Any] = {
            "m.room_versions": {
                "default": config.rooms.default_version,
                "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
            },
            "m.change_password": {"enabled": by_password},
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": not guest},
            "m.profile_fields": {"enabled": True, **({"allowed": ["displayname"]} if guest else {})},
            "m.3pid_changes": {"enabled": config.mail is not None and not guest},
            "m.get_login_token": {"enabled": config.auth.login_tokens and by_password},
            "m.forget_forced_upon_leave": {"enabled": config.rooms.forget_on_leave},
            "org.matrix.msc4140.delayed_events": {
                "max_delay_ms": int(config.limits.delayed_event_delay * 1000),
                "max_scheduled": config.limits.delayed_events,
            },
        }
        if requester.is_admin:
            capabilities["m.account_moderation"] = {"lock": True, "suspend": True}
        return {"capabilities": capabilities}


def _support(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    contact = config.server.admin_contact
    if contact:
        kind, value = (
            ("matrix_id", contact)
            if is_user_id(contact)
            else ("email_address", contact.removeprefix("mailto:"))
        )
        found["contacts"] = [{kind: value, "role": "m.role.admin"}]
    if config.server.support_page:
        found["support_page"] = config.server.support_page
    return found
