"""The page behind the link in a letter by which mails about unread messages end. Loading it does nothing: programs that scan mails
load links too. Programs that read mails end them with one request (`List-Unsubscribe=One-Click`), as RFC 8058 has it.

spec: RFC 8058
"""

from __future__ import annotations

from html import escape
from typing import Final

from homeserver.landing.words import language_of
from homeserver.push.mail.service import PAGE, MailDigests
from homeserver.push.mail.words import Words, words_for
from homeserver.web.endpoint import Auth, Body, Form, Header, Query, endpoint
from homeserver.web.page import Branding, page
from homeserver.web.response import Html

MAX_BODY: Final = 4096


class UnsubscribePage:
    """A question with one button."""

    def __init__(self, mails: MailDigests, branding: Branding) -> None:
        self._mails = mails
        self._branding = branding

    @endpoint("unsubscribePage", "GET", PAGE, auth=Auth.NONE, limit="ui_auth")
    async def ask(self, token: Query[str] = "", accept_language: Header[str] = "") -> Html:
        """Asks whether mails shall end."""
        pusher = await self._mails.subscription(token)
        if pusher is None:
            return self._gone(accept_language)
        words = words_for(pusher.details.lang)
        asked = words.page_ask.format(name=self._branding.name, address=pusher.pushkey)
        inner = (
            f"<p>{escape(asked)}</p>"
            f'<form method="post" action="?token={escape(token)}"><button>{escape(words.page_button)}</button></form>'
            f"<p>{escape(words.page_keep)}</p>"
        )
        return self._html(words.page_title, inner, words)

    @endpoint("unsubscribe", "POST", PAGE, auth=Auth.NONE, limit="ui_auth", max_body=MAX_BODY)
    async def end(self, body: Body[Form], token: Query[str] = "", accept_language: Header[str] = "") -> Html:
        """Ends them, whatever the body says."""
        del body
        pusher = await self._mails.unsubscribe(token)
        if pusher is None:
            return self._gone(accept_language)
        words = words_for(pusher.details.lang)
        return self._html(
            words.page_done, f"<p>{escape(words.page_done_text.format(address=pusher.pushkey))}</p>", words
        )

    def _gone(self, accept_language: str) -> Html:
        words = words_for(language_of(accept_language))
        inner = f'<p class="error">{escape(words.page_gone_text)}</p>'
        return self._html(words.page_gone, inner, words, status=400)

    def _html(self, title: str, inner: str, words: Words, *, status: int = 200) -> Html:
        return Html(page(title, inner, branding=self._branding, language=words.language), status=status)
