"""What can go wrong for a bot."""

from __future__ import annotations


class BotError(Exception):
    """Whatever the SDK raises."""


class Refused(BotError):
    """The homeserver has understood and says no. spec: client-server-api/#standard-error-response"""

    def __init__(self, status: int, errcode: str, error: str) -> None:
        super().__init__(f"{errcode}: {error}")
        self.status = status
        self.errcode = errcode
        self.error = error


class Unreachable(BotError):
    """The homeserver has not answered for so long that the handler is given up; the event is answered later."""


class BadArguments(BotError):
    """What follows a command is not what it takes; the text is told to whoever gave it."""


class NotConfigured(BotError):
    """The bot cannot run so: a registration that is none, a second process on the same data, an extra that is missing."""
