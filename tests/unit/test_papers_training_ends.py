"""Figures 2 and 5 of Smith et al. 2021 on made-up sweeps, in which what holds is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from sgdlit.papers.support import training_ends

SEEDS = range(4)
RATES, STRENGTHS = [2.0**k for k in range(-7, -2)], [2.0**k for k in range(-4, 1)]


def found(monkeypatch, train, test, loss_of_strength=1.0, lost=()):
    """Evidence where rates have these highest accuracies, and losses over λ are some times those over ε."""
    cells: dict[str, list] = {name: [] for name in ("grid", "state", "seed", *training_ends._KEYS.values())}
    cells |= {column: [] for column in training_ends._COLUMNS.values()}
    for grid, places in (("rate", RATES), ("strength", STRENGTHS)):
        for i, place in enumerate(places):
            for seed in SEEDS:
                moved = 1e-4 * np.sin(seed + 7 * i)
                values = {
                    "c_reg": 1 / place + seed,
                    "loss": 0.1 * (loss_of_strength if grid == "strength" else 1.0),
                    "final_accuracy": train[i] if grid == "rate" else train[3],
                    "accuracy": train[i] + moved,
                    "test_accuracy": test[i] + moved,
                }
                cells["grid"].append(grid)
                cells["state"].append("diverged" if (grid, place, seed) in lost else "finished")
                cells["seed"].append(seed)
                for name, key in training_ends._KEYS.items():
                    cells[key].append(place if name == grid else None)
                for name, column in training_ends._COLUMNS.items():
                    cells[column].append(values[name])
    monkeypatch.setattr(training_ends, "load_sweep", lambda store: SimpleNamespace(cells=cells))
    return training_ends.evidence(None)


def verdicts(evidence):
    return [(f.claim, f.holds) for f in evidence.findings]


def test_one_rate_for_training_and_a_larger_one_for_the_test(monkeypatch):
    evidence = found(monkeypatch, [0.9, 0.99, 0.95, 0.95, 0.95], [0.7, 0.71, 0.72, 0.73, 0.72])
    best = evidence.findings[0]
    assert (best.found, best.holds) == ("2⁻⁶ to 2⁻⁶, and 2⁻⁴", True)
    assert [holds for claim, holds in verdicts(evidence) if claim == "F5"] == [True] * 4


def test_no_rate_is_best_where_all_fit_the_training_set(monkeypatch):
    evidence = found(monkeypatch, [1.0] * 5, [0.7, 0.71, 0.72, 0.73, 0.72], loss_of_strength=3.0)
    assert evidence.findings[0].found == "2⁻⁷ to 2⁻³, and 2⁻⁴"
    assert [f.found for f in evidence.findings[3:]] == ["3.0", "3.0"]
    assert verdicts(evidence) == [("F2", False), ("F5", True), ("F5", True), ("F5", False), ("F5", False)]
    assert all(f.note for f in evidence.findings if not f.holds)


def test_a_rate_that_is_best_for_both_is_none_of_the_claim(monkeypatch):
    evidence = found(monkeypatch, [0.9, 0.9, 0.9, 0.99, 0.9], [0.7, 0.7, 0.7, 0.8, 0.7])
    assert not evidence.findings[0].holds


def test_pairs_are_those_of_seeds_with_which_both_runs_ended(monkeypatch):
    """At λ = 2⁻⁴ the pairs of seeds 1 to 3 are left, at 2⁻³ those of 0, 1 and 3."""
    lost = {("strength", 2**-4, 0), ("rate", 2**-3, 2)}
    evidence = found(monkeypatch, [1.0] * 5, [0.7] * 5, loss_of_strength=2.0, lost=lost)
    assert [f.found for f in evidence.findings[3:]] == ["2.0", "2.0"]
    rows = evidence.tables["ends"]
    first, second = training_ends._paired(rows, ("strength", 2**-3), ("rate", 2**-3), "c_reg")
    np.testing.assert_array_equal(first, [8, 9, 11])
    np.testing.assert_array_equal(second, [8, 9, 11])


def test_it_is_drawn(monkeypatch):
    evidence = found(monkeypatch, [1.0] * 5, [0.7] * 5)
    drawn = training_ends.draw(evidence.tables)
    losses = drawn["training_ends"].axes[2]
    assert len(losses.lines) == 6  # two curves, each with the ends of its bars
    assert len(evidence.tables["ends"]) == 10 * len(SEEDS)


@pytest.mark.parametrize(("value", "words"), [(2**-7, "2⁻⁷"), (1.0, "2⁰"), (2.0**-12, "2⁻¹²")])
def test_powers_in_words(value, words):
    assert training_ends._power(value) == words
