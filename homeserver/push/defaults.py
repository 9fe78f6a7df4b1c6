"""The server's default push rules, as data.

spec: client-server-api/#predefined-rules (PUSH-03, PUSH-04)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from homeserver.matrix.ids import UserId

Kind = Literal["override", "content", "postcontent", "room", "sender", "underride"]
KINDS: tuple[Kind, ...] = ("override", "content", "room", "sender", "underride")
ALL_KINDS: tuple[Kind, ...] = ("override", "content", "postcontent", "room", "sender", "underride")
"""With the kind of the rules for threads (MSC4306), of which users make none of their own."""
MASTER = ".m.rule.master"
UNSUBSCRIBED_THREAD = ".io.element.msc4306.rule.unsubscribed_thread"
SUBSCRIBED_THREAD = ".io.element.msc4306.rule.subscribed_thread"

_NOTIFY = "notify"
_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT = {"set_tweak": "highlight"}

Rule = dict[str, Any]


def _match(key: str, pattern: str) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _rule(rule_id: str, conditions: list[dict[str, Any]], *actions: Any, enabled: bool = True) -> Rule:
    return {
        "rule_id": rule_id,
        "default": True,
        "enabled": enabled,
        "conditions": conditions,
        "actions": list(actions),
    }


def _override(user_id: UserId) -> Iterator[Rule]:
    yield _rule(MASTER, [], enabled=False)
    yield _rule(".m.rule.suppress_notices", [_match("content.msgtype", "m.notice")])
    invite = [
        _match("type", "m.room.member"),
        _match("content.membership", "invite"),
        _match("state_key", user_id),
    ]
    yield _rule(".m.rule.invite_for_me", invite, _NOTIFY, _SOUND)
    yield _rule(".m.rule.member_event", [_match("type", "m.room.member")])
    mention = {"kind": "event_property_contains", "key": "content.m\\.mentions.user_ids", "value": user_id}
    yield _rule(".m.rule.is_user_mention", [mention], _NOTIFY, _SOUND, _HIGHLIGHT)
    room = {"kind": "event_property_is", "key": "content.m\\.mentions.room", "value": True}
    permission = {"kind": "sender_notification_permission", "key": "room"}
    yield _rule(".m.rule.is_room_mention", [room, permission], _NOTIFY, _HIGHLIGHT)
    tombstone = [_match("type", "m.room.tombstone"), _match("state_key", "")]
    yield _rule(".m.rule.tombstone", tombstone, _NOTIFY, _HIGHLIGHT)
    yield _rule(".m.rule.reaction", [_match("type", "m.reaction")])
    yield _rule(".m.rule.room.server_acl", [_match("type", "m.room.server_acl"), _match("state_key", "")])
    edit = {"kind": "event_property_is", "key": "content.m\\.relates_to.rel_type", "value": "m.replace"}
    yield _rule(".m.rule.suppress_edits", [edit])


def _underride() -> Iterator[Rule]:
    two = {"kind": "room_member_count", "is": "2"}
    yield _rule(".m.rule.call", [_match("type", "m.call.invite")], _NOTIFY, _RING)
    encrypted, message = _match("type", "m.room.encrypted"), _match("type", "m.room.message")
    yield _rule(".m.rule.encrypted_room_one_to_one", [two, encrypted], _NOTIFY, _SOUND)
    yield _rule(".m.rule.room_one_to_one", [two, message], _NOTIFY, _SOUND)
    yield _rule(".m.rule.message", [message], _NOTIFY)
    yield _rule(".m.rule.encrypted", [encrypted], _NOTIFY)


def default_rules(user_id: UserId) -> dict[Kind, list[Rule]]:
    """Fresh copies of all default rules, by kind, in order."""
    return {
        "override": list(_override(user_id)),
        "content": [],
        "room": [],
        "sender": [],
        "underride": list(_underride()),
    }


def thread_rules() -> list[Rule]:
    """For who subscribes to threads: of others they hear only where they are mentioned. Of the kind `postcontent`. spec: MSC4306"""
    unsubscribed, subscribed = (
        {"kind": "io.element.msc4306.thread_subscription", "subscribed": value} for value in (False, True)
    )
    return [
        _rule(UNSUBSCRIBED_THREAD, [unsubscribed]),
        _rule(SUBSCRIBED_THREAD, [subscribed], _NOTIFY, _SOUND),
    ]
