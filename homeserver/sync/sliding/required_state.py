"""Which state of a room a client wants. spec: MSC4186, "required_state"; `$ME` and `$LAZY` as in MSC3575."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from homeserver.events.event import StateKey

MEMBER = "m.room.member"
ANY, ME, LAZY = "*", "$ME", "$LAZY"


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

    def choose(self, state: Mapping[StateKey, int], people: Collection[str] | None) -> dict[StateKey, int]:
        """What of a state is wanted, or of changes to it. `people`: who is in the timeline; None: all members that are in
        `state` are to be told if members are loaded lazily.
        """
        if self.everything and not self.lazy:
            return dict(state)
        found = {key: state[key] for key in self.exact if key in state}
        if self.everything or self.types or self.keys:
            for key, at in state.items():
                kind, state_key = key
                if (
                    (self.everything and kind != MEMBER)
                    or kind in self.types
                    or (state_key in self.keys and not (self.lazy and kind == MEMBER))
                ):
                    found[key] = at
        if self.lazy:
            if people is None:
                found.update({key: at for key, at in state.items() if key[0] == MEMBER})
            else:
                found.update({key: state[key] for user in people if (key := (MEMBER, user)) in state})
        return found

    def wants(self, key: StateKey) -> bool:
        """Whether a key is wanted, whoever is in the timeline."""
        kind, state_key = key
        return self.everything or key in self.exact or kind in self.types or state_key in self.keys

    def __or__(self, other: RequiredState) -> RequiredState:
        """What either of them wants."""
        types = self.types | other.types
        everything = self.everything or other.everything
        every_member = MEMBER in types or any(each.everything and not each.lazy for each in (self, other))
        return shared(
            RequiredState(
                self.exact | other.exact,
                types,
                self.keys | other.keys,
                everything,
                (self.lazy or other.lazy) and not every_member,
            )
        )


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


@lru_cache(maxsize=2_000)
def shared(wanted: RequiredState) -> RequiredState:
    """One object for equal ones, so that they are compared at once."""
    return wanted
