"""Which authenticated users an endpoint lets in, and where a request carries its token.

spec: client-server-api/#using-access-tokens
"""

from __future__ import annotations

import msgspec
from aiohttp import hdrs

from homeserver.matrix.errors import Forbidden, GuestAccessForbidden, MissingToken, UserLocked, UserSuspended
from homeserver.web.auth import AdminRequester, Auth, Requester
from homeserver.web.endpoint import Endpoint
from homeserver.web.request import RequestInfo


def admit(endpoint: Endpoint, requester: Requester) -> Requester:
    """The requester as the handler receives it; a user whom this endpoint is not for is refused.

    Raises:
        UserLocked: spec: client-server-api/#account-locking
        UserSuspended: spec: client-server-api/#account-suspension
        GuestAccessForbidden: spec: client-server-api/#guest-access
        Forbidden: the endpoint is for administrators or appservices, or for who says which user it is (CHECKLIST AS-19).
    """
    if requester.locked and not endpoint.allow_locked:
        raise UserLocked("This account is locked", soft_logout=True)
    if requester.suspended and not endpoint.when_suspended:
        raise UserSuspended("This account is suspended: it may read, but not act")
    if requester.is_guest and endpoint.auth is not Auth.GUEST_ALLOWED and endpoint.auth is not Auth.OPTIONAL:
        raise GuestAccessForbidden("Guests may not do this")
    if endpoint.named_only and not requester.named:
        raise Forbidden("Application services say as which user they do this: ?user_id=")
    if endpoint.auth is Auth.ADMIN and not requester.is_admin:
        raise Forbidden("You are not a server administrator")
    if endpoint.auth is Auth.APPSERVICE and requester.appservice_id is None:
        raise Forbidden("Only application services may do this")
    if endpoint.auth is Auth.ADMIN:
        return AdminRequester(**msgspec.structs.asdict(requester))
    return requester


def access_token(info: RequestInfo) -> str | None:
    """The token of a request: from `Authorization: Bearer`, else from `?access_token=`.

    spec: client-server-api/#using-access-tokens (CHECKLIST API-13). Raises `MissingToken` for another scheme.
    """
    header = info.headers.get(hdrs.AUTHORIZATION)
    if header is not None:
        if header.startswith("Bearer ") and (token := header[7:].strip()):
            return token
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MissingToken("The Authorization header is not of the form: Bearer <token>")
        return token
    if "access_token=" in info.uri:
        return info.query_value("access_token") or None
    return None
