"""Endpoints of push rules.

spec: client-server-api/#push-rules-api
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.events.push_rules import MAX_CONDITIONS, MAX_PATTERN
from homeserver.matrix.errors import InvalidParam, NotFound
from homeserver.push.defaults import ALL_KINDS, Kind, Rule
from homeserver.push.ruleset import check_actions
from homeserver.push.service import PushRuleService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint

RULES = "/_matrix/client/{v}/pushrules"
RULE = RULES + "/global/{kind}/{ruleId}"
MAX_RULE_ID = 255
MAX_BODY = 64 * 1024
"""Bytes of a rule."""


class RuleBody(msgspec.Struct):
    """A rule as a client writes it."""

    actions: list[Any]
    conditions: list[dict[str, Any]] = []
    pattern: str | None = None


class Actions(msgspec.Struct):
    """What a rule does."""

    actions: list[Any]


class Enabled(msgspec.Struct):
    """Whether it applies."""

    enabled: bool


class PushRulesApi:
    """One's own rules."""

    def __init__(self, rules: PushRuleService) -> None:
        self._rules = rules

    @endpoint("getPushRules", "GET", [RULES + "/", RULES], auth=Auth.GUEST_ALLOWED)
    async def all(self, requester: Requester) -> dict[str, dict[Kind, list[Rule]]]:
        return {"global": await self._rules.whole(requester.user_nid, requester.user_id)}

    @endpoint("getPushRulesGlobal", "GET", [RULES + "/global/", RULES + "/global"], auth=Auth.GUEST_ALLOWED)
    async def of_all_devices(self, requester: Requester) -> dict[Kind, list[Rule]]:
        return await self._rules.whole(requester.user_nid, requester.user_id)

    @endpoint(
        "getPushRulesOfKind",
        "GET",
        [RULES + "/global/{kind}/", RULES + "/global/{kind}"],
        auth=Auth.GUEST_ALLOWED,
    )
    async def of_kind(self, requester: Requester, kind: Path[str]) -> list[Rule]:
        """Of an earlier version of the specification; clients still ask."""
        rules = await self._rules.whole(requester.user_nid, requester.user_id)
        if kind not in rules:
            raise NotFound("There is no such kind of rules")
        return rules[kind]

    @endpoint("getPushRule", "GET", RULE, auth=Auth.GUEST_ALLOWED)
    async def get(self, requester: Requester, kind: Path[str], rule_id: Path[str]) -> Rule:
        if kind not in ALL_KINDS:  # clients ask for kinds of rules that came later
            raise NotFound("There is no such rule")
        rules = await self._rules.ruleset(requester.user_nid)
        return rules.find(requester.user_id, kind, rule_id)

    @endpoint("setPushRule", "PUT", RULE, auth=Auth.USER, when_suspended=True, max_body=MAX_BODY)
    async def put(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        kind: Path[Kind],
        rule_id: Path[str],
        body: Body[RuleBody],
        before: Query[str | None] = None,
        after: Query[str | None] = None,
    ) -> None:
        rule = _rule(kind, rule_id, body)
        await self._rules.change(requester, lambda rules: rules.put(kind, rule, before=before, after=after))

    @endpoint("deletePushRule", "DELETE", RULE, auth=Auth.USER, when_suspended=True)
    async def delete(self, requester: Requester, kind: Path[Kind], rule_id: Path[str]) -> None:
        await self._rules.change(requester, lambda rules: rules.delete(kind, rule_id))

    @endpoint("getPushRuleActions", "GET", RULE + "/actions", auth=Auth.GUEST_ALLOWED)
    async def actions(self, requester: Requester, kind: Path[Kind], rule_id: Path[str]) -> Actions:
        rules = await self._rules.ruleset(requester.user_nid)
        return Actions(rules.find(requester.user_id, kind, rule_id)["actions"])

    @endpoint(
        "setPushRuleActions",
        "PUT",
        RULE + "/actions",
        auth=Auth.USER,
        when_suspended=True,
        max_body=MAX_BODY,
    )
    async def put_actions(
        self, requester: Requester, kind: Path[Kind], rule_id: Path[str], body: Body[Actions]
    ) -> None:
        check_actions(body.actions)
        await self._rules.change(
            requester, lambda rules: rules.change(requester.user_id, kind, rule_id, actions=body.actions)
        )

    @endpoint("isPushRuleEnabled", "GET", RULE + "/enabled", auth=Auth.GUEST_ALLOWED)
    async def enabled(self, requester: Requester, kind: Path[Kind], rule_id: Path[str]) -> Enabled:
        rules = await self._rules.ruleset(requester.user_nid)
        return Enabled(rules.find(requester.user_id, kind, rule_id)["enabled"])

    @endpoint("setPushRuleEnabled", "PUT", RULE + "/enabled", auth=Auth.USER, when_suspended=True)
    async def put_enabled(
        self, requester: Requester, kind: Path[Kind], rule_id: Path[str], body: Body[Enabled]
    ) -> None:
        await self._rules.change(
            requester, lambda rules: rules.change(requester.user_id, kind, rule_id, enabled=body.enabled)
        )


def _rule(kind: Kind, rule_id: str, body: RuleBody) -> Rule:
    """Raises `InvalidParam` (PUSH-11)."""
    if kind == "postcontent":  # spec: MSC4306
        raise InvalidParam("kind: of this kind there are no rules of one's own")
    if (
        not rule_id
        or rule_id.startswith(".")
        or "/" in rule_id
        or "\\" in rule_id
        or len(rule_id) > MAX_RULE_ID
    ):
        raise InvalidParam("ruleId: must not begin with a dot, nor contain / or \\")
    check_actions(body.actions)
    rule: Rule = {"rule_id": rule_id, "default": False, "enabled": True, "actions": body.actions}
    if kind in ("override", "underride"):
        _check_conditions(body.conditions)
        rule["conditions"] = body.conditions
    elif kind == "content":
        if body.pattern is None:
            raise InvalidParam("pattern: a content rule needs one")
        _check_length(body.pattern, "pattern")
        rule["pattern"] = body.pattern
    return rule


def _check_conditions(conditions: list[dict[str, Any]]) -> None:
    """What rules cannot be asked is refused here rather than kept and passed over. Raises `InvalidParam`."""
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidParam(f"conditions: more than {MAX_CONDITIONS}")
    for number, condition in enumerate(conditions):
        if not isinstance(condition.get("kind"), str):
            raise InvalidParam(f"conditions[{number}].kind: not a string")
        for name in ("key", "pattern"):
            _check_length(condition.get(name), f"conditions[{number}].{name}")


def _check_length(text: object, where: str) -> None:
    if isinstance(text, str) and len(text) > MAX_PATTERN:
        raise InvalidParam(f"{where}: more than {MAX_PATTERN} characters")
