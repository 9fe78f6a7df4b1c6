"""Pages for stages a client does not know, and a page to log in with for clients that know no login type.

spec: client-server-api/#fallback, #login-fallback (CHECKLIST AUTH-07, AUTH-17)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any, Final, Protocol

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
from homeserver.uia.recaptcha import RECAPTCHA
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


_PUZZLE: Final = "https://www.google.com/recaptcha/"
_PUZZLE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    f"script-src {_PUZZLE} https://www.gstatic.com/recaptcha/; frame-src {_PUZZLE} https://recaptcha.google.com/recaptcha/; "
    f"connect-src {_PUZZLE}"
)
"""What https://developers.google.com/recaptcha/docs/faq asks for, and nothing else."""


class ProofByMail(Protocol):
    """Fulfilled by threepids."""

    async def send(self, operation: str, address: str, ip: str) -> Mapping[str, str]:
        """Have a mail with a link sent. Returns what proves the address once the link was followed: `sid` and
        `client_secret`. Raises a `MatrixError`.
        """
        ...


class FallbackApi:
    """Pages for people, where their client has none."""

    def __init__(
        self, uia: Uia, policies: Mapping[str, Policy], branding: Branding, mail: ProofByMail
    ) -> None:
        self._uia = uia
        self._branding = branding
        self._policies = policies
        self._mail = mail

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
        return self._form(auth_type, {"session": session}, "")

    @endpoint("authFallbackSubmit", "POST", _PATH, auth=Auth.NONE, limit="ui_auth")
    async def submit(self, auth_type: Path[str], body: Body[Form], info: RequestInfo) -> Html:
        """What a person sent from that page."""
        fields = {name: values[0] for name, values in body.items() if values}
        session = fields.pop("session", None)
        if session is None:
            raise MissingParam("Missing form field: session")
        try:
            found = await self._uia.find(session)
        except Unknown as over:
            return self._over(over, info.headers.get("Accept", ""))
        hidden = {"session": session}
        try:
            if auth_type == stages.EMAIL and self._uia.can(auth_type):
                if "email" in fields:
                    hidden |= await self._mail.send(found.operation, fields["email"], info.ip)
                    return self._form(auth_type, hidden, "")
                hidden |= {name: fields[name] for name in ("sid", "client_secret") if name in fields}
            await self._uia.prove(session, auth_type, _proof(auth_type, fields), info.ip)
        except (LimitExceeded, Unavailable):
            raise
        except MatrixError as failure:
            return self._form(auth_type, hidden, failure.error)
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

    def _form(self, auth_type: str, hidden: Mapping[str, str], error: str) -> Html:
        title, inner = self._mailed(hidden) if auth_type == stages.EMAIL else self._inner(auth_type)
        trouble = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
        sent = "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in hidden.items()
        )
        text = page(
            title,
            f'{trouble}<form method="post">{sent}{inner}<button>Continue</button></form>',
            branding=self._branding,
        )
        return Html(text, policy=_PUZZLE_POLICY) if auth_type == RECAPTCHA else Html(text)

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
                "<p>Your app asks you to confirm that it is you.</p>"
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
        if auth_type == RECAPTCHA and self._uia.can(auth_type):
            key = escape(str(self._uia.params(auth_type).get("public_key", "")))
            return "Are you a person?", (
                "<p>Solve the puzzle, then continue. If none appears, your browser cannot reach the service "
                "that it comes from.</p>"
                f'<div class="g-recaptcha" data-sitekey="{key}"></div>'
                f'<script src="{_PUZZLE}api.js" async defer></script>'
                "<noscript><p>This step needs JavaScript.</p></noscript>"
            )
        return "Continue", ""

    @staticmethod
    def _mailed(hidden: Mapping[str, str]) -> tuple[str, str]:
        if "sid" in hidden:
            return "Look at your mail", (
                "<p>A mail is on its way to you. Follow the link in it, then come back here and continue.</p>"
            )
        return "Your e-mail address", (
            '<label for="email">We send you a mail with a link</label>'
            '<input id="email" name="email" type="email" autocomplete="email" maxlength="500" required>'
        )


def _proof(auth_type: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
    """What a client would send, of what a form has."""
    if auth_type == RECAPTCHA:
        return {"response": fields.get("g-recaptcha-response", "")}
    if auth_type == stages.EMAIL:
        return {"threepid_creds": fields}
    return fields


def _link(policy: Policy) -> str:
    text = policy.languages.get("en") or next(iter(policy.languages.values()))
    return f'<li><a href="{escape(text.url)}" target="_blank" rel="noopener noreferrer">{escape(text.name)}</a></li>'


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; script-src 'sha256-{digest}'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
