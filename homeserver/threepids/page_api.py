"""The page behind the link in a mail. Loading it does nothing: programs that scan mails load links too.

spec: identity-service-api/#email-associations describes such a page; where it is, is the server's own choice
"""

from __future__ import annotations

from html import escape
from typing import Final

from homeserver.threepids.outgoing import PAGE
from homeserver.threepids.types import Confirmed, Purpose
from homeserver.threepids.validation import ValidationService
from homeserver.web.endpoint import Auth, Body, Form, Query, endpoint
from homeserver.web.page import Branding, page
from homeserver.web.response import Html

_ASKED: Final[dict[Purpose, tuple[str, str]]] = {
    "register": ("Confirm your e-mail address", "You are making an account with the address {address}."),
    "add": ("Confirm your e-mail address", "You are adding the address {address} to your account."),
    "reset": (
        "Set a new password",
        "You are setting a new password for the account with the address {address}.",
    ),
}
_DONE: Final[dict[Purpose, str]] = {
    "register": "Your address is confirmed. You can close this page and go on where you were registering.",
    "add": "Your address is confirmed. You can close this page and go back to your settings.",
    "reset": "Confirmed. You can close this page and go on where you asked for a new password.",
}


class ConfirmationPage:
    """A question with one button."""

    def __init__(self, validation: ValidationService, branding: Branding) -> None:
        self._validation = validation
        self._branding = branding

    @endpoint("confirmEmailPage", "GET", PAGE, auth=Auth.NONE, limit="ui_auth")
    async def ask(self, token: Query[str]) -> Html:
        """Asks whether it was really you."""
        found = await self._validation.look(token)
        if found is None:
            return self._gone()
        title, text = _ASKED[found.purpose]
        return Html(
            page(
                title,
                f"<p>{escape(text.format(address=found.address))}</p>"
                f'<form method="post"><input type="hidden" name="token" value="{escape(token)}">'
                "<button>Confirm</button></form><p>If this was not you, close this page.</p>",
                branding=self._branding,
            )
        )

    @endpoint("confirmEmail", "POST", PAGE, auth=Auth.NONE, limit="ui_auth")
    async def confirm(self, body: Body[Form]) -> Html:
        """It was."""
        tokens = body.get("token") or [""]
        found = await self._validation.confirm(tokens[0])
        return self._gone() if found is None else self._done(found)

    def _done(self, found: Confirmed) -> Html:
        further = ""
        if found.next_link is not None and self._validation.may_lead_to(found.next_link):
            further = f'<p><a href="{escape(found.next_link)}">Continue</a></p>'
        return Html(page("Thank you", f"<p>{_DONE[found.purpose]}</p>{further}", branding=self._branding))

    def _gone(self) -> Html:
        text = (
            "This link was used already, or it has expired. Ask for a new mail where you asked for this one."
        )
        inner = f'<p class="error">{text}</p>'
        return Html(page("This link does not work", inner, branding=self._branding), status=400)
