"""m.room.redaction: the rule of versions 1-2, and the question later versions ask before a redaction is applied.

spec: rooms/v1/#authorisation-rules (11), rooms/v3/#handling-redactions
"""

from __future__ import annotations

from homeserver.events.auth_rules.power import State, can_act
from homeserver.events.auth_rules.rejected import Rejected
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import domain_of


def check_redaction(event: Event, state: State, version: RoomVersion) -> None:
    """Versions 1-2 only: raise `Rejected` unless the sender may redact what the event points at."""
    # v1 11.1: the redact level suffices.
    if can_act(state, event.sender, "redact", version):
        return
    # v1 11.2: so does having been made by the same server, by the domains of the two event IDs.
    if event.redacts is not None and domain_of(event.redacts) == domain_of(event.event_id):
        return
    # v1 11.3: otherwise, reject.
    raise Rejected("v1 11.3", "the sender's level is below the redact level")


def may_apply(redaction: Event, target: Event, state: State, version: RoomVersion) -> bool:
    """Whether an accepted redaction takes effect on `target`; `state` is the room's before the redaction.

    Both events must be here (RED-02). The redact level suffices even where it would not let its holder send such an
    event (RED-03); sharing the server of the target's sender suffices too.
    """
    # spec: rooms/v1/#authorisation-rules: versions 1-2 have decided this already when the event was authorised
    if version.redaction_auth_rule:
        return True
    # spec: rooms/v3/#handling-redactions
    if target.room_id != redaction.room_id:
        return False
    return domain_of(redaction.sender) == domain_of(target.sender) or can_act(
        state, redaction.sender, "redact", version
    )
