"""The page in a real browser: all of it is there at once, it fits, and nothing is fetched."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vdm_pipeline_tests.browser import CHROMIUM, Page, browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_page_is_whole_and_fits(page, tab, tmp_path, width):
    path: Path = tmp_path / "index.html"
    tab.open(path, width)
    fetched = [told["request"]["url"] for told in tab.told("Network.requestWillBeSent")]
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    assert (
        not tab.told("Log.entryAdded")
        and not tab.told("Runtime.exceptionThrown")
        and not tab.told("Page.javascriptDialogOpening")
    )
    assert tab.value("document.images.length") > 40
    assert (
        tab.value("[...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    )
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_page_is_there_within_a_second(page, tab, tmp_path):
    """The fastest of a few: other processes are none of the page's doing."""
    took = []
    for _ in range(5):
        tab.open(tmp_path / "index.html", 1280)
        took.append(tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert 0 < min(took) < 1000


def test_policy_stops_what_escaping_would_not(page, tab, tmp_path):
    path = tmp_path / "index.html"
    hostile = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
    path.write_text(
        page.replace("</main>", f"{hostile}<link rel=stylesheet href=http://127.0.0.1:9/></main>"),
        encoding="utf-8",
    )
    tab.open(path, 1280)
    assert tab.value("document.title") != "ran"
    assert (
        len(
            [
                told
                for told in tab.told("Log.entryAdded")
                if "Content Security Policy" in told["entry"]["text"]
            ]
        )
        >= 3
    )


def test_image_is_enlarged_while_it_has_the_focus(page, tab, tmp_path):
    tab.open(tmp_path / "index.html", 390)
    widths = "[...document.querySelectorAll('.zoom img')].slice(0, 2).map(image => image.getBoundingClientRect().width)"
    small, other = tab.value(widths)
    tab.value("document.querySelector('.zoom').focus()")
    large, unmoved = tab.value(widths)
    assert large > 3 * small and unmoved == other
    assert tab.value("getComputedStyle(document.querySelector('.zoom .long')).display") == "block"
    tab.value("document.activeElement.blur()")
    assert tab.value(widths) == [small, other]


def test_details_are_open_in_print(page, tab, tmp_path):
    tab.open(tmp_path / "index.html", 1280)
    height = "document.querySelector('article details').getBoundingClientRect().height"
    closed = tab.value(height)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value(height) > closed + 20
    tab.call("Emulation.setEmulatedMedia", media="")
