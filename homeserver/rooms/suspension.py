"""Suspended users take back what they said, and nothing others said, whatever their power level.

Everything else that they may not do is refused before it reaches a handler (`web/admission.py`): only here it depends on
whose event it is.

spec: client-server-api/#account-suspension (ACC-03)
"""

from __future__ import annotations

from homeserver.matrix.errors import UserSuspended
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict


async def _decide(act: Act) -> Verdict:
    if act.requester is not None and act.requester.suspended and act.target != act.actor:
        return Refuse(UserSuspended("This account is suspended: it may take back its own messages only"))
    return ALLOW


CHECK = Check(name="rooms.suspension", kinds={Kind.REDACTION}, decide=_decide, when_failing="refuse")
