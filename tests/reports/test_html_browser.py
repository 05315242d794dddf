"""Format `html` in a real Chromium: it asks for nothing, works by keyboard and without scripts, prints, and axe is content."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import html
from reports.style import Style
from tests.reports.browser import browser, chromium, everything, with_text
from tests.reports.test_html import HOSTILE, many

pytest.importorskip("playwright", reason="playwright is not installed")
EXECUTABLE = chromium()
pytestmark = [
    pytest.mark.real("chromium"),
    pytest.mark.skipif(EXECUTABLE is None, reason="no chromium here"),
]
AXE = Path(__file__).parents[2] / ".venv/npm/node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser(str(EXECUTABLE)) as started:
        yield started


@pytest.fixture
def show(chrome: Any, tmp_path: Path) -> Iterator[Any]:
    """`show(report)` → the page of a report, opened as a file. Afterwards nothing was asked for, and nothing complained."""
    opened: list[Any] = []
    asked: list[str] = []
    said: list[str] = []
    path = tmp_path / "report.html"

    def open_(report: Any, **options: Any) -> Any:
        path.write_text(html.render(report, Style()), encoding="utf-8")
        context = chrome.new_context(**options)
        opened.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in opened:
        context.close()
    assert {url.partition("#")[0] for url in asked} == {path.as_uri()}
    assert said == []


def shown(page: Any) -> list[str]:
    """The paths of the rows that are seen."""
    return [
        text.split(" ")[1] for text in page.locator(".rows > tbody:visible > tr:first-child > th").all_inner_texts()
    ]


def focused(page: Any) -> str:
    return str(
        page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
    )


def tab_to(page: Any, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    pytest.fail(f"the keyboard never came to {name}")


def test_the_filter_by_keyboard(show: Any) -> None:
    page = show(everything())
    every = shown(page)
    assert len(every) == 12
    tab_to(page, "q")
    page.keyboard.type("10.0.0.1 REJECTED")  # both words, wherever they stand, whatever their case
    assert shown(page) == ["192.0.2.2:443"]
    assert page.locator("#shown").inner_text() == "1 of 12 paths shown"
    assert page.locator("#shown").get_attribute("role") == "status"
    page.keyboard.press("Control+a")
    page.keyboard.type("nobody says this")
    assert shown(page) == []
    tab_to(page, "reset")
    page.keyboard.press("Enter")
    assert shown(page) == every

    boxes = page.locator(".filter [type=checkbox]")
    boxes.first.focus()
    page.keyboard.press("Space")  # leak
    assert shown(page) == every[1:]
    assert page.locator("#shown").inner_text() == "11 of 12 paths shown"
    page.keyboard.press("Space")

    lane = page.locator("#lane")
    lane.focus()
    wanted = page.locator("#lane option", has_text="stopped by this host's firewall").get_attribute("value")
    while lane.input_value() != wanted:
        page.keyboard.press("ArrowDown")
    assert shown(page) == ["192.0.2.8:443"]


def test_a_row_is_opened_by_keyboard(show: Any) -> None:
    page = show(everything())
    first = page.locator("#r0 details")
    attempts = first.locator(".attempts")
    assert not attempts.is_visible()
    tab_to(page, "reset")
    page.keyboard.press("Tab")
    assert focused(page) == "SUMMARY"
    outline = page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert outline == "solid3px"
    page.keyboard.press("Enter")
    assert attempts.is_visible()
    assert page.locator("#r0 .attempts tbody tr").count() == 7
    page.keyboard.press("Space")
    assert not attempts.is_visible()


def test_the_skip_link_comes_first(show: Any) -> None:
    page = show(everything())
    page.keyboard.press("Tab")
    assert focused(page) == "skip"
    box = page.locator(".skip").bounding_box()
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#paths"


def test_all_that_are_shown_are_opened_and_closed(show: Any) -> None:
    page = show(everything())
    page.locator("#q").fill("conforms")
    page.locator("#open").click()
    assert (
        page.locator(".rows > tbody:visible details[open]").count() == page.locator(".rows > tbody:visible").count() > 0
    )
    assert page.locator("#r0 details[open]").count() == 0
    page.locator("#close").click()
    assert page.locator(".rows details[open]").count() == 0


def test_a_link_to_a_row_shows_and_opens_it(show: Any) -> None:
    page = show(everything())
    page.locator("#q").fill("conforms")
    page.locator(".changes details").first.evaluate("one => { one.open = true }")
    page.locator('.changes a[href="#r0"]').click()
    page.locator("#r0 .attempts").wait_for(state="visible")
    assert len(shown(page)) == 12


def test_a_lane_of_the_picture_shows_its_rows(show: Any) -> None:
    page = show(everything())
    page.locator('.track[data-lane="0"] .hit').click()
    assert shown(page) == ["[2001:db8::1]:443"]
    assert page.locator("#lane").input_value() == "0"


def test_without_scripts_everything_is_there(show: Any) -> None:
    page = show(everything(), java_script_enabled=False)
    assert page.locator(".rows > tbody:visible").count() == 12
    assert not page.locator(".filter").is_visible()
    assert page.locator(".picture").is_visible()
    assert page.locator(".timeline").is_visible()
    page.locator("#r0 summary").click()
    assert page.locator("#r0 .attempts").is_visible()


def test_it_follows_the_readers_theme(show: Any) -> None:
    seen = {}
    page = show(everything())
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        seen[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(245, 246, 248)", "dark": "rgb(18, 20, 25)"}


def test_it_prints(show: Any) -> None:
    page = show(everything(), color_scheme="dark")
    is_seen = "one => one.checkVisibility({visibilityProperty: true}) && one.getBoundingClientRect().height > 0"
    assert not page.locator("#r0 .attempts").evaluate(is_seen)
    page.emulate_media(media="print")
    assert page.locator("#r0 .attempts").evaluate(is_seen)
    assert page.locator(".words ol").evaluate(is_seen)
    assert not page.locator(".filter").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") >= 2


@pytest.mark.parametrize("text", ["", "x" * 300])
def test_the_page_never_scrolls_sideways(show: Any, text: str) -> None:
    """WCAG 2.2, 1.4.10: at 320 pixels. The picture, the timeline and the attempts scroll by themselves."""
    page = show(with_text(everything(), lambda was: was + text))
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_text_does_nothing(show: Any) -> None:
    page = show(with_text(everything(), lambda was: f"{was}{HOSTILE}"))
    assert "<script>alert(1)</script>" in page.locator("h2 + ul > li").first.inner_text()
    assert page.locator("script").count() == 1
    assert page.locator(".rows > tbody:visible").count() == 12


def test_the_policy_stops_what_is_not_the_pages_own(chrome: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    extra = '<script>document.title = "run"</script><p id="mark" style="display: none">x</p><img src="x.png">'
    path.write_text(html.render(everything(), Style()).replace("<main>", f"<main>{extra}"), encoding="utf-8")
    page = chrome.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert page.title() != "run"
    assert page.locator("#mark").is_visible()
    assert sum("Content Security Policy" in text for text in said) == 3
    assert not page.locator(".filter").evaluate("one => one.hidden")  # the page's own script ran
    page.close()


def test_a_large_report_opens_and_is_filtered(show: Any) -> None:
    page = show(many(2_400))
    page.locator("#q").fill("192.0.2.8")
    assert page.locator("#shown").inner_text() == "200 of 2400 paths shown"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed in .venv/npm")
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(show: Any, width: int) -> None:
    page = show(everything(), viewport={"width": width, "height": 900})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = page.evaluate("tags => axe.run(document, {runOnly: tags})", TAGS)
        bad = [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in found["violations"]]
        assert (theme, bad) == (theme, [])
        assert {"color-contrast", "target-size", "label", "svg-img-alt"} <= {one["id"] for one in found["passes"]}
