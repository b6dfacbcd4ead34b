"""Spectra: one number per direction, as the eigenvalues of a covariance or of a curvature; plain numpy."""

from typing import Literal

import numpy as np

from sgdlit.foundations.errors import UserError

Spectrum = Literal["isotropic", "power_law"]


def power_law(d: int, exponent: float) -> np.ndarray:
    """i^(−exponent) for i = 1 … d, float64 ``[d]``; all ones for exponent 0.

    Raises:
        UserError: d below 1, an exponent that is not finite.
    """
    if d < 1:
        raise UserError(f"dimensions = {d}: must be at least 1")
    if not abs(exponent) < float("inf"):
        raise UserError(f"exponent = {exponent}: must be finite")
    return np.arange(1, d + 1, dtype=np.float64) ** -exponent


def eigenvalues(key: str, d: int, spectrum: Spectrum | list[float], exponent: float) -> np.ndarray:
    """The spectrum that a config asks for, float64 ``[d]``, none of it negative.

    Args:
        key: of the config, for messages.
        d: how many numbers.
        spectrum: ``isotropic`` for ones, ``power_law`` for i^(−exponent), or the d numbers themselves.
        exponent: of the power law.

    Raises:
        UserError: another name, a list of another length, numbers below 0 or without a finite sum.
    """
    if spectrum in ("isotropic", "power_law"):
        return power_law(d, exponent if spectrum == "power_law" else 0.0)
    if isinstance(spectrum, str):
        raise UserError(
            f"{key}: {spectrum} is not possible; allowed: isotropic, power_law, or a list of numbers"
        )
    numbers = np.array(spectrum, dtype=np.float64)
    if len(numbers) != d:
        raise UserError(
            f"{key}: a list of {len(numbers)} numbers is not possible; allowed: one for each of d = {d}"
        )
    if not (np.isfinite(numbers.sum()) and (numbers >= 0).all()):
        raise UserError(
            f"{key}: {spectrum} is not possible; allowed: numbers from 0 upwards with a finite sum"
        )
    return numbers
