"""Who may make rooms, give them addresses and publish them: as the administrator has configured it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from homeserver.config.rooms import RoomsSection
from homeserver.matrix.errors import Forbidden
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict

_Allowed = Literal["nobody", "admins", "members"]


class Permissions:
    """A check of the policy gate. Application services are asked as members. A room that replaces another one is made, too."""

    def __init__(self, config: RoomsSection) -> None:
        self._rules: Mapping[Kind, tuple[_Allowed, str]] = {
            Kind.CREATE: (config.create, "make rooms on this server"),
            Kind.ALIAS: (config.alias_create, "give rooms an address on this server"),
            Kind.PUBLISH: (config.directory.publish, "put rooms into the list of this server"),
        }

    @property
    def check(self) -> Check:
        """See `Manifest.policy`."""
        return Check(
            name="rooms.permissions", kinds=set(self._rules), decide=self._decide, when_failing="refuse"
        )

    async def _decide(self, act: Act) -> Verdict:
        allowed, what = self._rules[act.kind]
        is_admin = act.requester is not None and act.requester.is_admin
        if allowed == "nobody" or (allowed == "admins" and not is_admin):
            return Refuse(Forbidden(f"You may not {what}"))
        return ALLOW
