"""What GitHub posts (`X-GitHub-Event` says what it is; Gitea and Forgejo post the same). Pure.

https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeserver.hooks.message import Said, bold, clean, code, joined, lines, link, quoted, text
from homeserver.hooks.slack import objects

MAX_COMMITS: Final = 10
MAX_EXCERPT: Final = 500
"""Characters of somebody's words that are shown."""

Payload = Mapping[str, Any]


def message(event: str, body: Payload) -> Said:
    """A line that says who did what, where; what is not known by name is told in general."""
    known = _EVENTS.get(event)
    said = known(body) if known is not None else _general(event, body)
    return joined([_repository(body), said], ": ")


def _of(body: Payload, *path: str) -> Any:
    """What stands at a path; None where nothing does."""
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _repository(body: Payload) -> Said:
    name = text(_of(body, "repository", "full_name") or _of(body, "organization", "login"))
    return bold(link(_of(body, "repository", "html_url"), name))


def _sender(body: Payload) -> Said:
    return text(_of(body, "sender", "login") or _of(body, "sender", "username") or "somebody")


def _action(body: Payload) -> Said:
    return text(clean(body.get("action")).replace("_", " "))


def _numbered(found: object) -> Said:
    """An issue or a pull request as a link."""
    raw = found if isinstance(found, Mapping) else {}
    label = joined([text(f"#{clean(raw.get('number'))}"), text(raw.get("title"))], " ")
    return link(raw.get("html_url"), label)


def _excerpt(value: object) -> Said:
    words = clean(value)
    return quoted(text(words[:MAX_EXCERPT] + ("…" if len(words) > MAX_EXCERPT else "")))


def _push(body: Payload) -> Said:
    branch = clean(body.get("ref")).removeprefix("refs/heads/").removeprefix("refs/tags/")
    commits = body["commits"] if isinstance(body.get("commits"), list) else []
    if body.get("deleted") is True:
        return joined([_sender(body), text("deleted"), code(branch)])
    forced = "force-pushed" if body.get("forced") is True else "pushed"
    what = f"{len(commits)} commit{'' if len(commits) == 1 else 's'} to"
    head = joined([_sender(body), text(forced), link(body.get("compare"), text(what)), code(branch)])
    shown = [_commit(each) for each in objects(commits, MAX_COMMITS)]
    more = text(f"… and {len(commits) - len(shown)} more" if len(commits) > len(shown) else "")
    return joined([head, quoted(lines([*shown, more]))], "\n", "")


def _commit(raw: Payload) -> Said:
    subject = clean(raw.get("message")).partition("\n")[0]
    return joined([link(raw.get("url"), code(clean(raw.get("id"))[:8])), text(subject)])


def _pull_request(body: Payload) -> Said:
    action = _action(body)
    if body.get("action") == "closed" and _of(body, "pull_request", "merged") is True:
        action = text("merged")
    head = joined([_sender(body), action, text("pull request"), _numbered(body.get("pull_request"))])
    words = _of(body, "pull_request", "body") if body.get("action") == "opened" else None
    return joined([head, _excerpt(words)], "\n", "")


def _issue(body: Payload) -> Said:
    head = joined([_sender(body), _action(body), text("issue"), _numbered(body.get("issue"))])
    words = _of(body, "issue", "body") if body.get("action") == "opened" else None
    return joined([head, _excerpt(words)], "\n", "")


def _comment(body: Payload) -> Said:
    where = body.get("issue") or body.get("pull_request")
    comment = link(_of(body, "comment", "html_url"), text("commented"))
    head = joined([_sender(body), comment, text("on"), _numbered(where)])
    return joined([head, _excerpt(_of(body, "comment", "body"))], "\n", "")


def _review(body: Payload) -> Said:
    state = clean(_of(body, "review", "state")).replace("_", " ") or "reviewed"
    verdict = link(_of(body, "review", "html_url"), text(state))
    head = joined([_sender(body), verdict, _numbered(body.get("pull_request"))])
    return joined([head, _excerpt(_of(body, "review", "body"))], "\n", "")


def _release(body: Payload) -> Said:
    name = text(_of(body, "release", "name") or _of(body, "release", "tag_name"))
    return joined(
        [_sender(body), _action(body), text("release"), link(_of(body, "release", "html_url"), name)]
    )


def _run(body: Payload) -> Said:
    runs = [
        body[key]
        for key in ("workflow_run", "check_suite", "check_run")
        if isinstance(body.get(key), Mapping)
    ]
    run: Payload = runs[0] if runs else {}
    state = clean(run.get("conclusion") or run.get("status")).replace("_", " ")
    name = text(run.get("name") or _of(run, "app", "name") or "checks")
    return joined(
        [link(run.get("html_url"), name), text("on"), code(run.get("head_branch")), bold(text(state))]
    )


def _ref(what: str) -> Callable[[Payload], Said]:
    def said(body: Payload) -> Said:
        return joined([_sender(body), text(what), text(body.get("ref_type")), code(body.get("ref"))])

    return said


def _ping(body: Payload) -> Said:
    return text(body.get("zen") or "the webhook works")


def _general(event: str, body: Payload) -> Said:
    return joined([_sender(body), _action(body), text(clean(event).replace("_", " "))])


_EVENTS: Final[Mapping[str, Callable[[Payload], Said]]] = {
    "push": _push,
    "pull_request": _pull_request,
    "issues": _issue,
    "issue_comment": _comment,
    "commit_comment": _comment,
    "pull_request_review": _review,
    "pull_request_review_comment": _comment,
    "release": _release,
    "workflow_run": _run,
    "check_suite": _run,
    "check_run": _run,
    "create": _ref("created"),
    "delete": _ref("deleted"),
    "ping": _ping,
}
