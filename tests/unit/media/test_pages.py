"""What pages say of themselves; odd ones too. CHECKLIST MEDIA-13."""

import time

import pytest

from homeserver.media.sandbox.pages import MAX_PAGE, decode, read_text


def test_opengraph_and_what_stands_in_for_it() -> None:
    page = read_text(
        """<!doctype html><html><head><title> A &amp; B
        page</title><!-- <meta property="og:title" content="no"> -->
        <script>var x = '<meta property="og:title" content="no">'</script>
        <META PROPERTY='og:description' CONTENT='it&#39;s <b>'/>
        <meta content=bare.png property=og:image>
        <meta property="og:description" content="second">
        <meta name="author" content="nobody asked">
        <link rel="alternate" type="application/json+oembed" href="/oembed?a=1&amp;b=2">"""
    )
    assert page.properties == {
        "og:title": "A & B page",
        "og:description": "it's <b>",
        "og:image": "bare.png",
    }
    assert page.oembed == "/oembed?a=1&b=2"


def test_texts_are_bounded_and_harmless() -> None:
    page = read_text(
        f'<meta property="og:title" content="{"x" * 5000}"><meta property="og:type" content="a\u202eb\x07c">'
    )
    assert len(page.properties["og:title"]) == 2000
    assert page.properties["og:type"] == "a b c"
    many = "".join(f'<meta property="og:x{n}" content="y">' for n in range(3000))
    assert len(read_text(many).properties) == 60


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        ("grün".encode(), "text/html", "grün"),
        ("grün".encode("latin-1"), "text/html; charset=ISO-8859-1", "grün"),
        ("grün".encode("latin-1"), "text/html", "grün"),
        ("日本".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "日本"),
        ("привет".encode("koi8-r"), "text/html; charset=koi8-r", "привет"),
        (b"\xff\xfe" + "wide".encode("utf-16-le"), "text/html", "wide"),
        (b"plain", "text/html; charset=punycode", "plain"),
        (b"plain", "text/html; charset=no-such", "plain"),
        (b"plain", "text/html; charset=zip", "plain"),
    ],
)
def test_character_sets(data: bytes, content_type: str, text: str) -> None:
    assert decode(data, content_type) == text


def test_a_page_says_its_character_set_itself() -> None:
    page = '<meta charset="windows-1251"><title>привет</title>'.encode("cp1251")
    assert read_text(decode(page, "text/html")).properties["og:title"] == "привет"


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!",
        "<!--",
        "<![",
        "<meta ",
        "<meta a='",
        '<meta a="',
        "<meta a=b ",
        "<title>",
        "<title",
        "</",
        "<script>",
        "<script>x</script",
        "<a b=",
        "&",
        "&amp",
        "<meta property=og:title content='&amp;&amp;",
        "<p/" * 3,
        "=",
        "<meta " + "x" * 70 + " ",
        "<link rel=alternate ",
        "<textarea><",
    ],
)
def test_odd_pages_take_no_longer_than_others(piece: str) -> None:
    """A parser that looks back takes minutes for some of these."""
    text = (piece * (MAX_PAGE // len(piece) + 1))[:MAX_PAGE]
    began = time.process_time()
    read_text(text)
    assert time.process_time() - began < 2
