"""All endpoints of the server, collected from the api objects.

Owns the list that routers, contract tests, conformance page and OpenAPI document are made from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from homeserver.web.binding import Bound, Bounds, bind
from homeserver.web.endpoint import ENDPOINTS_ATTRIBUTE, Endpoint
from homeserver.web.resources import Resource
from homeserver.web.router import Router


class Registry:
    """Collects api objects; `add` each, then hand it to the server."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._served: list[Bound] = []
        self._all = Router()  # finds clashes when an api is added, whatever listeners there will be
        self._bounds = bounds or Bounds()

    def add(self, *apis: object) -> None:
        """Take the declared endpoints of each object. Raises `Clash`, or `TypeError` for an object without any."""
        for api in apis:
            declared = list(endpoints_of(type(api)))
            if not declared:
                raise TypeError(f"{type(api).__name__} declares no endpoint")
            for endpoint in declared:
                bound = bind(endpoint, api, self._bounds)
                self._all.add(bound)
                self._served.append(bound)

    def __iter__(self) -> Iterator[Endpoint]:
        return (bound.endpoint for bound in self._served)

    def __len__(self) -> int:
        return len(self._served)

    def router(self, resources: Collection[Resource]) -> Router:
        """The routes of a listener that carries these resources."""
        router = Router()
        for bound in self._served:
            if bound.endpoint.resource in resources:
                router.add(bound)
        return router


def endpoints_of(api: type) -> Iterator[Endpoint]:
    """The endpoints that a class declares, in the order of the source, inherited ones first."""
    seen: dict[str, object] = {}
    for cls in reversed(api.__mro__):
        seen.update(vars(cls))
    for member in seen.values():
        yield from getattr(member, ENDPOINTS_ATTRIBUTE, ())
