"""The frame of pages for people: it says whose they are."""

import pytest

from homeserver.web.page import Branding, page


@pytest.mark.parametrize(
    ("title", "has_logo", "named"),
    [("Log in", False, True), ("Log in", True, False), ("Chat at A & B", False, False)],
)
def test_whose_a_page_is_stands_above_a_title_that_does_not_say_so(
    title: str, has_logo: bool, named: bool
) -> None:
    text = page(title, "", branding=Branding("A & B", "#123456", has_logo))
    assert ('<p class="whose">A &amp; B</p><h1>' in text) is named
    assert ('alt="A &amp; B"' in text) is has_logo
