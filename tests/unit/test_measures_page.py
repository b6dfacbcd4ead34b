"""The page of a run's measures: which panels it has, and that they show the columns as they are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from sgdlit.figures.measures import draw
from sgdlit.figures.run_curves import draw as draw_curves
from sgdlit.foundations.files import write_table
from sgdlit.runs.reading import Run, load_run

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]


def a_run(
    folder: Path, rows: list[dict], points: list[dict] | None = None, diverged: tuple[int, ...] = ()
) -> Run:
    """A folder of a run, or of an ensemble with these points, of which some members diverged."""
    folder.mkdir(parents=True)
    config = {"name": "run", "data": {"init_args": {"batch_size": 8}}}
    status: dict = {"state": "finished", "step": STEPS[-1]}
    if points is not None:
        config["ensemble"] = [{"x": [0]}]
        status["members"] = [
            {"point": p, "state": "diverged" if k in diverged else "finished", "step": 256, "reached": {}}
            for k, p in enumerate(points)
        ]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps(status))
    write_table(folder / "metrics.csv", rows)
    return load_run(folder)


def titles(figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes]


def panel(figure, title: str):
    (ax,) = (ax for ax in figure.axes if ax.get_title().startswith(title))
    return ax


def lines(ax) -> list[tuple[list[float], list[float]]]:
    """Those with points, in order."""
    return [
        (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines if len(line.get_xdata()) > 2
    ]


def test_only_panels_that_have_columns_are_drawn(tmp_path):
    rows = [{"step": s, "train/loss": 1.0 / (1 + s), "measure/alignment": 0.5} for s in STEPS]
    assert titles(draw(a_run(tmp_path / "a", rows))) == ["Loss", "Alignment"]
    assert draw(a_run(tmp_path / "b", [{"step": 3, "train/lr": 0.1}])) is None


def test_curvature_stands_beside_the_limit_of_the_optimizer(tmp_path):
    rows = [
        {
            "step": s, "measure/sharpness": 3 + s, "measure/batch_sharpness": 5 + s,
            "measure/batch_sharpness_low": 4 + s, "measure/batch_sharpness_high": 6 + s,
            "measure/sharpness_limit": 40.0,
        }
        for s in STEPS
    ]  # fmt: skip
    figure = draw(a_run(tmp_path / "run", rows))
    sharpness, batch, limit = lines(panel(figure, "Curvature"))
    assert sharpness == (STEPS, [3 + s for s in STEPS])
    assert batch == (STEPS, [5 + s for s in STEPS])
    assert limit == (STEPS, [40.0] * len(STEPS))
    (band,) = panel(figure, "Curvature").collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert {4.0, 6.0, 260.0, 262.0} <= set(heights.tolist())
    assert panel(figure, "Curvature").get_xscale() == "symlog"  # the steps are log-spaced


def test_a_limit_alone_is_no_panel(tmp_path):
    rows = [{"step": s, "measure/sharpness_limit": 4.0, "train/loss": 1.0} for s in STEPS]
    assert titles(draw(a_run(tmp_path / "run", rows))) == ["Loss"]


def test_the_noise_scale_has_the_batch_size_and_an_interval_without_an_end(tmp_path):
    rows = [
        {
            "step": s, "measure/noise_scale": 2.0 * (1 + s), "measure/noise_scale_low": 1.0,
            "measure/noise_scale_high": math.inf if s > 9 else 5.0 * (1 + s),
        }
        for s in STEPS
    ]  # fmt: skip
    figure = draw(a_run(tmp_path / "run", rows))
    ax = panel(figure, "Noise scale")
    assert [8.0, 8.0] in [list(line.get_ydata()) for line in ax.lines]
    assert ax.get_ylim()[1] < 1e4
    assert np.isfinite(ax.collections[0].get_paths()[0].vertices).all()
    figure.canvas.draw()


def test_c_reg_is_drawn_in_two_parts_at_three_batch_sizes_at_most(tmp_path):
    sizes = [1, 4, 8, 64, 128]
    rows = [
        {"step": s, "measure/C_reg_of_gradient": 1.0}
        | {f"measure/C_reg_of_noise_at_{b}": 1 / b for b in sizes}
        for s in STEPS
    ]
    ax = panel(draw(a_run(tmp_path / "run", rows)), "C_reg")
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == [
        "of the gradient, ¼‖∇C‖²",
        *(f"of the noise at B = {size}" for size in (1, 8, 128)),
    ]


def test_spectra_are_in_the_order_of_their_numbers_with_those_of_the_target(tmp_path):
    rows = [
        {"step": s}
        | {f"measure/sharpness{k}": 20.0 - i for i, k in enumerate(["", *(f"_{j}" for j in range(2, 12))])}
        | {f"sensing/singular_value_{k}": 1.0 / k for k in (1, 2)}
        | {f"sensing/target_singular_value_{k}": 2.0 / k for k in (1, 2)}
        | {"measure/singular_value_1/layers.1.weight": 3.0}
        for s in STEPS
    ]
    figure = draw(a_run(tmp_path / "run", rows))
    eigenvalues = [values[0] for _, values in lines(panel(figure, "Eigenvalues"))]
    assert eigenvalues == [20.0 - k for k in range(11)]
    singular = [values[0] for _, values in lines(figure.axes[titles(figure).index("Singular values")])]
    assert singular == [1.0, 0.5, 2.0, 1.0]
    assert "Singular values of layers.1.weight" in titles(figure)


@pytest.mark.parametrize("count", [3, 30])
def test_colours_are_members_and_seeds_share_one(tmp_path, count):
    points = [{"model.optimizer.lr": 0.1 * (k // 2), "seed_everything": k % 2} for k in range(2 * count)]
    rows = [
        {"step": s, "member": k, "measure/sharpness": float(k), "measure/directional_sharpness": k / 2}
        for s in STEPS
        for k in range(len(points))
    ]
    figure = draw(a_run(tmp_path / "run", rows, points))
    drawn = [line for line in panel(figure, "Curvature").lines if len(line.get_xdata()) > 2]
    colors = [line.get_color() for line in drawn]
    assert len(drawn) == 4 * count
    assert len(set(colors)) == count
    assert colors[0] == colors[1] != colors[2]
    assert not figure.legends
    bar = figure.axes[-1]
    assert bar.get_xlabel() == "learning rate ε"
    ticks = [label.get_text() for label in bar.get_xticklabels()]
    assert ticks[0] == "0"
    assert len(ticks) == min(count, 8)
    figure.canvas.draw()


@pytest.mark.parametrize("count", [2, 30])
def test_members_without_a_number_have_names(tmp_path, count):
    points = [{"model.network": f"kind {k}"} for k in range(count)]
    rows = [{"step": s, "member": k, "measure/sharpness": 1.0 + k} for s in STEPS for k in range(count)]
    (legend,) = draw(a_run(tmp_path / "run", rows, points)).legends
    assert legend.get_texts()[0].get_text() == "network = kind 0"
    assert len(legend.get_texts()) == min(count, 8)


def test_a_member_without_a_number_leaves_a_gap(tmp_path):
    rows = [{"step": s, "measure/sharpness": math.nan if s == 4 else 1.0} for s in STEPS]
    ((_, values),) = lines(panel(draw(a_run(tmp_path / "run", rows)), "Curvature"))
    assert [math.isnan(v) for v in values] == [s == 4 for s in STEPS]


def test_what_may_be_negative_is_drawn_and_an_estimate_of_what_is_positive_is_marked(tmp_path):
    rows = [
        {
            "step": s, "measure/cosine_of_updates": -0.5, "measure/noise_scale": -3.0 if s == 4 else 3.0 + s,
            "measure/noise_scale_low": 0.0, "measure/noise_scale_high": math.inf,
            "measure/squared_gradient": -0.1 if s in (4, 256) else 1.0,
        }
        for s in STEPS
    ]  # fmt: skip
    figure = draw(a_run(tmp_path / "run", rows))
    ((_, cosines),) = lines(panel(figure, "Alignment"))
    assert cosines == [-0.5] * len(STEPS)
    (_, scales), *_ = lines(panel(figure, "Noise scale"))
    assert [math.isnan(v) for v in scales] == [s == 4 for s in STEPS]
    assert panel(figure, "Noise scale").get_yscale() == "log"
    assert marks(panel(figure, "Noise scale")) == {"^": ([4], [1.0])}  # at the upper edge: no upper end
    assert marks(panel(figure, "Squared norm")) == {"v": ([4, 256], [0.0, 0.0])}
    words = [text.get_text() for text in panel(figure, "Noise scale").get_legend().get_texts()]
    assert words[-1] == "tr Σ/‖∇C‖²: estimate not above 0"


def marks(ax) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and heights, in those of the panel, of the marks at its edges."""
    at_edges = [line for line in ax.lines if line.get_marker() in "^v" and len(line.get_xdata())]
    assert all(line.get_transform() == ax.get_xaxis_transform() for line in at_edges)
    return {line.get_marker(): (list(line.get_xdata()), list(line.get_ydata())) for line in at_edges}


def test_members_that_diverged_move_no_axis_and_the_page_says_so(tmp_path):
    points = [{"model.optimizer.lr": lr} for lr in (0.1, 1.0, 10.0, 100.0)]
    rows = [
        {"step": s, "member": k, "measure/train_test_gap": v, "measure/trace": abs(v)}
        for s in STEPS
        for k, v in enumerate((0.5, 1.0, 1.5, (-10.0) ** s if s < 32 else math.nan))
    ]
    figure = draw(a_run(tmp_path / "a", rows, points, diverged=(3,)))
    for title in ("Train–test gap", "Trace"):
        low, high = panel(figure, title).get_ylim()
        assert 0.4 < low < 0.5
        assert 1.5 < high < 1.6
        assert len(lines(panel(figure, title))) == 4
    assert "1 of 4 diverged; the axes fit the others" in figure.get_suptitle()
    of_all = draw(a_run(tmp_path / "b", rows, points, diverged=(0, 1, 2, 3)))
    assert panel(of_all, "Train–test gap").get_ylim()[1] > 1e15
    assert "the axes fit" not in of_all.get_suptitle()


def test_curves_of_a_run_are_not_stretched_by_members_that_diverged(tmp_path):
    points = [{"model.optimizer.lr": lr} for lr in (0.1, 1.0)]
    rows = [{"step": s, "member": k, "train/loss": (1.0, 10.0**s)[k]} for s in STEPS[:6] for k in range(2)]
    figure = draw_curves(a_run(tmp_path / "run", rows, points, diverged=(1,)))
    assert figure.axes[0].get_ylim()[1] < 2
    assert figure.get_suptitle() == "1 of 2 diverged; the axes fit the others"


def test_every_panel_shows_all_steps_of_the_run(tmp_path):
    rows = [{"step": s, "measure/trace": 1.0 if s == 256 else "", "train/loss": 2.0} for s in STEPS]
    figure = draw(a_run(tmp_path / "run", rows))
    ends = {ax.get_xlim() for ax in figure.axes}
    assert len(ends) == 1
    ((low, high),) = ends
    assert -10 < low < 0
    assert 256 < high < 266


def test_spectra_of_an_ensemble_say_whose_they_are(tmp_path):
    points = [{"model.optimizer.lr": 0.1 * k, "seed_everything": k} for k in range(3)]
    rows = [
        {"step": s, "member": k, "measure/singular_value_1/a.weight": 1.0} for s in STEPS for k in range(3)
    ]
    named = draw(a_run(tmp_path / "a", rows, points, diverged=(0,)))
    assert "Singular values of a.weight\nof member 1 of 3 (ε = 0.1)" in titles(named)
    seeds = [{"seed_everything": k} for k in range(3)]
    assert "Singular values of a.weight\nof member 0 of 3" in titles(draw(a_run(tmp_path / "b", rows, seeds)))


def found_afterwards(folder: Path, rows: list[dict]) -> Run:
    """The run, after ``measure --run`` took these."""
    write_table(folder / "measures.csv", rows)
    return load_run(folder)


def test_what_was_measured_afterwards_is_marked_by_its_examples(tmp_path):
    a_run(tmp_path / "run", [{"step": s, "train/loss": 1.0, "measure/sharpness": 3.0 + s} for s in STEPS])
    rows = [
        {"step": 0, "measure/sharpness": 2.0, "measure/trace": 9.0, "examples": 200, "mode": "eval"},
        {"step": 256, "measure/sharpness": 4.0, "measure/trace": 7.0, "examples": 200, "mode": "eval"},
        {"step": 256, "measure/sharpness": 5.0, "measure/trace": "", "examples": 50, "mode": "train"},
    ]
    figure = draw(found_afterwards(tmp_path / "run", rows))
    ax = panel(figure, "Curvature")
    drawn = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(drawn) == [
        "sharpness λ₁",
        "sharpness λ₁, afterwards on 200 examples",
        "sharpness λ₁, afterwards on 50 examples in train mode",
    ]
    own, *found = (line for line in ax.lines if len(line.get_xdata()))
    assert list(own.get_ydata()) == [3.0 + s for s in STEPS]
    points = [(list(line.get_xdata()), list(line.get_ydata())) for line in found]
    assert points == [([0, 256], [2.0, 4.0]), ([256], [5.0])]
    assert all(line.get_markerfacecolor() == "none" for line in found)
    assert {line.get_color() for line in found} == {own.get_color()}
    assert len({line.get_marker() for line in found}) == len(found)  # so that they are told apart
    (trace,) = (line for line in panel(figure, "Trace").lines if len(line.get_xdata()))
    assert list(trace.get_ydata()) == [9.0, 7.0]


def test_what_was_measured_afterwards_of_members_goes_to_each_and_needs_nothing_of_the_run(tmp_path):
    a_run(
        tmp_path / "run", [{"step": 0, "member": k, "train/lr": 0.1} for k in range(2)], [{"x": 0}, {"x": 1}]
    )
    rows = [
        {"step": s, "member": k, "measure/sharpness": 10.0 * k + s, "measure/sharpness_limit": 20.0}
        | {"examples": 64, "mode": "eval"}
        for s in STEPS
        for k in range(2)
    ]
    figure = draw(found_afterwards(tmp_path / "run", rows))
    ax = panel(figure, "Curvature")
    assert [values for _, values in lines(ax)][:2] == [[10.0 * k + s for s in STEPS] for k in range(2)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "sharpness λ₁, afterwards on 64 examples",
        "limit of the optimizer (2/ε for SGD)",
    ]
