"""Pictures of ensembles: colours by what distinguishes members, and what matrix sensing shows of them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb

from sgdlit.config.words import metric_in_words
from sgdlit.figures import run_curves, sensing
from sgdlit.figures.members import groups_of
from sgdlit.foundations.files import write_table
from sgdlit.runs.folder import CONFIG, METRICS
from sgdlit.runs.outcomes import Outcome, write_members
from sgdlit.runs.reading import Run, load_run

_GAMMA, _LR, _SEED = "data.gamma", "model.optimizer.lr", "seed_everything"
_GAMMAS = (0.1, 1, 10)


def brightness(color: str) -> float:
    return sum(to_rgb(color))


def test_members_that_differ_in_seeds_alone_share_a_colour():
    points = [{_GAMMA: gamma, _LR: 1 / gamma, _SEED: seed} for gamma in _GAMMAS for seed in (0, 1)]
    groups = groups_of(points)
    assert (groups.key, groups.values) == (_GAMMA, [0.1, 0.1, 1, 1, 10, 10])
    assert groups.colors[::2] == groups.colors[1::2]
    assert brightness(groups.colors[0]) < brightness(groups.colors[2]) < brightness(groups.colors[4])
    assert [groups.is_first(k) for k in range(6)] == [True, False] * 3


@pytest.mark.parametrize(
    ("points", "names"),
    [
        ([{_GAMMA: 1}, {_GAMMA: 2}], ["γ = 1", "γ = 2"]),  # two have a legend
        ([{_GAMMA: 1, _LR: 0.5}, {_GAMMA: 1, _LR: 0.1}, {_GAMMA: 2, _LR: 0.5}], None),  # no one number
        (
            [{"model.network": name} for name in ("a", "b", "c")],
            ["network = a", "network = b", "network = c"],
        ),
        ([{_SEED: 0}, {_SEED: 1}], ["2 seeds", "2 seeds"]),
        ([{}], [""]),
    ],
)
def test_what_is_not_told_apart_by_one_number_has_names(points, names):
    groups = groups_of(points)
    assert groups.key is None
    assert len(set(groups.colors)) == len(set(groups.names))
    assert names is None or groups.names == names


def run_of(folder: Path, reports: int) -> Run:
    """Six members, two seeds for each of three scales; the first diverged after its first report."""
    points = [{_GAMMA: gamma, _SEED: seed} for gamma in _GAMMAS for seed in (0, 1)]
    rows = []
    for k, point in enumerate(points):
        for step in range(0, 30 if k else 10, 10):
            row = {"step": step, "member": k, "sensing/samples": step, "train/loss": 2.0**-step}
            row["sensing/relative_error"] = 1 / (1 + step)
            if step < 10 * reports:
                row |= {"sensing/singular_value_1": point[_GAMMA] * step / 20}
                row |= {"sensing/target_singular_value_1": point[_GAMMA]}
            rows.append(row)
    (folder / CONFIG).write_text(yaml.safe_dump({"ensemble": [{_GAMMA: list(_GAMMAS)}, {_SEED: [0, 1]}]}))
    write_table(folder / METRICS, sorted(rows, key=lambda row: row["step"]))
    members = [Outcome(p, "finished" if k else "diverged", 30, {}) for k, p in enumerate(points)]
    write_members(folder, "finished", 30, members)
    return load_run(folder)


def test_matrix_sensing_of_an_ensemble(tmp_path):
    """Singular values over those of the member's own T; a cross where one diverged; a bar for the scale."""
    left, right, bar = sensing.draw(run_of(tmp_path, reports=3)).axes
    assert bar.get_ylabel() == "target scale γ"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0.1", "1", "10"]
    shares = [line.get_ydata().tolist() for line in right.lines if len(line.get_xdata()) == 3]
    assert shares == [pytest.approx([0, 0.5, 1])] * 5
    crosses = [line.get_data() for line in left.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [(x.tolist(), y.tolist()) for x, y in map(tuple, crosses)] == [([0], [1.0])]
    assert "diverged (1 of 6)" in [text.get_text() for text in left.get_legend().get_texts()]


def test_a_spectrum_that_was_reported_once_is_no_panel(tmp_path):
    axes = sensing.draw(run_of(tmp_path, reports=1)).axes
    assert [ax.get_title() for ax in axes] == ["Matrix sensing", ""]  # and the colour bar


@pytest.mark.parametrize("ranks", [(1, 2), (2, 1)])
def test_targets_of_different_ranks_have_as_many_singular_values(tmp_path, ranks):
    points = [{"data.r": rank} for rank in ranks]
    rows = []
    for k, rank in enumerate(ranks):
        for step in (0, 10):
            row = {"step": step, "member": k, "sensing/samples": step, "sensing/relative_error": 0.5}
            for i in range(1, rank + 1):
                row |= {f"sensing/singular_value_{i}": 3.0, f"sensing/target_singular_value_{i}": 2 * i}
            rows.append(row)
    write_members(tmp_path, "finished", 10, [Outcome(point, "finished", 10, {}) for point in points])
    (tmp_path / CONFIG).write_text(yaml.safe_dump({"ensemble": [{"data.r": list(ranks)}]}))
    write_table(tmp_path / METRICS, rows)
    _, right = sensing.draw(load_run(tmp_path)).axes
    drawn = [(list(line.get_ydata()), line.get_linestyle()) for line in right.lines if len(line.get_xdata())]
    large = [([1.5, 1.5], "-"), ([0.75, 0.75], "--")]
    assert drawn[:3] == [found for rank in ranks for found in large[:rank]]


def test_a_leap_moves_no_running_median():
    values = np.arange(12.0)
    values[5] = 1e9
    found = run_curves.running_median(values, 3)
    assert found.tolist() == [np.median(values[max(0, i - 1) : i + 2]) for i in range(12)]
    assert found.tolist() == [0.5, 1, 2, 3, 4, 6, 7, 7, 8, 9, 10, 10.5]


def test_the_curves_of_a_run_show_what_it_has(tmp_path):
    ax, bar = run_curves.draw(run_of(tmp_path, reports=1)).axes
    assert (ax.get_title(), ax.get_yscale()) == ("training loss of minibatches", "log")
    assert bar.get_ylabel() == "target scale γ"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test/accuracy", "test accuracy"),
        ("val/lowest_loss", "validation lowest loss"),
        ("measure/noise_scale", "noise scale"),
        ("train/C_reg", "C_reg of the minibatch"),
        ("sensing/relative_error", "sensing relative error"),
        ("my_own", "my own"),
    ],
)
def test_logged_names_in_words(name, words):
    assert metric_in_words(name) == words
