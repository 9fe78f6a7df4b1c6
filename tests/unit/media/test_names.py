"""Names and types as they are told on. CHECKLIST MEDIA-03, MEDIA-04."""

import pytest

from homeserver.media import names


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Ärger über 北京.pdf", "Ärger über 北京.pdf"),
        ("عربي.txt", "عربي.txt"),
        ("👩\u200d💻.png", "👩\u200d💻.png"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("..\\..\\boot.ini", ".._.._boot.ini"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie: x"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("a\0b", "a_b"),
        ("..", None),
        ("", None),
        (None, None),
        ("x" * 300 + ".tar", "x" * 251 + ".tar"),
    ],
)
def test_a_name_keeps_its_letters_and_loses_what_harms(told: str | None, kept: str | None) -> None:
    assert names.clean_filename(told) == kept


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("image/png\r\nX: y", ""),
        ("nonsense", ""),
        ('text/html; charset="a"b', ""),
        ("a/" + "b" * 300, ""),
        ("tëxt/plain", ""),
        ("", ""),
    ],
)
def test_a_type_is_one_or_none(told: str, kept: str) -> None:
    assert names.clean_content_type(told) == kept


@pytest.mark.parametrize(
    ("content_type", "filename", "header"),
    [
        ("image/png", "a.png", 'inline; filename="a.png"'),
        ("IMAGE/PNG; x=y", None, "inline"),
        ("text/html", "a.html", 'attachment; filename="a.html"'),
        ("image/svg+xml", None, "attachment"),
        ("", None, "attachment"),
        ("image/png", "100%.png", "inline; filename*=utf-8''100%25.png"),
        ("image/png", 'a"b.png', "inline; filename*=utf-8''a%22b.png"),
        ("image/png", "北.png", "inline; filename*=utf-8''%E5%8C%97.png"),
    ],
)
def test_media_04_only_what_is_safe_is_inline(content_type: str, filename: str | None, header: str) -> None:
    assert names.disposition(content_type, filename) == header
