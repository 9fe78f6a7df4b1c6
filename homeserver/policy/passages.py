"""Proof of having passed the gate. Nothing is written to a room without one, and only this file makes them.

Local acts get theirs from `Gate.pass_at_once` or `Gate.admit`, events of other servers from `Gate.examine`; what the server
does by itself takes `system_passage`, with the reason.
"""

from __future__ import annotations

from homeserver.log.entries import Cause
from homeserver.runtime import request_context

_SEAL = object()


class Passage(Cause, frozen=True, gc=False):
    """That an act has passed. It becomes the cause of what is written (`log.entries.Cause`)."""

    seal: object = None
    refused: bool = False
    """Of an event from another server: it is written, because others build on it, but reaches nobody."""

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("only the gate makes a Passage: ask it, or take system_passage(reason)")


def made_by_gate(
    actor_nid: int | None,
    labels: tuple[str, ...] = (),
    *,
    reason: str | None = None,
    refused: bool = False,
) -> Passage:
    """For the gate alone. `actor_nid`: of the local user who acts."""
    return Passage(actor_nid, reason, request_context.current.get(), labels, _SEAL, refused)


def system_passage(reason: str, actor_nid: int | None = None) -> Passage:
    """For what the server writes by itself. `reason`: why, as a sentence; kept with what is written.

    `actor_nid`: the user whose act it follows from, if it is one's.
    """
    return Passage(actor_nid, reason, request_context.current.get(), (), _SEAL)
