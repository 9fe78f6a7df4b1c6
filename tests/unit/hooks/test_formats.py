"""What is posted to a webhook, and what is said of it (docs/webhooks.md)."""

import json
from typing import Any

import pytest

from homeserver.hooks.formats import Posted, read
from homeserver.hooks.message import MAX_CONTENT, content_of
from homeserver.hooks.mrkdwn import mrkdwn
from homeserver.matrix.errors import BadJson
from tests.support.cpu import least_cpu


def said(body: dict[str, Any], event: str = "") -> Any:
    return read(Posted(body, event))[0]


@pytest.mark.parametrize(
    ("source", "plain", "html"),
    [
        ("*bold* _it_ ~no~", "*bold* _it_ ~no~", "<strong>bold</strong> <em>it</em> <del>no</del>"),
        ("snake_case_name 2*3*4", "snake_case_name 2*3*4", "snake_case_name 2*3*4"),
        ("*_both_*", "*_both_*", "<strong><em>both</em></strong>"),
        ("a `*x*` b", "a `*x*` b", "a <code>*x*</code> b"),
        ("```a\n<b>```", "```\na\n<b>\n```", "<pre><code>a\n&lt;b&gt;\n</code></pre>"),
        (
            "<https://e.org/a?b=1&amp;c=2|the page>",
            "the page (https://e.org/a?b=1&c=2)",
            '<a href="https://e.org/a?b=1&amp;c=2">the page</a>',
        ),
        ("<https://e.org>", "https://e.org", '<a href="https://e.org">https://e.org</a>'),
        ("<javascript:alert(1)|here>", "<javascript:alert(1)|here>", "&lt;javascript:alert(1)|here&gt;"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        (
            '<https://e.org/"onclick=x|a>',
            'a (https://e.org/"onclick=x)',
            '<a href="https://e.org/&quot;onclick=x">a</a>',
        ),
        ("<https://e.org/`x`|a>", "<https://e.org/`x`|a>", "&lt;https://e.org/<code>x</code>|a&gt;"),
        ("<@U1|anna> in <#C1|ops> <!date^1^{date}|today>", "@anna in #ops today", "@anna in #ops today"),
        ("<!here> now", "@room now", "@room now"),
        ("a &lt;b&gt; &amp;amp;", "a <b> &amp;", "a &lt;b&gt; &amp;amp;"),
        ("&gt; one\n> two\nthree", "> one\n> two\nthree", "<blockquote>one<br>two</blockquote>three"),
        ("*open _too", "*open _too", "*open _too"),
        ("\x00\x07a\ud800", "a", "a"),
    ],
)
def test_markup_of_slack(source: str, plain: str, html: str) -> None:
    assert mrkdwn(source) == (plain, html)


def test_alertmanagers_receiver_for_slack() -> None:
    body = {
        "channel": "#ops",
        "username": "Alertmanager",
        "attachments": [
            {
                "title": "[FIRING:1] DiskFull",
                "title_link": "http://alerts.example/#/alerts",
                "text": "*Disk* of `db1` is full",
                "fallback": "[FIRING:1] DiskFull",
                "color": "danger",
                "fields": [{"title": "host", "value": "db1", "short": True}],
                "mrkdwn_in": ["fallback", "pretext", "text"],
            }
        ],
    }
    assert said(body).plain == (
        "[FIRING:1] DiskFull (http://alerts.example/#/alerts)\n*Disk* of `db1` is full\nhost: db1"
    )
    assert said(body).html == (
        '<blockquote><font color="#e01e5a">■</font> <a href="http://alerts.example/#/alerts">'
        "<strong>[FIRING:1] DiskFull</strong></a><br><strong>Disk</strong> of <code>db1</code> is full"
        "<br><strong>host</strong>: db1</blockquote>"
    )


def test_blocks_count_before_text() -> None:
    body = {
        "text": "what old clients show",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Deployed *3*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "to _prod_"}},
            {"type": "divider"},
            {
                "type": "rich_text",
                "elements": [
                    {
                        "type": "rich_text_section",
                        "elements": [
                            {"type": "text", "text": "by "},
                            {"type": "text", "text": "anna", "style": {"bold": True}},
                            {"type": "link", "url": "https://e.org", "text": " log"},
                        ],
                    },
                    {
                        "type": "rich_text_list",
                        "elements": [
                            {"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]}
                        ],
                    },
                ],
            },
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Open"},
                        "url": "https://e.org/o",
                    },
                    {"type": "button", "text": {"type": "plain_text", "text": "Calls back"}, "value": "x"},
                ],
            },
            {"type": "video", "what": "nobody knows"},
        ],
    }
    assert said(body).plain == (
        "Deployed *3*\nto _prod_\n———\nby anna log (https://e.org)\n• one\nOpen (https://e.org/o)"
    )
    assert "<strong>Deployed *3*</strong>" in said(body).html
    assert "<ul><li>one</li></ul>" in said(body).html


def alerts(**more: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "status": "firing",
        "externalURL": "http://am.example",
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {"alertname": "DiskFull", "severity": "page"},
        "commonAnnotations": {},
        "truncatedAlerts": 2,
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "DiskFull", "severity": "page", "host": "db1"},
                "annotations": {"summary": "<b>Disk</b> is full", "description": "97 %"},
                "generatorURL": "http://prom.example/graph",
            }
        ],
        **more,
    }


def test_alertmanagers_own_format() -> None:
    assert said(alerts()).plain == (
        "[FIRING:1] DiskFull (http://am.example)\nPAGE: <b>Disk</b> is full (http://prom.example/graph)\n"
        "97 %\nhost=db1\n… and 2 more"
    )
    assert "&lt;b&gt;Disk&lt;/b&gt;" in said(alerts()).html
    assert said(alerts(status="resolved")).plain.startswith("[RESOLVED] DiskFull")


def test_grafana_gives_a_title_and_where_to_silence() -> None:
    body = alerts(title="[FIRING:1] Disk (db1)", message="long", state="alerting", orgId=1)
    body["alerts"][0]["silenceURL"] = "http://grafana.example/silence"
    assert said(body).plain.startswith("[FIRING:1] Disk (db1) (http://am.example)\n")
    assert '<a href="http://grafana.example/silence">silence</a>' in said(body).html


REPOSITORY = {"full_name": "org/app", "html_url": "https://github.com/org/app"}
ANNA = {"login": "anna"}


@pytest.mark.parametrize(
    ("event", "body", "plain"),
    [
        (
            "push",
            {
                "ref": "refs/heads/main",
                "compare": "https://github.com/c",
                "commits": [{"id": "0123456789", "message": "Fix it\n\nlong", "url": "https://github.com/1"}],
            },
            "anna pushed 1 commit to (https://github.com/c) main\n01234567 (https://github.com/1) Fix it",
        ),
        (
            "pull_request",
            {
                "action": "closed",
                "pull_request": {
                    "merged": True,
                    "number": 7,
                    "title": "Add",
                    "html_url": "https://github.com/7",
                },
            },
            "anna merged pull request #7 Add (https://github.com/7)",
        ),
        (
            "issues",
            {
                "action": "opened",
                "issue": {"number": 3, "title": "Broken", "html_url": "https://github.com/3", "body": "Why?"},
            },
            "anna opened issue #3 Broken (https://github.com/3)\nWhy?",
        ),
        (
            "workflow_run",
            {
                "workflow_run": {
                    "name": "CI",
                    "conclusion": "failure",
                    "head_branch": "main",
                    "html_url": "https://github.com/r",
                }
            },
            "CI (https://github.com/r) on main failure",
        ),
        ("ping", {"zen": "Keep it logically awesome."}, "Keep it logically awesome."),
        ("watch", {"action": "started"}, "anna started watch"),
    ],
)
def test_github(event: str, body: dict[str, Any], plain: str) -> None:
    found = said({"repository": REPOSITORY, "sender": ANNA, **body}, event).plain
    assert found == f"org/app (https://github.com/org/app): {plain}"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": 5.5, "blocks": "x"},
        {"blocks": [{"type": "actions"}]},
        {"attachments": [None, 1]},
    ],
)
def test_what_says_nothing_is_refused_or_shown_as_it_is(body: dict[str, Any]) -> None:
    if body.get("text") == 5.5:
        assert said(body).plain == "5.5"
        return
    with pytest.raises(BadJson):
        read(Posted(body))


HOSTILE = ('"', "*a", "*", "<", "`", "_ ", "<https://e.org|", "> \n", "é", "```", "&lt;")


@pytest.mark.parametrize("unit", HOSTILE)
def test_whatever_is_posted_fits_into_an_event_and_is_read_quickly(unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    many = [{"text": text, "fields": [{"title": text[:400], "value": text[:400]}] * 50}] * 16
    body = {"text": text, "attachments": many}
    content = content_of(said(body))
    assert least_cpu(lambda: content_of(said(body))) < 0.08
    assert len(json.dumps(content, ensure_ascii=False).encode()) <= MAX_CONTENT + 500
    assert content["m.mentions"] == {}


def test_everybody_is_called_only_by_slacks_own_words() -> None:
    assert read(Posted({"text": "<!here> look"}))[1]
    assert not read(Posted({"text": "@room look"}))[1]
