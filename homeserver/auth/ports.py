"""What logging in needs from other features; each is plugged in by `wiring`."""

from __future__ import annotations

from typing import Protocol

from homeserver.matrix.ids import UserId


class ThreepidLookup(Protocol):
    """Whose e-mail address or telephone number it is."""

    async def find_user(self, medium: str, address: str) -> UserId | None: ...

    async def canonical_number(self, country: str, number: str) -> str | None:
        """The address form (`441134960000`) of a number dialled in a country; None if it is no number."""
        ...
