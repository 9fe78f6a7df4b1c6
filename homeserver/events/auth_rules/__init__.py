"""Authorisation: whether an event may stand in a room. Pure; one file per event type, each branch under its rule's number.

Numbers are version 12's. Versions 1-5 count from the create rule: 1, 2 (auth events), 3 (federate), 4 (aliases), 5 (member)…
11 (redaction, v1-2); versions 6-11 have no aliases rule: 4 is member, 9 power levels; version 12 adds 2 (room ID) and moves the
auth events to 3 and federate to 4, so that member is 5 and power levels 10 again.
"""

from homeserver.events.auth_rules.auth_events import check_auth_events
from homeserver.events.auth_rules.checking import check
from homeserver.events.auth_rules.rejected import Malformed, Rejected
from homeserver.events.auth_rules.signers import required_signers

__all__ = ["Malformed", "Rejected", "check", "check_auth_events", "required_signers"]
