"""Searching messages, put together."""

from __future__ import annotations

from homeserver.runtime.periodic import every
from homeserver.search import rebuild
from homeserver.search.answers import Answers
from homeserver.search.api import SearchApi
from homeserver.search.around import Surroundings
from homeserver.search.indexer import Indexer
from homeserver.search.lately import Lately
from homeserver.search.pages import Results
from homeserver.search.readable import Readable
from homeserver.search.rebuild import Rebuilding
from homeserver.search.service import SearchService
from homeserver.search.window import Windows
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class SearchFeature:
    """Service, endpoint, and the reader that keeps the index."""

    def __init__(self, core: Core, rooms: RoomsFeature) -> None:
        self.indexer = indexer = Indexer(core.db, core.events, core.interning, core.clock)
        self.rebuilding = Rebuilding(core.db, indexer, core.clock)
        self.lately = Lately(core.db, core.tail, core.clock)
        self.service = SearchService(
            self.lately,
            core.interning,
            rooms.bundles,
            rooms.reading,
            Readable(core.db, core.rooms, core.events, core.interning, rooms.memberships, core.visibility),
            Windows(core.db),
            Results(core.db, core.rooms, core.events, core.visibility, indexer),
            Answers(
                rooms.bundles,
                Surroundings(core.db, core.events, core.interning, core.states, core.visibility),
                core.clock,
            ),
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="search",
            apis=[SearchApi(self.service)],
            readers=[self.indexer.reader()],
            periodic=[
                every(
                    rebuild.EVERY,
                    self.rebuilding.once,
                    name="search.rebuild",
                    once_in_cluster=True,
                    first=1.0,
                    timeout=rebuild.LONGEST,
                )
            ],
        )
