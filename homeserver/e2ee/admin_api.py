"""What administrators do to cross-signing, under the name that Synapse's tools know.

Somebody who signs in elsewhere has no password to prove who they are; an administrator lets them replace their keys.
"""

from __future__ import annotations

import msgspec

from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.graph.interning import Interning
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import user_id as checked_user_id
from homeserver.web.auth import AdminRequester
from homeserver.web.endpoint import Auth, Path, endpoint


class Replaceable(msgspec.Struct):
    """How long it lasts."""

    updatable_without_uia_before_ms: int


class CrossSigningAdminApi:
    """Letting users replace their cross-signing keys."""

    def __init__(self, cross_signing: CrossSigningService, interning: Interning) -> None:
        self._cross_signing = cross_signing
        self._interning = interning

    @endpoint(
        "allowCrossSigningReplacement",
        "POST",
        "/_synapse/admin/v1/users/{userId}/_allow_cross_signing_replacement_without_uia",
        auth=Auth.ADMIN,
    )
    async def let_replace(self, admin: AdminRequester, user_id: Path[str]) -> Replaceable:
        """Lets a user replace their cross-signing keys once without proof, within ten minutes."""
        del admin
        name = checked_user_id(user_id)
        found = await self._interning.find_user_nids([name])
        if name not in found:
            raise NotFound("There is no such user")
        return Replaceable(await self._cross_signing.let_replace(found[name]))
