"""Every claim of ``sgdlit.papers`` at quick scale, one test for each experiment that decides some."""

from dataclasses import fields
from typing import get_args

import pytest

from sgdlit.cli.reproduce import Session, config_path
from sgdlit.papers.catalogue import papers
from sgdlit.papers.claim import Claim, Kind

EXPERIMENTS = {
    f"{paper.name}:{'+'.join(claim.id for claim in experiment.claims)}": (paper, experiment)
    for paper in papers().values()
    for experiment in paper.experiments
}
SLOW = {
    "benarous2023:L23a+L23b",
    "blog:B1",
    "blog:B3+B4+B5",
    "blog:B6+B7",
    "andreyev2024:AB1+AB2+AB3",
    "blog:B8+B9",
    "cha2023:L13a+L13b+L13c",
    "cohen2021:ES1+ES2+ES3",
    "cohen2022:AE1+AE2+AE3",
    "de2020:SI2",
    "dedeoglu2022:L38a+L38b+L38c",
    "ding2019:L17",
    "francazi2022:L40a+L40b+L40c",
    "glasgow2023:X1",
    "goyal2017:L29a+L29b",
    "grosse2021:G3",
    "keskar2017:L33a+L33c",
    "keskar2017:L33b",
    "kumar2022:L3a+L3b",
    "liu2024:L15a",
    "loshchilov2016:L8c",
    "mccandlish2018:NS1+NS2",
    "nakkiran2020:DB1+DB2+DB3",
    "pan2023:L24a+L24b+L24c",
    "pooladzandi2024:L19a+L19b",
    "refinetti2023:L27a+L27b",
    "shallue2018:G4+G5+G7",
    "smith2021:F1b+F1a+F3+F4+F7",
    "smith2021:F1c",
    "smith2021:M5b",
    "smith2021:M1+M2+M3+M4+M5+M6",
    "wang2023:L34b",
    "xu2024:L36b",
    "zhang2019:F5+F8",
    "zhang2019:G2+G7+G8+G9+G10+G11",
}
"""What takes more than some five seconds."""
NEEDS = {"pooladzandi2024:L19a+L19b": "pytorch_optimizer"}
"""What needs a package of an extra."""


def marked(name):
    return pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("name", [marked(name) for name in EXPERIMENTS])
def test_claims_show_at_quick_scale_or_say_that_they_do_not(name, tmp_path, monkeypatch, request):
    paper, experiment = EXPERIMENTS[name]
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    data = request.getfixturevalue("real_data") if experiment.needs_data else None
    monkeypatch.delenv("SGDLIT_DATA", raising=False)
    session = Session(paper, tmp_path, quick=True, data=data, jobs=1, svg=False)
    evidence = experiment.measure(paper.quick_options(), session.workshop())
    failing = [finding for finding in evidence.findings if not finding.holds]
    assert {f.claim for f in failing} == {c.id for c in experiment.claims if not c.shows}, failing
    assert all(finding.note for finding in failing)
    assert {finding.claim for finding in evidence.findings} == {claim.id for claim in experiment.claims}
    assert all(finding.interval for finding in evidence.findings)
    assert all(row.keys() == rows[0].keys() for rows in evidence.tables.values() for row in rows)
    drawn = experiment.draw(evidence.tables)
    assert drawn
    for figure in drawn.values():
        figure.canvas.draw()


def test_what_is_slow_exists():
    assert EXPERIMENTS.keys() >= SLOW


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.name)
def test_every_claim_says_what_it_is_and_how_it_is_checked(paper):
    ids = [claim.id for claim in paper.claims]
    assert len(ids) == len(set(ids))
    assert paper.reference
    assert "Symbols" in paper.options.__doc__
    paper.quick_options()
    for claim in paper.claims:
        left_out = {field.name for field in fields(Claim) if not getattr(claim, field.name)}
        assert left_out <= {"config", "shows"}, claim.id
        assert claim.kind in get_args(Kind)
        assert (claim.kind == "trained") == bool(claim.config), claim.id
        if claim.config:
            assert config_path(claim.config).is_file()
