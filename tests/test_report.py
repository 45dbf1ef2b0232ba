"""The report as a reader meets it: one file, opened from disk in a browser without a network, and clicked through."""

import json
import re
from pathlib import Path

import pytest
from browser import PROGRAM, Page
from workflow import Project

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]
CONTENT = "document.querySelector('nav').parentElement.lastElementChild"


@pytest.fixture(scope="module")
def report(grown: tuple, tmp_path_factory) -> Path:
    """The report, away from the project that made it."""
    project: Project = grown[0].copy(tmp_path_factory.mktemp("report") / "project")
    project.snakemake("--report", "report.html")
    return (project.folder / "report.html").rename(tmp_path_factory.mktemp("elsewhere") / "report.html")


@pytest.fixture
def page(report: Path, tmp_path: Path):
    with Page(tmp_path) as page:
        page.open(report.as_uri())
        yield page
        page.screenshot(tmp_path / "report.png")
        assert page.problems() == []
        assert {u.partition(":")[0] for u in page.fetched()} <= {"file", "data", "blob"}, "the page fetches something"


def press(page: Page, words: tuple[str, ...], icon: str) -> None:
    """Press the eye or the i in the row of the menu that has these words."""
    has_all = f"r => {json.dumps(words)}.every(w => [...r.cells].some(c => c.innerText.trim() === w))"
    row = f"[...document.querySelectorAll('tr')].find({has_all})"
    page.wait(lambda: page.js(f"!!{row}"))
    page.js(f"{row}.querySelector('[iconname={icon}]').click()")


def look(page: Page, words: tuple[str, ...]) -> str:
    """Open a figure and its description; returns what is to be read then."""
    press(page, words, "eye")
    image = f"{CONTENT}.querySelector('img')"
    shown = f"{image}?.complete ? Math.min({image}.naturalWidth, {image}.width, {image}.height) : 0"
    assert page.wait(lambda: page.js(shown)) > 50
    press(page, words, "information-circle")
    page.wait(lambda: "DESCRIPTION" in page.text())
    return page.text()


def test_the_report_needs_no_other_file(report):
    text = report.read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=[\"'](?!data:|#)", text)


def test_the_front_page_says_what_there_is(page):
    assert "table of all its studies" in page.text()


def test_the_figures_of_a_study(page):
    page.click("Chaos")
    page.click("lorenz, clean")
    assert "how long the two lines stay together" in look(page, ("Faithful", "rollouts"))
    assert "Forecasts of lorenz_faithful" in page.text()


def test_an_animation_moves(page):
    """What is to be seen of it changes by itself."""
    page.click("Chaos")
    page.click("lorenz, clean")
    assert "from the given state on" in look(page, ("Faithful", "animation"))
    seen = set()
    page.wait(lambda: seen.add(page.pixels()) or len(seen) > 1)


SEEN = {"error_growth": "chaos at work", "valid_time": "equal step in time", "climate": "long free run"}


@pytest.mark.parametrize("figure", SEEN)
def test_the_comparisons_of_a_paper(page, figure):
    page.click("Chaos")
    page.click("Comparison and table")
    assert SEEN[figure] in look(page, ("all", figure))


def test_the_table_of_a_paper(page):
    page.click("Rest")
    page.click("Comparison and table")
    press(page, ("all", "table"), "eye")
    frame = f"{CONTENT}.querySelector('iframe')"
    assert page.wait(lambda: page.js(f"{frame} && {frame}.clientWidth * {frame}.clientHeight")) > 10_000
    press(page, ("all", "table"), "information-circle")
    page.wait(lambda: "published values in brackets" in page.text())
    page.open(page.js(f"{frame}.src"))
    assert page.js("document.querySelector('table').offsetHeight") > 50
    table = page.text()
    assert "Rest" in table and "Linear" in table and "± is the standard error" in table
