"""Chain cover: every event of the auth graph has a place on a chain, so that reaching becomes comparing numbers.

Events on one chain reach all earlier ones of it; a link says that from a place on one chain a place on another is reached.
What an event reaches is therefore one number per chain, and the auth difference of two states a few spans of chains, found
without touching an event. The shell keeps rows of places and links; these functions decide what they say.

spec: rooms/v2/#definitions (auth difference), rooms/v12/#definitions (conflicted state subgraph)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_LINKS: Final = 9
"""Most links a new event brings: it has at most 10 auth events (EVT-03) and continues the chain of one."""


class Place(NamedTuple):
    """Where an event stands: the chain's number and, from 1 on, the position in it."""

    chain: int
    sequence: int


class Link(NamedTuple):
    """From `sequence` of its chain onwards, `target` and all before it on its chain are reached."""

    sequence: int
    target: Place


Links = Mapping[int, Sequence[Link]]
"""The links that leave a chain, by chain, ascending by `sequence`."""


class Placement(NamedTuple):
    """A new event's place, and the links that leave it."""

    place: Place
    links: tuple[Link, ...]


class Span(NamedTuple):
    """The events of a chain with `after < sequence <= upto`."""

    chain: int
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class NeedsLinks:
    """The links that leave these chains are needed to go on."""

    chains: frozenset[int]


@dataclass(frozen=True, slots=True)
class NeedsCommon:
    """The places of events all states have are needed; those that cannot reach an event of these spans may be left out."""

    spans: tuple[Span, ...]


def place_event(auth: Collection[Place], ends: Mapping[int, int], links: Links, new_chain: int) -> Placement:
    """Find a place for a new event.

    `auth` are the places of its auth events, `ends` the last sequence of each of their chains, `links` those leaving
    these chains. The event continues the longest chain that ends in one of its auth events, or begins `new_chain`. It gets a
    link to each other chain, but for those that the remaining ones lead to anyway.
    """
    furthest: dict[int, int] = {}
    for chain, sequence in auth:
        furthest[chain] = max(sequence, furthest.get(chain, 0))
    open_ends = [
        Place(chain, sequence) for chain, sequence in furthest.items() if ends.get(chain) == sequence
    ]
    if open_ends:
        longest = max(open_ends, key=lambda end: (end.sequence, -end.chain))
        place = Place(longest.chain, longest.sequence + 1)
    else:
        place = Place(new_chain, 1)

    implied = {
        link.target.chain: link.target.sequence
        for chain, sequence in furthest.items()
        for link in links.get(chain, ())
        if link.sequence <= sequence and link.target.sequence >= furthest.get(link.target.chain, 0)
    }
    needed = (Place(chain, sequence) for chain, sequence in sorted(furthest.items()) if chain != place.chain)
    return Placement(
        place, tuple(Link(place.sequence, target) for target in needed if target.chain not in implied)
    )


class Reach:
    """How far along every chain some places reach. Grows by rounds, each naming the chains whose links it lacks."""

    def __init__(self, starts: Iterable[Place], links: Links) -> None:
        """`links` is the shell's growing collection; a chain without links has an empty sequence in it."""
        self.upto: dict[int, int] = {}
        self._links = links
        self._followed: dict[int, int] = {}
        self._waiting: set[int] = set()
        for place in starts:
            self._raise(place)

    def advance(self) -> frozenset[int]:
        """Follow all links known; returns the chains whose links are missing, none when done."""
        blocked: set[int] = set()
        while self._waiting:
            chain = self._waiting.pop()
            links = self._links.get(chain)
            if links is None:
                blocked.add(chain)
                continue
            first = self._followed.get(chain, 0)
            end = bisect_right(links, self.upto[chain], lo=first, key=_sequence_of)
            self._followed[chain] = end
            for link in links[first:end]:
                self._raise(link.target)
        self._waiting = blocked
        return frozenset(blocked)

    def _raise(self, place: Place) -> None:
        if place.sequence > self.upto.get(place.chain, 0):
            self.upto[place.chain] = place.sequence
            self._waiting.add(place.chain)


class ChainDifference:
    """Auth difference of several states, by chains; the answer to `NeedsAuthDifference` without walking an event.

    Drive it like a `Resolution`: `advance`, answer with `add_links`, until None; then `spans`.
    """

    def __init__(
        self, unconflicted: Iterable[Place] | None, conflicted: Sequence[Collection[Place]], *, subgraph: bool
    ) -> None:
        """Places of the events all states have (None: to be asked for), and of those that state *i* has besides."""
        self._links: dict[int, Sequence[Link]] = {}
        self._conflicted = conflicted
        self._subgraph = subgraph
        self._sides = [Reach(places, self._links) for places in conflicted]
        self._common = None if unconflicted is None else Reach(unconflicted, self._links)
        self._partial: list[Span] | None = None

    def advance(self) -> NeedsLinks | NeedsCommon | None:
        """Go on as far as possible: what is needed next, or None when `spans` can be asked."""
        missing = frozenset[int]().union(*(side.advance() for side in self._sides))
        if not missing and self._partial is None:
            self._partial = self._one_sided()
        if self._partial:
            # Only where the sides differ does it matter what all states reach.
            if self._common is None:
                return NeedsCommon(tuple(self._partial))
            missing = self._common.advance()
        return NeedsLinks(missing) if missing else None

    def add_links(self, chains: Iterable[int], links: Links) -> None:
        """Answer a request: its chains, and those of their links that exist, ascending by sequence."""
        for chain in chains:
            self._links[chain] = links.get(chain, ())

    def add_common(self, places: Iterable[Place]) -> None:
        """Answer a `NeedsCommon`."""
        self._common = Reach(places, self._links)

    def spans(self) -> list[Span]:
        """Where the auth difference lies (and the conflicted state subgraph, if asked for). Spans may overlap."""
        common = self._common.upto if self._common is not None else {}
        found = [Span(c, max(after, common.get(c, 0)), upto) for c, after, upto in self._partial or ()]
        if self._subgraph:
            found += self._between()
        return [span for span in found if span.after < span.upto]

    def _one_sided(self) -> list[Span]:
        """What some sides reach and others do not."""
        lowest, highest = dict[int, int](), dict[int, int]()
        counts = dict[int, int]()
        for side in self._sides:
            for chain, upto in side.upto.items():
                highest[chain] = max(upto, highest.get(chain, 0))
                lowest[chain] = min(upto, lowest.get(chain, upto))
                counts[chain] = counts.get(chain, 0) + 1
        everybody = len(self._sides)
        spans = (Span(c, lowest[c] if counts[c] == everybody else 0, upto) for c, upto in highest.items())
        return [span for span in spans if span.after < span.upto]

    def _between(self) -> list[Span]:
        """What conflicted events reach and what reaches one: on each chain from the first such place on."""
        highest: dict[int, int] = {}
        for side in self._sides:
            for chain, upto in side.upto.items():
                highest[chain] = max(upto, highest.get(chain, 0))
        incoming: dict[int, list[tuple[int, Place]]] = {}
        for chain in highest:
            for link in self._links[chain]:
                incoming.setdefault(link.target.chain, []).append(
                    (link.target.sequence, Place(chain, link.sequence))
                )
        for arrivals in incoming.values():
            arrivals.sort()

        first: dict[int, int] = {}
        waiting = [place for places in self._conflicted for place in places]
        while waiting:
            chain, sequence = waiting.pop()
            if sequence < first.get(chain, sequence + 1):
                first[chain] = sequence
                arrivals = incoming.get(chain, [])
                while arrivals and arrivals[-1][0] >= sequence:  # each is used once
                    waiting.append(arrivals.pop()[1])
        return [Span(chain, sequence - 1, highest.get(chain, 0)) for chain, sequence in first.items()]


def _sequence_of(link: Link) -> int:
    return link.sequence
