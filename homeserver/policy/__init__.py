"""The policy gate: what somebody wants to write passes it before it is written.

types     acts, checks and their verdicts: what a feature needs to declare a check
passages  the proof of having passed, without which nothing is written to a room
gate      runs the checks

Rules of the room's version are not policy, nor is what only the head of a room can tell: both are decided where the event
is built. See docs/decisions/0015-policy-gate.md.
"""
