"""The puzzle that keeps robots out.

spec: client-server-api/#google-recaptcha (CHECKLIST AUTH-06)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog
from typing_extensions import override

from homeserver.config.registration import Recaptcha
from homeserver.matrix.errors import BadJson, CaptchaInvalid, CaptchaNeeded, Unavailable
from homeserver.uia.service import UiaRequest
from homeserver.uia.stages import BaseStage
from homeserver.web.outbound import HttpRequest, Outbound, OutboundError, Purpose

_log = structlog.get_logger("atrium.auth")

RECAPTCHA: Final = "m.login.recaptcha"
TIMEOUT_SECONDS: Final = 15.0
MAX_ANSWER: Final = 64 * 1024
MAX_RESPONSE: Final = 16 * 1024
"""Characters of what a client sends as the solution."""


class _Verdict(msgspec.Struct):
    success: bool


class RecaptchaStage(BaseStage):
    """Asks the verifier whether the solution is right. It can be asked once per solution, so success is written down."""

    type = RECAPTCHA
    kept = True

    def __init__(self, config: Recaptcha, outbound: Outbound) -> None:
        self._config = config
        self._outbound = outbound

    @override
    def params(self) -> Mapping[str, Any]:
        return {"public_key": self._config.site_key}

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        solution = auth.get("response")
        if solution is None or solution == "":
            raise CaptchaNeeded("The puzzle has not been solved")
        if not isinstance(solution, str) or len(solution) > MAX_RESPONSE:
            raise BadJson("auth.response: not a string, or too long a one")
        if not await self._is_right(solution, request.ip):
            raise CaptchaInvalid("The solution of the puzzle is not right")
        return ""

    async def _is_right(self, solution: str, ip: str) -> bool:
        form = {"secret": self._config.secret_key.get_secret_value(), "response": solution, "remoteip": ip}
        request = HttpRequest(
            method="POST",
            url=self._config.verify_url,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            max_bytes=MAX_ANSWER,
            timeout=TIMEOUT_SECONDS,
        )
        try:
            answer = await self._outbound.request(Purpose.IDENTITY, request)
            return msgspec.json.decode(answer.body, type=_Verdict).success
        except (OutboundError, msgspec.DecodeError) as error:
            # Not the person's fault, and no reason to let anybody in.
            _log.warning("captcha_verifier_failed", error=str(error))
            raise Unavailable("The puzzle cannot be verified at the moment, try again") from error
