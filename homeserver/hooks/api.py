"""The address of incoming webhooks. Who has it may post: it is the secret, and stands in no log of ours."""

from __future__ import annotations

from typing import Annotated, Any, Final

from homeserver.hooks.formats import Posted
from homeserver.hooks.service import HookService
from homeserver.hooks.types import PATH
from homeserver.matrix.errors import BadJson, TooLarge
from homeserver.web.auth import Auth
from homeserver.web.body import json_decoder
from homeserver.web.endpoint import Body, Header, Name, Path, endpoint
from homeserver.web.limits import MIB
from homeserver.web.request import RequestInfo, parse_query
from homeserver.web.response import Response

MAX_BODY: Final = MIB
MAX_FORM: Final = MIB // 4
"""Bytes of a form, whose escapes take longer to read than JSON does."""
MAX_DELIVERY_ID: Final = 256
_decode = json_decoder(dict[str, Any])

DeliveryId = Annotated[
    Header[str | None],
    Name("Idempotency-Key", "Webhook-Id", "X-GitHub-Delivery", "X-Gitea-Delivery", "X-Gitlab-Event-UUID"),
]
GitHubEvent = Annotated[Header[str | None], Name("X-GitHub-Event", "X-Gitea-Event")]


class HooksApi:
    """Posting to a room."""

    def __init__(self, hooks: HookService) -> None:
        self._hooks = hooks

    @endpoint("postWebhook", "POST", PATH + "{secret}", auth=Auth.NONE, limit=None, max_body=MAX_BODY)
    async def post(  # noqa: PLR0917  # a handler's signature is its request
        self,
        info: RequestInfo,
        secret: Path[str],
        body: Body[bytes],
        content_type: Header[str | None] = None,
        delivery_id: DeliveryId = None,
        github_event: GitHubEvent = None,
    ) -> Response:
        """Says in the hook's room what is posted, in one of the formats of docs/webhooks.md; answers `ok`, as Slack does."""
        hook = await self._hooks.known(secret, info.ip)  # nothing is read of who has no secret
        posted = Posted(_read(body, content_type or ""), (github_event or "")[:MAX_DELIVERY_ID])
        await self._hooks.post(hook, posted, None if delivery_id is None else delivery_id[:MAX_DELIVERY_ID])
        return Response(200, b"ok", content_type="text/plain; charset=utf-8")


def _read(raw: bytes, content_type: str) -> dict[str, Any]:
    """JSON, or a form that has it in `payload`. Raises `NotJson`, `BadJson`, `InvalidParam`, `TooLarge`."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        if len(raw) > MAX_FORM:
            raise TooLarge(f"A form has more than {MAX_FORM} bytes")
        try:
            payload = parse_query(raw.decode()).get("payload")
        except UnicodeDecodeError:
            payload = None
        if not payload:
            raise BadJson("The form has no field `payload`")
        raw = payload[0].encode()
    found: dict[str, Any] = _decode(raw)
    return found
