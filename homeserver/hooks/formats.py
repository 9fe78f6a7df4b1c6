"""Which of the known formats a posted body has, and what it says. Pure.

Told apart by a header where there is one, else by the keys that only one of them has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from homeserver.hooks import alerts, github, slack
from homeserver.hooks.message import Said, clean, text
from homeserver.matrix.errors import BadJson


class Posted(NamedTuple):
    """What was posted. `event`: what GitHub's header says."""

    body: Mapping[str, Any]
    event: str = ""


_PLAIN: Final = ("message", "content", "body")
"""Where tools that know no Slack put their one text; the first that is one counts."""


def read(posted: Posted) -> tuple[Said, bool]:
    """What it says, and whether it calls everybody in the room. Raises `BadJson` where nothing can be made of it."""
    body = posted.body
    if posted.event:
        said, rings = github.message(posted.event, body), False
    elif alerts.is_alerts(body):
        said, rings = alerts.message(body), False
    elif slack.is_slack(body):
        said, rings = slack.message(body), slack.rings(body)
    else:
        said, rings = next((text(body[key]) for key in _PLAIN if clean(body.get(key))), text("")), False
    if not said:
        raise BadJson(
            "Nothing in the body says anything: `text`, `blocks`, `attachments` or `alerts` are expected"
        )
    return said, rings
