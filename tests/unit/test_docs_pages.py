"""The pages of docs/ that a script makes are what it makes, and the pages lead to each other."""

import re
import sys
from dataclasses import replace

import pytest
from conftest import REPOSITORY

from sgdlit.config.shipped import find
from sgdlit.papers import catalogue

sys.path.insert(0, str(REPOSITORY / "scripts"))
try:
    import docs_pages
finally:
    sys.path.pop(0)

DOCS = REPOSITORY / "docs"
PICTURES = [picture for pictures in docs_pages.PICTURES.values() for picture in pictures]
COMMANDS = {picture.name: picture.command or f"reproduce {picture.claims[0]}" for picture in PICTURES}


@pytest.mark.parametrize("name", docs_pages.pages())
def test_the_committed_page_is_what_the_script_writes(name):
    written = docs_pages.pages()[name]
    assert (DOCS / name).read_text(encoding="utf-8") == written, "python scripts/docs_pages.py writes it"


def test_a_page_follows_its_claims(monkeypatch):
    known = catalogue.papers()
    paper = known["ma2018"]
    experiment = paper.experiments[0]
    claims = tuple(replace(claim, statement="another one", shows=False) for claim in experiment.claims)
    known["ma2018"] = replace(paper, experiments=(replace(experiment, claims=claims),))
    monkeypatch.setattr(catalogue, "papers", lambda: known)
    page = docs_pages.ids()
    assert "</a>G14† | another one |" in page
    assert page != (DOCS / "ids.md").read_text(encoding="utf-8")


def test_every_picture_is_in_the_gallery_once():
    names = [picture.name for picture in PICTURES]
    assert len(names) == len(set(names))
    assert set(names) == {path.name for path in DOCS.glob("*.png")}
    shown = re.findall(r"\]\(([^)]*\.png)\)", (DOCS / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(names)


def test_every_page_is_named_in_front():
    assert {*docs_pages.PAGES, "README.md"} == {path.name for path in DOCS.glob("*.md")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_picture_names_a_command_of_things_that_are_there(name):
    command = COMMANDS[name]
    for config in re.findall(r"--config (\S+)", command):
        assert find(config) is not None
    for target in re.findall(r"reproduce (\S+)", command):
        paper, _, claim = target.partition(":")
        assert catalogue.experiments(catalogue.find(paper), claim)
    for script in re.findall(r"python (scripts/\S+)", command):
        assert (REPOSITORY / script).is_file()


def test_links_lead_somewhere():
    """From README and docs to files, and to places in ids.md."""
    places = set(re.findall(r'<a id="([^"]+)">', (DOCS / "ids.md").read_text(encoding="utf-8")))
    for page in (REPOSITORY / "README.md", *DOCS.glob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://", target):
                continue
            name, _, place = target.partition("#")
            assert (page.parent / name).exists(), f"{page.name}: {target}"
            assert not place or name != "ids.md" or place in places, f"{page.name}: {target}"


def test_every_id_has_one_place():
    places = re.findall(r'<a id="([^"]+)">', (DOCS / "ids.md").read_text(encoding="utf-8"))
    assert len(places) == len(set(places)) == sum(len(p.claims) for p in catalogue.papers().values())


def test_the_page_of_claims_is_named_where_it_is_there():
    assert "[claims.html](claims.html)" in docs_pages.front(True)
    assert "claims.html" not in docs_pages.front(False)
