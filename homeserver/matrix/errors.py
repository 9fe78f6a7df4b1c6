"""Every error a client or server can be told: one class per errcode, raised where it is known, turned into HTTP in `web/errors.py`.

spec: client-server-api/#standard-error-response
"""

from __future__ import annotations

from typing import Any, ClassVar


class MatrixError(Exception):
    """An answer that says no: HTTP status, `errcode`, a sentence for people, and declared extra fields.

    `error` must never carry secrets or message content: it goes to the client and to the log.
    """

    status: ClassVar[int] = 400
    errcode: ClassVar[str] = "M_UNKNOWN"

    def __init__(self, error: str, *, status: int | None = None, **fields: Any) -> None:
        super().__init__(error)
        self.error = error
        self.http_status = status or self.status
        self.fields = fields
        self.headers: dict[str, str] = {}

    def to_json(self) -> dict[str, Any]:
        """The standard error response: `{"errcode", "error", …declared fields}`."""
        return {"errcode": self.errcode, "error": self.error, **self.fields}


# --- the request could not be read -------------------------------------------------------------------------------


class NotJson(MatrixError):
    errcode = "M_NOT_JSON"


class BadJson(MatrixError):
    errcode = "M_BAD_JSON"


class MissingParam(MatrixError):
    errcode = "M_MISSING_PARAM"


class InvalidParam(MatrixError):
    errcode = "M_INVALID_PARAM"


class TooLarge(MatrixError):
    status = 413
    errcode = "M_TOO_LARGE"


class Unrecognized(MatrixError):
    """404 for an unknown path; pass `status=405` for a known path with another method."""

    status = 404
    errcode = "M_UNRECOGNIZED"


# --- who is asking -----------------------------------------------------------------------------------------------


class MissingToken(MatrixError):
    status = 401
    errcode = "M_MISSING_TOKEN"


class UnknownToken(MatrixError):
    """Pass `soft_logout=True` when the device and its keys survive. spec: client-server-api/#soft-logout"""

    status = 401
    errcode = "M_UNKNOWN_TOKEN"


class Unauthorized(MatrixError):
    status = 401
    errcode = "M_UNAUTHORIZED"


class UserLocked(MatrixError):
    status = 401
    errcode = "M_USER_LOCKED"


class UserSuspended(MatrixError):
    status = 403
    errcode = "M_USER_SUSPENDED"


class UserDeactivated(MatrixError):
    status = 403
    errcode = "M_USER_DEACTIVATED"


class GuestAccessForbidden(MatrixError):
    status = 403
    errcode = "M_GUEST_ACCESS_FORBIDDEN"


class Forbidden(MatrixError):
    status = 403
    errcode = "M_FORBIDDEN"


class LimitExceeded(MatrixError):
    """spec: client-server-api/#rate-limiting: `Retry-After` in whole seconds, `retry_after_ms` as the deprecated copy."""

    status = 429
    errcode = "M_LIMIT_EXCEEDED"

    def __init__(self, retry_after_ms: int, error: str = "Too many requests") -> None:
        super().__init__(error, retry_after_ms=retry_after_ms)
        self.headers["Retry-After"] = str(max(1, -(-retry_after_ms // 1000)))


# --- the thing asked for -----------------------------------------------------------------------------------------


class NotFound(MatrixError):
    status = 404
    errcode = "M_NOT_FOUND"


class Unknown(MatrixError):
    """What has no errcode of its own in the specification."""


class ServerFault(MatrixError):
    """We failed, not the caller. The text never carries details; those are in the log under the request id."""

    status = 500
    errcode = "M_UNKNOWN"


class Unavailable(MatrixError):
    """For the moment only: shutting down, or a queue that is full."""

    status = 503
    errcode = "M_UNKNOWN"


class ResourceLimitExceeded(MatrixError):
    status = 403
    errcode = "M_RESOURCE_LIMIT_EXCEEDED"


class UserLimitExceeded(MatrixError):
    status = 403
    errcode = "M_USER_LIMIT_EXCEEDED"


# --- accounts ----------------------------------------------------------------------------------------------------


class UserInUse(MatrixError):
    errcode = "M_USER_IN_USE"


class InvalidUsername(MatrixError):
    errcode = "M_INVALID_USERNAME"


class Exclusive(MatrixError):
    errcode = "M_EXCLUSIVE"


class WeakPassword(MatrixError):
    errcode = "M_WEAK_PASSWORD"


class CaptchaNeeded(MatrixError):
    errcode = "M_CAPTCHA_NEEDED"


class CaptchaInvalid(MatrixError):
    errcode = "M_CAPTCHA_INVALID"


class ThreepidInUse(MatrixError):
    errcode = "M_THREEPID_IN_USE"


class ThreepidNotFound(MatrixError):
    errcode = "M_THREEPID_NOT_FOUND"


class ThreepidDenied(MatrixError):
    status = 403
    errcode = "M_THREEPID_DENIED"


class ThreepidAuthFailed(MatrixError):
    errcode = "M_THREEPID_AUTH_FAILED"


class ThreepidMediumNotSupported(MatrixError):
    errcode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"


class ServerNotTrusted(MatrixError):
    errcode = "M_SERVER_NOT_TRUSTED"


class UnknownDevice(MatrixError):
    errcode = "M_UNKNOWN_DEVICE"


class ProfileTooLarge(MatrixError):
    errcode = "M_PROFILE_TOO_LARGE"


class KeyTooLarge(MatrixError):
    errcode = "M_KEY_TOO_LARGE"


# --- rooms -------------------------------------------------------------------------------------------------------


class RoomInUse(MatrixError):
    errcode = "M_ROOM_IN_USE"


class InvalidRoomState(MatrixError):
    errcode = "M_INVALID_ROOM_STATE"


class UnsupportedRoomVersion(MatrixError):
    errcode = "M_UNSUPPORTED_ROOM_VERSION"


class IncompatibleRoomVersion(MatrixError):
    """Carries `room_version`."""

    errcode = "M_INCOMPATIBLE_ROOM_VERSION"


class BadState(MatrixError):
    errcode = "M_BAD_STATE"


class BadAlias(MatrixError):
    errcode = "M_BAD_ALIAS"


class DuplicateAnnotation(MatrixError):
    errcode = "M_DUPLICATE_ANNOTATION"


class InviteBlocked(MatrixError):
    status = 403
    errcode = "M_INVITE_BLOCKED"


class CannotLeaveServerNoticeRoom(MatrixError):
    status = 403
    errcode = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"


class UnableToAuthoriseJoin(MatrixError):
    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"


class UnableToGrantJoin(MatrixError):
    errcode = "M_UNABLE_TO_GRANT_JOIN"


# --- keys and media ----------------------------------------------------------------------------------------------


class InvalidSignature(MatrixError):
    errcode = "M_INVALID_SIGNATURE"


class WrongRoomKeysVersion(MatrixError):
    """Carries `current_version`."""

    status = 403
    errcode = "M_WRONG_ROOM_KEYS_VERSION"


class NotYetUploaded(MatrixError):
    status = 504
    errcode = "M_NOT_YET_UPLOADED"


class CannotOverwriteMedia(MatrixError):
    status = 409
    errcode = "M_CANNOT_OVERWRITE_MEDIA"
