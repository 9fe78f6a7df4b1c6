"""Which state of a room a client wants. spec: MSC4186, "RequiredStateRequest"; pairs with `$ME` and `$LAZY` as in MSC3575."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from homeserver.events.event import StateKey

MEMBER = "m.room.member"
ANY, ME, LAZY = "*", "$ME", "$LAZY"
MAX_FILTERED: Final = 4
"""Sets with exceptions that one room may have; of more, the exceptions are told as well."""


class RequiredState(NamedTuple):
    """A set of state keys. Equal ones are the same object if they were made by `required`."""

    exact: frozenset[StateKey]
    types: frozenset[str]
    """All keys of these types."""
    keys: frozenset[str]
    """These keys of all types."""
    everything: bool
    lazy: bool
    """Of members, those of whom the timeline tells."""
    filtered: frozenset[Filtered] = frozenset()
    """What is wanted beside it, each with exceptions of its own."""

    def choose(self, state: Mapping[StateKey, int], people: Collection[str] | None) -> dict[StateKey, int]:
        """What of a state is wanted, or of changes to it. `people`: who is in the timeline; None: all members that are in
        `state` are to be told if members are loaded lazily.
        """
        if self.everything and not self.lazy:
            return dict(state)
        exact = self.exact
        if len(state) < len(exact):  # a request may name thousands, for each of thousands of rooms
            found = {key: at for key, at in state.items() if key in exact}
        else:
            found = {key: state[key] for key in exact if key in state}
        if self.everything or self.types or self.keys:
            for key, at in state.items():
                kind, state_key = key
                if (
                    (self.everything and kind != MEMBER)
                    or kind in self.types
                    or (state_key in self.keys and not (self.lazy and kind == MEMBER))
                ):
                    found[key] = at
        for each in self.filtered:
            found.update(each.choose(state))
        if self.lazy:
            if people is None:
                found.update({key: at for key, at in state.items() if key[0] == MEMBER})
            else:
                found.update({key: state[key] for user in people if (key := (MEMBER, user)) in state})
        return found

    def wants(self, key: StateKey) -> bool:
        """Whether a key is wanted, whoever is in the timeline."""
        kind, state_key = key
        if self.everything or key in self.exact or kind in self.types or state_key in self.keys:
            return True
        return any(each.wants(key) for each in self.filtered)

    def __or__(self, other: RequiredState) -> RequiredState:
        """What either of them wants."""
        found, filtered = self._joined(other), self.filtered | other.filtered
        if len(filtered) > MAX_FILTERED:
            for each in filtered:
                found = found._joined(each.included)
            filtered = frozenset()
        every_member = found.every_member or any(each.every_member for each in filtered)
        return shared(found._replace(lazy=found.lazy and not every_member, filtered=filtered))

    @property
    def size(self) -> int:
        """How many things it is made of."""
        own = len(self.exact) + len(self.types) + len(self.keys)
        return own + sum(each.included.size + each.excluded.size for each in self.filtered)

    @property
    def every_member(self) -> bool:
        """Whether all events of members are wanted; of what has exceptions nothing is said."""
        return MEMBER in self.types or (self.everything and not self.lazy)

    def _joined(self, other: RequiredState) -> RequiredState:
        """What either wants but for what has exceptions."""
        every_member = self.every_member or other.every_member
        return RequiredState(
            self.exact | other.exact,
            self.types | other.types,
            self.keys | other.keys,
            everything=self.everything or other.everything,
            lazy=(self.lazy or other.lazy) and not every_member,
        )


class Filtered(NamedTuple):
    """A set of state keys with exceptions; neither has exceptions itself."""

    included: RequiredState
    excluded: RequiredState

    def choose(self, state: Mapping[StateKey, int]) -> dict[StateKey, int]:
        """What of a state is wanted; of members, none because they stand in the timeline."""
        found = self.included.choose(state, ())
        return {key: at for key, at in found.items() if not self.excluded.wants(key)}

    def wants(self, key: StateKey) -> bool:
        """Whether a key is wanted, whoever is in the timeline."""
        return self.included.wants(key) and not self.excluded.wants(key)

    @property
    def every_member(self) -> bool:
        """Whether all events of members are wanted."""
        return self.included.every_member and not (self.excluded.everything or MEMBER in self.excluded.types)


def required(pairs: Iterable[tuple[str, str]], me: str) -> RequiredState:
    """Of what a request says."""
    exact, types, keys = set[StateKey](), set[str](), set[str]()
    everything = lazy = False
    for kind, key in pairs:
        if key == LAZY:
            lazy = lazy or kind == MEMBER
        elif kind == ANY and key == ANY:
            everything = True
        elif kind == ANY:
            keys.add(me if key == ME else key)
        elif key == ANY:
            types.add(kind)
        else:
            exact.add((kind, me if key == ME else key))
    lazy = lazy and MEMBER not in types
    return shared(
        RequiredState(frozenset(exact), frozenset(types), frozenset(keys), everything=everything, lazy=lazy)
    )


Element = tuple[str | None, str | None]
"""Type and state key; None: all."""


def required_elements(
    include: Iterable[Element], exclude: Collection[Element], *, lazy: bool
) -> RequiredState:
    """Of what a request says in the form of MSC4186. Members that are loaded lazily are not excluded."""
    included = _elements(include, lazy=lazy)
    if not exclude:
        return shared(included)
    excluded = _elements(exclude, lazy=False)
    nothing = _elements((), lazy=included.lazy)
    return shared(nothing._replace(filtered=frozenset((Filtered(shared(included), shared(excluded)),))))


def _elements(elements: Iterable[Element], *, lazy: bool) -> RequiredState:
    exact, types, keys = set[StateKey](), set[str](), set[str]()
    everything = False
    for kind, key in elements:
        if kind is not None and key is not None:
            exact.add((kind, key))
        elif kind is not None:
            types.add(kind)
        elif key is not None:
            keys.add(key)
        else:
            everything = True
    lazy = lazy and MEMBER not in types
    return RequiredState(
        frozenset(exact), frozenset(types), frozenset(keys), everything=everything, lazy=lazy
    )


@lru_cache(maxsize=2_000)
def shared(wanted: RequiredState) -> RequiredState:
    """One object for equal ones, so that they are compared at once."""
    return wanted
