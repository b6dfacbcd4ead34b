"""A sample of the coverage tests of ``tests/long``, on numbers alone: one that is plainly wrong fails.

Each interval is drawn 1000 times or more; a share of 0.95 has a standard error of 0.007 then, and few values
show whether quantiles are Student's.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from noise_draws import CURVATURES, THETA, VARIANCES, truth

from sgdlit.foundations.intervals import t_interval
from sgdlit.measures import noise_of_steps
from sgdlit.measures.estimate import mean_of, ratio_of_means
from sgdlit.measures.gradient_noise import noise_of_examples
from sgdlit.measures.train_test_gap import gap_of

Hits = Iterator[bool]


def of_students(runs: int) -> Hits:
    for values in np.random.default_rng(0).normal(3, 2, (5000, runs)):
        low, high = t_interval(values)
        yield low <= 3 <= high


def of_means() -> Hits:
    """Of xᵀAx with normal x and 12 probes, as of a trace."""
    eigenvalues = np.array([1.0, 0.4, 0.125, 0.025, 0.01])
    for draws in np.random.default_rng(0).normal(0, 1, (2000, 12, 5)) ** 2 @ eigenvalues:
        found = mean_of(torch.from_numpy(draws))
        yield found.low <= eigenvalues.sum() <= found.high


def of_ratios() -> Hits:
    """E b²/E b = 5 over 100 draws of b."""
    for b in np.random.default_rng(0).gamma(4, 1, (1000, 100)):
        found = ratio_of_means(torch.from_numpy(b**2), torch.from_numpy(b))
        yield found.low <= 5 <= found.high


def of_steps(steps: int) -> Hits:
    """The noise scale 3 from normal pairs, of which each step has one."""
    for noise in np.random.default_rng(0).normal(0, 1, (2000, 2, steps)):
        _, low, high = noise_of_steps((3 + noise[0]).tolist(), (1 + 0.1 * noise[0] + 0.1 * noise[1]).tolist())
        yield low <= 3 <= high


def of_examples(drawn: int, population: int | None = None) -> Hits:
    """The noise scale of the noisy quadratic, of a distribution or of some examples, a part of which is
    drawn."""
    random = np.random.default_rng(0)
    mean, deviation = (np.array(CURVATURES) * THETA.numpy()), VARIANCES.sqrt().numpy()
    for _ in range(1000):
        all_of_them = mean + deviation * random.normal(0, 1, (population or drawn, 5))
        whole = all_of_them.mean(0)
        between = ((all_of_them - whole) ** 2).sum() / (len(all_of_them) - 1)
        expected = between / (whole**2).sum() if population else truth()
        seen = all_of_them[:drawn]
        own = seen.mean(0)
        norms, products = torch.from_numpy((seen**2).sum(1)), torch.from_numpy(seen @ own)
        found = noise_of_examples(norms, products, float((own**2).sum()), population or math.inf)
        yield found.low <= expected <= found.high


def of_gaps() -> Hits:
    """Between losses that are normal numbers: 100 of a training set of 150, and 400 of a distribution."""
    random = np.random.default_rng(0)
    for _ in range(2000):
        training, test = random.normal(0, 1, 150), random.normal(0.5, 1, 400)
        parts = ((float(x.mean()), float(x.var(ddof=1)), len(x)) for x in (training[:100], test))
        found = gap_of(*parts, population=150)
        yield found.low <= 0.5 - training.mean() <= found.high


EXACT = {"Student's, of three", "Student's, of ten"}
INTERVALS: dict[str, Callable[[], Hits]] = {
    "Student's, of three": lambda: of_students(3),
    "Student's, of ten": lambda: of_students(10),
    "a mean of skewed draws": of_means,
    "a ratio of means": of_ratios,
    "the noise scale of four steps": lambda: of_steps(4),
    "the noise scale of examples": lambda: of_examples(64),
    "the noise scale of a part": lambda: of_examples(150, 300),
    "the gap": of_gaps,
}


@pytest.mark.parametrize("name", INTERVALS)
def test_an_interval_holds_the_truth_as_often_as_it_says(name):
    hits = list(INTERVALS[name]())
    four_errors = 4 * math.sqrt(0.95 * 0.05 / len(hits))
    within = four_errors if name in EXACT else 0.025  # others are right in the limit
    assert sum(hits) / len(hits) == pytest.approx(0.95, abs=within)
