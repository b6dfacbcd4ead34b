"""The page of all claims in headless Chromium, at the width of a screen and of a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from sgdlit.figures.style import panels, save
from sgdlit.papers import catalogue, page, record
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Evidence

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1200)
LOOK = """
<script>
addEventListener("load", () => {
  const visible = () => [...document.querySelectorAll("article")].filter(a => a.offsetParent !== null).length;
  const inner = [...document.querySelectorAll("body *")].filter(one => !one.closest("figure"));
  const found = {
    width: innerWidth,
    scrolled: document.documentElement.scrollWidth,
    beyond: inner.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length,
    pictures: [...document.images].map(one => [one.naturalWidth, one.getBoundingClientRect().width]),
    all: visible(),
  };
  for (const state of ["does not show", "holds", ""]) {
    [...document.querySelectorAll(".states input")].find(one => one.value === state).click();
    found[state || "again"] = visible();
  }
  parent.postMessage(found, "*");
});
</script>
"""
FRAMES = """
<title></title><script>
const found = [];
addEventListener("message", said => { found.push(said.data); document.title = JSON.stringify(found); });
</script>
"""


@pytest.fixture(scope="module")
def claims_page(tmp_path_factory) -> Path:
    """That of all papers, one of which has findings of both kinds and a wide picture."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    out = tmp_path_factory.mktemp("reproduce")
    papers = catalogue.papers()
    paper = papers["smith2021"]
    first, second = paper.claims[:2]
    long = "a comparison of two quantities whose names are long, as those of findings are " * 2
    evidence = Evidence(
        {"rows": [{"a": 1}]},
        [
            Finding(first.id, long, "1 ± 0.1", "1.02", True, "0.98 to 1.06 (95 %)"),
            Finding(second.id, long, "2 ± 0.1", "1.50", False, "1.4 to 1.6 (95 %)", "too small a network"),
        ],
    )
    figure, axes = panels(1, 3)
    axes[0].plot([0, 1], [0, 1])
    (picture,) = save(figure, out / paper.name, "curve", svg=False)
    key = {"scale": "quick", "options": {}}
    kept = {c.id: record.entry(c, evidence, key, (1.0, 1.0), [picture.name]) for c in (first, second)}
    record.add(out / paper.name, paper, kept)
    written = page.write(papers, out)
    text = written.read_text(encoding="utf-8").replace("</body>", LOOK + "</body>")
    written.write_text(text, encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def found(claims_page) -> dict[int, dict]:
    """What the script above finds, by width; a browser's own window is no narrower than 500."""
    profile, frames = claims_page.parent / "profile", claims_page.with_name("frames.html")
    shown = [f'<iframe src="index.html" width="{width}" height="800" frameborder="0">' for width in WIDTHS]
    frames.write_text(FRAMES + "</iframe>".join([*shown, ""]), encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,900",
        f"--user-data-dir={profile}", "--virtual-time-budget=4000", "--dump-dom", frames.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    return {each["width"]: each for each in json.loads(unescape(title[1]))}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_what_it_is_read_on(found, width):
    assert found[width]["scrolled"] <= width
    assert found[width]["beyond"] == 0


def test_buttons_choose_the_claims_of_a_state(found):
    claims = sum(len(paper.claims) for paper in catalogue.papers().values())
    for own in found.values():
        assert (own["all"], own["does not show"], own["holds"], own["again"]) == (claims, 1, 1, claims)


def test_a_wide_picture_can_be_read_on_a_phone(found):
    """It is shrunk to the page on a screen, and on a phone to half its pixels, and scrolled."""
    for width, own in found.items():
        ((pixels, shown),) = own["pictures"]
        assert pixels > 1500
        assert shown >= pixels / 2 - 1 if width == WIDTHS[0] else shown < width
