"""The page in a browser: drawn without a complaint, sorted and read by keyboard, light and dark, narrow and wide."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_scores import enter, made_params, put_scores
from playwright.sync_api import sync_playwright

from pipeline.artifacts import paths
from pipeline.report.build import write_report
from pipeline.report.console import read_summary
from pipeline.report.local_report import write_local_report

BROWSER = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)")
LOCK = """
schema: '2.0'
stages:
  index@caltech101:
    cmd: python -m stages.index --dataset caltech101
    outs: [{path: a, size: 1500}, {path: b, size: 500}]
  index@other:
    cmd: python -m stages.index --dataset other
    outs: [{path: c, size: 9000}]
  evaluate_synthetic@caltech101:
    cmd: python -m stages.evaluate --dataset caltech101
    outs: [{path: e, size: 69300000}]
  report:
    cmd: python -m stages.report
    outs: [{path: d, size: 2500000}]
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The path of a report of made-up scores with the section about this machine."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("report")
        enter(folder, patch)
        put_scores(params := made_params())
        write_report(params, params.artifacts / "report")
        (folder / "dvc.lock").write_text(LOCK)
        (folder / "dvc.yaml").write_text("stages: {index: , report: }\n")
        # Two broken rows cost their own times and nothing else.
        paths.TIMES.write_bytes(b"\xff\xfe,1\npython -m\npython -m stages.index --dataset caltech101,65.0\n")
        yield folder / write_local_report(params, read_summary(params.artifacts / "report"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[tuple[Any, list[str]]]:
    """The page, drawn at the size of a phone, and its console messages, errors and requests."""
    page, messages = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="light"), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: messages.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(report.as_uri())
    wait_until(page, "document.documentElement.dataset.drawn")
    yield page, messages
    page.close()


@pytest.mark.system
@needs_browser
def test_the_page_is_drawn_without_errors_or_requests(opened: tuple[Any, list[str]]) -> None:
    page, messages = opened
    assert messages == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "the page is not wider than the screen"


@pytest.mark.system
@needs_browser
def test_every_figure_has_marks(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    marks = page.eval_on_selector_all(
        "figure", "all => all.map(f => f.querySelectorAll('.role-mark path[d], .role-mark line').length)"
    )
    assert len(marks) == 8
    assert min(marks) >= 1
    texts = page.eval_on_selector_all(
        "figure [role=graphics-document]", "all => all.map(s => s.getAttribute('aria-label'))"
    )
    assert [text.split(":")[0] for text in texts] == page.locator("figure h3").all_text_contents()


@pytest.mark.system
@needs_browser
def test_a_table_is_sorted_by_keyboard_with_its_aria_state(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened

    def runs() -> list[str]:
        return page.eval_on_selector_all(
            "main > section:first-of-type table.sortable:not(.ece) tbody th",
            "all => all.map(h => h.firstChild.textContent.trim())",
        )

    before = runs()
    button = page.locator("table.sortable").first.locator("button").nth(2)
    button.focus()
    page.keyboard.press("Enter")
    assert button.locator("xpath=..").get_attribute("aria-sort") == "descending"
    assert runs() == ["zero_shot", "coop+ship", "coop", "tip_adapter_f+ship", "tip_adapter_f"]  # new; a dash is last
    page.keyboard.press("Enter")
    assert button.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    assert runs()[0] == "tip_adapter_f+ship"
    page.locator("table.sortable").first.locator("button").first.press("Enter")
    assert runs() == before


@pytest.mark.system
@needs_browser
def test_a_menu_changes_the_figure(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    figure = page.locator("figure.generators")
    title = figure.locator("svg.marks").inner_html()
    figure.locator("select").select_option("kl")
    wait_until(page, "old => document.querySelector('figure.generators svg.marks').innerHTML !== old", title)


def wait_until(page: Any, condition: str, arg: object = None) -> None:
    """Wait until a condition holds. `wait_for_function` may need `eval`, which the policy of the page bars."""
    limit = time.monotonic() + 120
    while not page.evaluate(condition, arg):
        assert time.monotonic() < limit, condition
        page.wait_for_timeout(50)


@pytest.mark.system
@needs_browser
@pytest.mark.parametrize("width", [360, 820, 1400])
def test_nothing_is_cut_off_at_any_width(width: int, opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    fits = "all => all.every(part => part.scrollWidth <= part.clientWidth)"
    wait_until(page, f"document.documentElement.scrollWidth === {width}")
    wait_until(page, f"({fits})([...document.querySelectorAll('.chart')])")
    assert page.eval_on_selector_all(".scroll:has(> .sortable)", fits), "a table needs scrolling sideways"
    page.set_viewport_size({"width": 390, "height": 800})


@pytest.mark.system
@needs_browser
def test_dark_mode_changes_background_and_text(opened: tuple[Any, list[str]]) -> None:
    page, messages = opened
    ink = "getComputedStyle(document.body).color"
    axis = "document.querySelector('figure svg.marks .role-axis-label text').getAttribute('fill')"
    light = page.evaluate(ink), page.evaluate(axis)
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"old => {axis} !== old", light[1])
    assert page.evaluate(ink) != light[0]
    assert messages == []


def test_the_local_section_shows_time_and_size(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert '<th scope="row">index</th><td data-value="1">1</td><td data-value="65.0">1:05</td>' in page
    assert "2.0 kB" in page  # only the cell of this grid
    assert "2.5 MB" in page
    assert '<td data-value="">–</td>' in page  # the result of `report` came from a cache
    tracked = report.parent / "report/index.html"
    assert "On this machine" not in tracked.read_text(encoding="utf-8")


def test_the_reason_for_missing_images_is_shown(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    section = page[page.index("On this machine") :]
    assert "caltech101" in section
    assert "data/caltech-101/101_ObjectCategories" in section, "the missing folder"
