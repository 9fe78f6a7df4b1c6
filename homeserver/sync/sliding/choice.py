"""What state of rooms an answer of sliding sync looks at: what is wanted, and what rooms are described by.

spec: MSC4186, "RequiredStateRequest"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from homeserver.events.event import StateKey
from homeserver.sync.sliding.windows import Rule

NAME: Final[StateKey] = ("m.room.name", "")
AVATAR: Final[StateKey] = ("m.room.avatar", "")
APART: Final = (NAME, AVATAR)
"""State that has members of its own."""


class Choice:
    """The state that rules say is wanted. Fulfils `StateChoice`."""

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        self._rules = rules

    def lazy(self, room_nid: int) -> bool:
        return self._rules[room_nid].required.lazy

    def choose(
        self, room_nid: int, state: Mapping[StateKey, int], people: Collection[str] | None
    ) -> dict[StateKey, int]:
        found = self._rules[room_nid].required.choose(state, people)
        # Name and picture are told apart from the state that is wanted.
        found.update({key: state[key] for key in APART if key in state})
        return found
