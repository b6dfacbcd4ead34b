"""The study of minimum-norm least squares from rank-one measurements: the baseline of matrix sensing (B2)."""

import numpy as np
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import error_limit, mean_and_error
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.papers.claim import Claim
from sgdlit.papers.studies.options import LeastSquaresOptions
from sgdlit.papers.studies.study import Progress, Study, silent
from sgdlit.theory.least_squares import expected_error, minimum_norm


def run(options: LeastSquaresOptions, progress: Progress = silent) -> Study:
    """All of it; table ``least_squares``."""
    _check(options)
    study, rows = Study(), []
    for i, share in enumerate(sorted(options.shares)):
        samples, squares = round(share * options.d**2), []
        for draw in range(options.draws):
            squares.append(_squared_error(options, samples, draw))
            progress("draws", i * options.draws + draw + 1, len(options.shares) * options.draws)
        rows.append(_row(options, samples, np.array(squares)))
    study.tables["least_squares"] = rows
    study.claims = [_claim(options, row) for row in rows]
    study.notes.append("the published 0.5 at d²/2 samples is the square of the ratio, whose root is 0.707")
    return study


def _check(options: LeastSquaresOptions) -> None:
    if not 1 <= options.r <= options.d:
        raise UserError(f"r = {options.r}: allowed are 1 to d = {options.d}")
    if options.draws < 5 or not options.shares:
        raise UserError(f"draws = {options.draws}, shares = {options.shares}: at least 5 and 1 are needed")
    for share in options.shares:
        if not 1 <= round(share * options.d**2) < options.d**2:
            raise UserError(f"shares = {share}: allowed is what makes 1 to d² − 1 samples")


def _squared_error(options: LeastSquaresOptions, samples: int, draw: int) -> float:
    """‖M − T‖²/‖T‖² of one draw of T and of the measurements."""
    d, key = options.d, derive_key(options.seed, f"theory/least-squares-{draw}")
    factors = normal(key, torch.arange(2 * options.r), d, substream=0, dtype=torch.float64)
    target = factors[: options.r].T @ factors[options.r :]
    a, b = normal(key, torch.arange(samples), 2 * d, substream=1, dtype=torch.float64).split(d, 1)
    found = minimum_norm(a.contiguous(), b.contiguous(), ((a @ target) * b).sum(1), options.tolerance)
    return float((found.matrix - target).square().sum() / target.square().sum())


def _row(options: LeastSquaresOptions, samples: int, squares: np.ndarray) -> dict[str, object]:
    mean, error = mean_and_error(squares)
    return {
        "samples": samples,
        "share": samples / options.d**2,
        "error": float(np.sqrt(mean)),
        "squared_error": float(mean),
        "standard_error_of_square": float(error),
        "expected": expected_error(samples, options.d),
    }


def _claim(options: LeastSquaresOptions, row: dict[str, object]) -> Claim:
    share, expected, spread = row["share"], row["expected"], row["standard_error_of_square"]
    statement = (
        f"relative error of minimum-norm least squares from {share:.3g} d² samples (root mean square, "
        f"{options.draws} draws)"
    )
    holds = abs(row["squared_error"] - expected**2) <= error_limit(options.draws) * spread
    found = f"{row['error']:.4g} (square {row['squared_error']:.4g} ± {2 * spread:.2g})"
    return Claim("B2", statement, f"√(1 − n/d²) = {expected:.4g}", found, holds)
