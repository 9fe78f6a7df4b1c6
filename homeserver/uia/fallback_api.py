"""Pages for stages a client does not know, and a page to log in with for clients that know no login type.

spec: client-server-api/#fallback, #login-fallback (CHECKLIST AUTH-07, AUTH-17)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final

from homeserver.config.registration import Policy
from homeserver.matrix.errors import (
    InvalidParam,
    LimitExceeded,
    MatrixError,
    MissingParam,
    Unavailable,
    Unknown,
)
from homeserver.uia import stages
from homeserver.uia.service import Uia
from homeserver.web.endpoint import Auth, Body, Form, Header, Path, Query, endpoint
from homeserver.web.page import Branding, page
from homeserver.web.request import RequestInfo
from homeserver.web.response import Html

_PATH: Final = "/_matrix/client/{v}/auth/{authType}/fallback/web"

_DONE: Final = (
    "if(window.onAuthDone){window.onAuthDone()}"
    'else if(window.opener&&window.opener.postMessage){window.opener.postMessage("authDone","*")}'
)
_LOGIN: Final = """
(() => {
  const form = document.querySelector("form"), error = document.querySelector(".error");
  const passed = new URLSearchParams(location.search);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    const body = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: form.user.value },
      password: form.password.value,
    };
    for (const [key, value] of passed) {
      if (!["type", "identifier", "user", "password", "token", "medium", "address"].includes(key)) {
        body[key] = value === "true" ? true : value === "false" ? false : value;
      }
    }
    try {
      const response = await fetch("../../../client/v3/login", { method: "POST", body: JSON.stringify(body) });
      const answer = await response.json();
      if (!response.ok) { error.textContent = answer.error || answer.errcode; return; }
      form.hidden = true;
      document.querySelector("h1").textContent = "You are logged in";
      if (window.matrixLogin && window.matrixLogin.onLogin) { window.matrixLogin.onLogin(answer); }
      else if (window.onLogin) { window.onLogin(answer); }
    } catch (failure) { error.textContent = "The server cannot be reached"; }
  });
})();
"""


class FallbackApi:
    """Pages for people, where their client has none."""

    def __init__(self, uia: Uia, policies: Mapping[str, Policy], branding: Branding) -> None:
        self._uia = uia
        self._branding = branding
        self._policies = policies

    @endpoint("authFallback", "GET", _PATH, auth=Auth.NONE, limit="ui_auth")
    async def show(self, auth_type: Path[str], session: Query[str], accept: Header[str] = "") -> Html:
        """The page of a stage."""
        if not self._uia.can(auth_type):
            raise InvalidParam("There is no such kind of authentication here")
        try:
            found = await self._uia.find(session)
        except Unknown as over:
            return self._over(over, accept)
        if auth_type in found.completed:
            return self._done()
        return self._form(auth_type, session, "")

    @endpoint("authFallbackSubmit", "POST", _PATH, auth=Auth.NONE, limit="ui_auth")
    async def submit(self, auth_type: Path[str], body: Body[Form], info: RequestInfo) -> Html:
        """What a person sent from that page."""
        fields = {name: values[0] for name, values in body.items() if values}
        session = fields.pop("session", None)
        if session is None:
            raise MissingParam("Missing form field: session")
        try:
            await self._uia.find(session)
        except Unknown as over:
            return self._over(over, info.headers.get("Accept", ""))
        try:
            await self._uia.prove(session, auth_type, fields, info.ip)
        except (LimitExceeded, Unavailable):
            raise
        except MatrixError as failure:
            return self._form(auth_type, session, failure.error)
        return self._done()

    @endpoint("loginFallback", "GET", "/_matrix/static/client/login/", auth=Auth.NONE)
    async def login_page(self) -> Html:
        """A page to log in with (CHECKLIST AUTH-17)."""
        text = page(
            "Log in",
            '<p class="error" role="alert"></p>'
            '<form><label for="user">User name</label><input id="user" name="user" autocomplete="username" required>'
            '<label for="password">Password</label><input id="password" name="password" type="password" '
            'autocomplete="current-password" required><button>Log in</button></form>',
            _LOGIN,
            branding=self._branding,
        )
        return Html(text, policy=f"{_policy(_LOGIN)}; connect-src 'self'")

    def _form(self, auth_type: str, session: str, error: str) -> Html:
        title, inner = self._inner(auth_type)
        trouble = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
        hidden = f'<input type="hidden" name="session" value="{escape(session)}">'
        text = page(
            title,
            f'{trouble}<form method="post">{hidden}{inner}<button>Continue</button></form>',
            branding=self._branding,
        )
        return Html(text)

    def _over(self, over: Unknown, accept: str) -> Html:
        """The session has expired, or never was. A browser shows this to a person; programs are told by a standard error."""
        if "text/html" not in accept:
            raise over
        inner = "<p>This page was good for a while only. Please go back to your app and begin again.</p>"
        return Html(page("Too late", inner, branding=self._branding))

    def _done(self) -> Html:
        text = page("Done", "<p>You can close this window.</p>", _DONE, branding=self._branding)
        return Html(text, policy=_policy(_DONE))

    def _inner(self, auth_type: str) -> tuple[str, str]:
        if auth_type == stages.PASSWORD:
            return "Confirm with your password", (
                '<label for="password">Password</label>'
                '<input id="password" name="password" type="password" autocomplete="current-password" required>'
            )
        if auth_type == stages.REGISTRATION_TOKEN:
            return "Registration token", (
                '<label for="token">The token you were given</label><input id="token" name="token" required>'
            )
        if auth_type == stages.TERMS:
            shown = "".join(_link(policy) for policy in self._policies.values())
            return "Please read and agree", f"<ul>{shown}</ul><p>By continuing you agree to these terms.</p>"
        return "Continue", ""


def _link(policy: Policy) -> str:
    text = policy.languages.get("en") or next(iter(policy.languages.values()))
    return f'<li><a href="{escape(text.url)}" target="_blank" rel="noopener noreferrer">{escape(text.name)}</a></li>'


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; script-src 'sha256-{digest}'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
