"""Every claim of ``sgdlit.papers`` at quick scale, one test for each experiment that decides some."""

import re
from dataclasses import fields
from typing import get_args

import pytest

from sgdlit.cli.paper_session import Session
from sgdlit.cli.paper_trainings import config_path
from sgdlit.papers.catalogue import papers, seconds
from sgdlit.papers.claim import Claim, Kind
from sgdlit.papers.support.fresh_seeds import FIRST

EXPERIMENTS = {
    f"{paper.name}:{'+'.join(claim.id for claim in experiment.claims)}": (paper, experiment)
    for paper in papers().values()
    for experiment in paper.experiments
}
LONGEST = 5.0  # seconds of a processor


def is_slow(name):
    """Whether a check takes long, as far as it has been timed (scripts/claim_seconds.py)."""
    paper, experiment = EXPERIMENTS[name]
    return seconds().get(paper.name, {}).get(experiment.name, 0.0) > LONGEST


NEEDS = {"pooladzandi2024:L19a+L19b": "pytorch_optimizer"}
"""What needs a package of an extra."""


def marked(name):
    return pytest.param(name, marks=[pytest.mark.slow] if is_slow(name) else [])


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
    if not any(claim.id.startswith("L") for claim in experiment.claims):
        assert all(int(seed) >= FIRST for seed in re.findall(r"\d+", evidence.seeds))
    drawn = experiment.draw(evidence.tables)
    assert drawn
    for figure in drawn.values():
        figure.canvas.draw()


def test_what_was_timed_exists():
    known = {(paper.name, experiment.name) for paper, experiment in EXPERIMENTS.values()}
    assert known >= {(paper, name) for paper, own in seconds().items() for name in own}


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.name)
def test_every_claim_says_what_it_is_and_how_it_is_checked(paper):
    ids = [claim.id for claim in paper.claims]
    assert len(ids) == len(set(ids))
    assert paper.reference
    assert "Symbols" in paper.options.__doc__
    paper.quick_options()
    for claim in paper.claims:
        left_out = {field.name for field in fields(Claim) if not getattr(claim, field.name)}
        assert left_out <= {"config", "shows", "other_seeds"}, claim.id
        assert claim.kind in get_args(Kind)
        assert claim.config or claim.kind != "trained", claim.id
        if claim.config:
            assert config_path(claim.config).is_file()
