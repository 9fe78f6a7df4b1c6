"""`Rejected`: the authorisation rules said no, and which of them did; `Malformed`: nobody could have sent that."""

from __future__ import annotations


class Rejected(Exception):
    """An event the rules do not allow. The caller decides what that means: `M_FORBIDDEN`, *rejected*, or *soft-failed*.

    `rule` is the number of the deciding rule, counted as in room version 12 (`5.3.3`); rules that only older versions have
    name the version that introduced them (`v1 4.2`). `reason` is a sentence for people; it never carries message content.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"rule {rule}: {reason}")
        self.rule = rule
        self.reason = reason


class Malformed(Rejected):
    """The rules allow such an event to nobody in this room, whatever their power: it is the event that is wrong, not its sender."""
