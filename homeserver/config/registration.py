"""Who may make an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from homeserver.config import checks
from homeserver.config.base import Section
from homeserver.config.server import BaseUrl

Step = Literal["dummy", "token", "email", "recaptcha", "terms"]


class Recaptcha(Section):
    """The puzzle that keeps robots out."""

    site_key: str
    """Shown to clients."""

    secret_key: SecretStr
    """For the verification."""

    verify_url: BaseUrl = "https://www.google.com/recaptcha/api/siteverify"
    """Who is asked whether the answer was right."""


class Policy(Section):
    """A text people agree to when they register."""

    version: str
    """Changes with the text."""

    languages: dict[str, PolicyText] = Field(min_length=1)
    """By language code: en, de, …"""


class PolicyText(Section):
    """A policy in one language."""

    name: str
    """Its title."""

    url: BaseUrl
    """Where it can be read."""


class RegistrationSection(Section):
    """Who may make an account. An administrator always can: atrium user create."""

    enabled: bool = False
    """Whether people can register by themselves."""

    flows: tuple[tuple[Step, ...], ...] = (("token",),)
    """What a person has to do, one list per way to do it: token (a registration token an administrator made), email
    (prove an address; needs mail), recaptcha, terms (agree to the policies), dummy (nothing)."""

    email_domains: tuple[Annotated[str, AfterValidator(checks.domain)], ...] = Field(
        default=(), examples=[["example.com"]]
    )
    """Whose e-mail addresses can be used to register, by the part after the @; left out: everybody's."""

    open_without_checks: bool = False
    """Must be true for a way that consists of dummy alone: anybody, robots too, could make accounts then."""

    guests: bool = False
    """Whether people may look around without an account."""

    shared_secret: SecretStr | None = None
    """Lets programs that know it create accounts (register_new_matrix_user, bridges)."""

    recaptcha: Recaptcha | None = None
    """Needed where a way says recaptcha."""

    policies: dict[str, Policy] = Field(default_factory=dict)
    """What terms asks to agree to, by name: privacy, terms, …"""

    autojoin_rooms: tuple[Annotated[str, AfterValidator(checks.room_alias)], ...] = ()
    """Aliases of rooms that new accounts join."""

    inhibit_login_by_default: bool = False
    """Whether registering gives no access token unless asked for."""

    reserved_names: Annotated[
        tuple[Annotated[str, AfterValidator(checks.regular_expression)], ...], AfterValidator(checks.together)
    ] = ()
    """User names nobody can register, as regular expressions that must match the whole local part."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """What does not fit together, as (option, sentence)."""
        if not self.enabled:
            return
        if not self.flows or any(not flow for flow in self.flows):
            yield "flows", "at least one way, with at least one step, is needed (or enabled: false)"
        elif not self.open_without_checks and any(set(flow) <= {"dummy", "terms"} for flow in self.flows):
            yield (
                "flows",
                "a way without a check lets robots in; if you mean it, say open_without_checks: true",
            )
        if self.recaptcha is None and any("recaptcha" in flow for flow in self.flows):
            yield "recaptcha", "needed, because a way says recaptcha"
        if not self.policies and any("terms" in flow for flow in self.flows):
            yield "policies", "needed, because a way says terms"


Policy.model_rebuild()
