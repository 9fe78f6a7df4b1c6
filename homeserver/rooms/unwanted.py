"""Nobody is invited who wants no invites, however the invite is written.

spec: client-server-api/#invite-permission (MOD-04)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.events.event import StateKey
from homeserver.matrix.errors import InviteBlocked
from homeserver.matrix.ids import UserId
from homeserver.rooms.ports import InvitePolicy


async def check_invitee(policy: InvitePolicy, inviter: UserId, invitee: UserId) -> None:
    """Raises `InviteBlocked`."""
    if await policy.blocks(invitee, inviter):
        raise InviteBlocked(f"{invitee} does not want to be invited")


async def check_invite_as_state(
    policy: InvitePolicy, inviter: UserId, key: StateKey, content: Mapping[str, Any]
) -> None:
    """As `check_invitee`, if this state is an invite."""
    if key[0] == "m.room.member" and content.get("membership") == "invite":
        await check_invitee(policy, inviter, UserId(key[1]))
