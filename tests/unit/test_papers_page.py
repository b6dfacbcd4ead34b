"""The page of all claims: complete, self-contained, and true to what is kept."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sgdlit.figures.style import panels, save
from sgdlit.foundations.errors import UserError
from sgdlit.papers import catalogue, page, record
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper


def claim(identity: str, config: str = "sweeps/reference.yaml") -> Claim:
    said = {
        "statement": f"{identity} <b>is</b> claimed",
        "source": "Someone 2020, arXiv 2001.00001, section 2",
    }
    return Claim(
        identity, **said, kind="trained", prediction="1 & more", quick="small", full="large", config=config
    )


def measure(o, workshop):
    raise AssertionError


HOLDS, FAILS, UNRUN = claim("X1"), claim("X2"), claim("X3")
PAPER = Paper(
    "someone2020",
    "Someone 2020, On things, arXiv 2001.00001",
    (
        Experiment("two", (HOLDS, FAILS), measure, lambda tables: {}),
        Experiment("three", (UNRUN,), measure, lambda tables: {}),
    ),
)


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def out(tmp_path):
    """A folder in which two claims of three were checked, one of which does not show."""
    folder = tmp_path / "someone2020"
    evidence = Evidence(
        {"rows": [{"a": 1}]},
        [
            Finding("X1", "the ratio", "1 ± 0.1", "1.02", True, "0.98 to 1.06 (95 %)"),
            Finding("X2", "the slope", "2 ± 0.1", "1.50", False, "1.4 to 1.6 (95 %)", "too small a network"),
        ],
        seeds="0 to 9",
    )
    figure, (ax,) = panels(1, 1)
    ax.plot([0, 1], [0, 1])
    (picture,) = save(figure, folder, "curve", svg=False)
    key = {"scale": "quick", "options": {}}
    entries = {c.id: record.entry(c, evidence, key, (12.34, 9.8), [picture.name]) for c in (HOLDS, FAILS)}
    record.add(folder, PAPER, entries)
    return tmp_path


def test_a_finding_that_has_changed_is_not_shown(out):
    path = out / "someone2020" / "claims.json"
    text = path.read_text()
    for changed, words in (
        (text.replace("1.02", "1.03"), "the entry of X1 has changed"),
        (text[:-9], "damaged"),
    ):
        path.write_text(changed)
        with pytest.raises(UserError, match=words):
            record.read(out / "someone2020")


def test_every_claim_is_there_with_all_that_is_known(out):
    path = page.write({PAPER.name: PAPER}, out)
    assert path == out / "index.html"
    found = Reader(path.read_text(encoding="utf-8"))
    assert found.open == []
    states = {a["id"]: a["data-state"] for a in found.of("article")}
    assert states == {
        "someone2020-X1": "holds", "someone2020-X2": "does not show", "someone2020-X3": "not run",
    }  # fmt: skip
    entry = json.loads((out / "someone2020" / "claims.json").read_text())["X1"]
    for text in (
        "X1 <b>is</b> claimed", "Someone 2020, On things", "1 ± 0.1", "1.02", "0.98 to 1.06 (95 %)", "1.50",
        "1 & more", "Note: too small a network", "0 to 9", "9.8 s of a processor",
        "small", "large", entry["machine"],
        f"torch {entry['versions']['torch']}", "python -m sgdlit reproduce someone2020:X1",
        "reproduce someone2020:X1 --scale full", "all 3 claims",
        "python -m sgdlit sweep --config configs/sweeps/reference.yaml",
        "1 does not show", "1 not run",
    ):  # fmt: skip
        assert text in found.text, text


def test_the_page_needs_no_other_file_and_no_network(out):
    found = Reader(page.write({PAPER.name: PAPER}, out).read_text(encoding="utf-8"))
    loaded = [attrs[key] for _, attrs in found.tags for key in ("src", "srcset", "data") if key in attrs]
    assert len(loaded) == 1
    assert all(source.startswith("data:image/png;base64,") for source in loaded)
    assert not found.of("link")
    assert not [a for a in found.of("script") if "src" in a]
    ids = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    for attrs in found.of("a"):
        assert attrs["href"].startswith("https://arxiv.org/abs/2001.00001") or attrs["href"][1:] in ids


def test_a_picture_keeps_its_size_and_its_colours(out):
    import base64
    import io

    from PIL import Image

    found = Reader(page.write({PAPER.name: PAPER}, out).read_text(encoding="utf-8"))
    (attrs,) = found.of("img")
    kept = Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))).convert("RGB")
    drawn = Image.open(out / "someone2020" / "curve.png").convert("RGB")
    assert kept.size == drawn.size == (int(attrs["width"]), int(attrs["height"]))
    apart = [abs(a - b) for a, b in zip(kept.tobytes(), drawn.tobytes(), strict=True)]
    assert sum(apart) / len(apart) < 0.5
    assert attrs["alt"]


def test_nothing_run_is_a_page_too(tmp_path):
    found = Reader(page.write({PAPER.name: PAPER}, tmp_path / "none").read_text(encoding="utf-8"))
    assert {a["data-state"] for a in found.of("article")} == {"not run"}


def test_what_other_seeds_do_stands_beside_what_is_predicted(out):
    turned = replace(HOLDS, other_seeds="one of 1000 to 1009 < 1")
    experiment = replace(PAPER.experiments[0], claims=(turned, *PAPER.experiments[0].claims[1:]))
    paper = replace(PAPER, experiments=(experiment, *PAPER.experiments[1:]))
    found = Reader(page.write({PAPER.name: paper}, out).read_text(encoding="utf-8")).text
    assert found.count("With other seeds the verdict turned") == 1
    assert f"{HOLDS.prediction}. With other seeds the verdict turned: one of 1000 to 1009 < 1." in found


def test_the_command_of_a_config_is_that_of_what_it_describes():
    """A sweep file is one by its section, wherever it lies."""
    assert catalogue.command_of("list/apollo.yaml") == "sweep"
    assert catalogue.command_of("sweeps/reference.yaml") == "sweep"
    assert catalogue.command_of("list/pretraining.yaml") == "fit"


def test_states():
    finding = Finding("X1", "", "", "", True, "none: a count")
    for evidence, state in (
        (Evidence(findings=[finding]), "holds"),
        (Evidence(findings=[finding, Finding("X1", "", "", "", False, "none: a count")]), "does not show"),
        (Evidence({"rows": [{"a": 1}]}), "no verdict"),
        (Evidence(notes=["no data"]), "not run"),
    ):
        assert record.state_of(evidence.findings, evidence) == state
        assert state in record.STATES


def test_seeds_come_from_the_options_where_evidence_names_none():
    options = {"seed": 3, "runs": 20, "inner": {"order_seeds": [0, 1], "data_seed": None}, "steps": 5}
    kept = record.entry(HOLDS, Evidence(), {"scale": "quick", "options": options}, (0.0, 0.0))
    assert kept["seeds"] == "seed = 3, runs = 20, inner.order_seeds = [0, 1]"


def test_the_times_that_are_known_are_those_of_experiments():
    names = {
        (name, experiment.name) for name, p in catalogue.papers().items() for experiment in p.experiments
    }
    timed = {(name, experiment) for name, own in catalogue.seconds().items() for experiment in own}
    assert timed
    assert timed <= names
    assert all(0 < seconds < 3600 for own in catalogue.seconds().values() for seconds in own.values())


@pytest.mark.parametrize(
    ("seeds", "shown"),
    [("0 to 9", "9.8 s of a processor, seeds 0 to 9"), ("seeds = 10", "9.8 s of a processor, seeds = 10")],
)
def test_seeds_are_named_once(out, seeds, shown):
    kept = record.read(out / PAPER.name)
    record.add(out / PAPER.name, PAPER, {"X1": kept["X1"] | {"seeds": seeds}})
    found = Reader(page.write({PAPER.name: PAPER}, out).read_text(encoding="utf-8")).text
    assert shown in found
    assert "seeds seeds" not in found
