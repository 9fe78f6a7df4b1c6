"""What a listener can carry, and which paths belong to what.

Owns the mapping from a path to its resource, so that a declaration need not repeat what its path says.
"""

from __future__ import annotations

import enum


class Resource(enum.Enum):
    """A set of endpoints that a listener carries or does not."""

    CLIENT = "client"
    FEDERATION = "federation"
    MEDIA = "media"
    ADMIN = "admin"
    METRICS = "metrics"
    HEALTH = "health"


# First match wins.
_BY_PREFIX: tuple[tuple[str, Resource], ...] = (
    ("/_matrix/media/", Resource.MEDIA),
    ("/_matrix/client/v1/media/", Resource.MEDIA),
    ("/_matrix/federation/v1/media/", Resource.FEDERATION),
    ("/_matrix/federation/", Resource.FEDERATION),
    ("/_matrix/key/", Resource.FEDERATION),
    ("/_matrix/policy/", Resource.FEDERATION),
    ("/.well-known/matrix/server", Resource.FEDERATION),
    ("/_synapse/admin/", Resource.ADMIN),
    ("/_matrix/client/v1/admin/", Resource.CLIENT),
    ("/_atrium/admin/", Resource.ADMIN),
    ("/metrics", Resource.METRICS),
    ("/health", Resource.HEALTH),
)


def resource_of(path: str) -> Resource:
    """The resource a path belongs to; what is not listed is for clients."""
    for prefix, resource in _BY_PREFIX:
        if path.startswith(prefix):
            return resource
    return Resource.CLIENT
