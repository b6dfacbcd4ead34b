"""The Lanczos iteration: extreme eigenvalues of a symmetric matrix that is known by its products.

Of the methods that were tried on Hessians of networks it needs the fewest products. All vectors are kept and
orthogonalised against twice: without that, float32 gives copies of the largest eigenvalue for further ones.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sgdlit.foundations.arguments import require_counts, require_not_negative
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.work import DRAWN, Work

_ROOM = 16  # vectors that memory is taken for at a time
_OF_FOLLOWING = (2e-2, 5e-3)
"""Of λ_k, the error of what follows it with which that is taken to be known: of one value, of several."""


class Matrix(Protocol):
    """A symmetric matrix that is known by its products."""

    def __matmul__(self, vector: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Eigenpairs:
    """The largest eigenvalues of a symmetric matrix, as far as the Lanczos iteration found them.

    Every value is at most the eigenvalue that it stands for (Cauchy), and within its residual of some
    eigenvalue. Of several equal eigenvalues some may be missed: one start vector sees them once, and
    further ones only through rounding.

    Attributes:
        values: from the largest down, float64 ``[count]``; NaN where there are fewer.
        residuals: ‖Au − θu‖ of each, float64 ``[count]``.
        gap: the last of them minus the next Ritz value; infinite where there is none.
        smallest: the smallest Ritz value, at least the smallest eigenvalue.
        products: with the matrix.
        converged: whether all of them are within the tolerance.
        examples: N, of the mean whose matrix it is; 0 of a matrix of another kind.
        vectors: an orthonormal basis of their space, ``[P, count]``; None where it was not asked for.
        following: with it, the Ritz vector of the next value, ``[P]``, which need not have converged; None
            where there is none.
    """

    values: Tensor
    residuals: Tensor
    gap: float
    smallest: float
    products: int
    converged: bool
    vectors: Tensor | None = None
    following: Tensor | None = None
    examples: int = 0


class Krylov:
    """The tridiagonal matrix T = QᵀAQ of a symmetric matrix A, one product after another.

    Q's columns span start, A·start, A²·start, … . β of the last vector is the length of what A leaves
    outside; where that is only rounding, the space is invariant and ``ended`` is true.

    Args:
        matrix: A.
        start: ``[P]``, not zero.
        most: vectors at most.
    """

    def __init__(self, matrix: Matrix, start: Tensor, most: int) -> None:
        self.matrix, self.size = matrix, len(start)
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.ended = False
        self._basis = start.new_empty(min(_ROOM, most + 1, self.size), self.size)
        self._basis[0] = start / start.norm()
        self._rounding = 10 * float(torch.finfo(start.dtype).eps)

    def __len__(self) -> int:
        return len(self.alphas)

    @property
    def basis(self) -> Tensor:
        """Q, as rows: ``[m, P]``."""
        return self._basis[: len(self)]

    @property
    def scale(self) -> float:
        """The largest number of T so far, about ‖A‖."""
        return max(map(abs, (*self.alphas, *self.betas)), default=0.0)

    def extend(self) -> None:
        """One product more."""
        m = len(self)
        known = self._basis[: m + 1]
        left = (self.matrix @ known[m]).to(known)
        along = 0.0
        for _ in range(2):
            overlaps = known @ left
            left = left - overlaps @ known
            along += float(overlaps[m])
        self.alphas.append(along)
        beta = float(left.norm())
        self.ended = not beta > self._rounding * max(self.scale, beta) or m + 1 == self.size
        self.betas.append(beta)
        if not self.ended:
            self._append(left / beta)

    def _append(self, vector: Tensor) -> None:
        m = len(self)
        if m == len(self._basis):
            more = self._basis.new_empty(min(_ROOM, self.size - m), self.size)
            self._basis = torch.cat((self._basis, more))
        self._basis[m] = vector

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of T from the smallest up ``[m]``, and its eigenvectors as columns ``[m, m]``."""
        off = self.betas[:-1]
        return np.linalg.eigh(np.diag(self.alphas) + np.diag(off, 1) + np.diag(off, -1))


def start_vector(like: Tensor, seed: int, purpose: str, step: int, number: int = 0) -> Tensor:
    """Normal numbers of the shape ``[P]``, type and device of ``like``: a function of what else is given.

    Args:
        like: ``[P]``.
        seed: of the run.
        purpose: what the numbers are for.
        step: at which they are drawn.
        number: of several vectors.
    """
    drawn = normal(derive_key(seed, purpose), torch.tensor(step), len(like), number, torch.float64)
    return drawn.to(like)


def lanczos(
    matrix: Matrix,
    start: Tensor,
    count: int = 1,
    tolerance: float = 1e-3,
    most: int = 100,
    vectors: bool = False,
) -> Eigenpairs:
    """The ``count`` largest eigenvalues of a symmetric matrix A ``[P, P]`` (largest, not of largest size).

    It ends when min(r, r²/g) ≤ tolerance·|θ| for each of them, with θ the Ritz value, r its residual and g
    its distance from the nearest other one, at least r; or when the space is invariant. The value that
    follows has to be known too, to 0.5 % of the last of several and to 2 % of one alone, or to the tolerance
    where that is more: while it still rises, it can be an eigenvalue that belongs among them and that the
    start hardly sees. That makes misses rarer and excludes none.

    Cost: one product each step, and 4·P·m operations for m vectors; memory P·m.
    Source: Golub & Van Loan, Matrix computations, 10.1–10.3; Parlett, The symmetric eigenvalue problem, 11.7.

    Args:
        matrix: A.
        start: ``[P]``, see :func:`start_vector`.
        count: at least 1, at most P.
        tolerance: relative, of each value.
        most: products at most.
        vectors: whether to return eigenvectors.

    Raises:
        UserError: a count that is not possible.
    """
    require_counts(most=most)
    require_not_negative(tolerance=tolerance)
    if not 1 <= count <= len(start) or count % 1:
        raise UserError(f"count: {count} is not possible; allowed: 1 to {len(start)}, the parameters")
    krylov = Krylov(matrix, start, most)
    while True:
        krylov.extend()
        if not np.isfinite([krylov.alphas[-1], krylov.betas[-1]]).all():
            return _nothing(count, len(krylov))
        values, components = krylov.ritz()
        residuals = krylov.betas[-1] * np.abs(components[-1])
        if len(krylov) < count + 1 and not krylov.ended and len(krylov) < most:
            continue
        top = slice(-1, -count - 1, -1)
        errors, rounding = _errors(values, residuals), 1e-14 * krylov.scale
        fine = bool((errors[top] <= tolerance * np.abs(values[top]) + rounding).all())
        if len(krylov) > count:
            known = max(tolerance, _OF_FOLLOWING[0 if count == 1 else 1]) * abs(values[-count])
            fine = fine and bool(errors[-count - 1] <= known + rounding)
        converged = fine and (len(krylov) > count or krylov.ended)
        if converged or krylov.ended or len(krylov) >= most:
            break
    found = min(count, len(krylov))
    padded = np.full((2, count), np.nan)
    padded[:, :found] = values[top], residuals[top]
    space = following = None
    if vectors:
        chosen = torch.from_numpy(components[:, : -count - 2 : -1].copy()).to(krylov.basis)
        every = (chosen.T @ krylov.basis).T
        space, following = every[:, :count], every[:, count] if every.shape[1] > count else None
    return Eigenpairs(
        torch.from_numpy(padded[0].copy()),
        torch.from_numpy(padded[1].copy()),
        float(values[-count] - values[-count - 1]) if len(krylov) > count else float("inf"),
        float(values[0]),
        len(krylov),
        converged and found == count,
        space,
        following,
    )


def expected_products(count: int, tolerance: float = 1e-3, size: int | None = None) -> float:
    """About how many products :func:`lanczos` needs on Hessians of networks.

    It is an expectation, over networks in training, for one eigenvalue from a start that knows the gradient
    and for several from a random one, of which what follows them has to be known too: the number depends on
    the spectrum, and each further digit takes one more.

    Args:
        count: of eigenvalues.
        tolerance: relative, of each.
        size: P; no more are needed.
    """
    found = (6.3 if count == 1 else 8.6 + 2.1 * count) + max(0.0, math.log10(1e-3 / tolerance))
    return found if size is None else min(found, float(size))


def work_of_lanczos(products: float, examples: int, starts: int = 1) -> Work:
    """So many products from each start, and the algebra: each step goes twice over the vectors before it, in
    two directions."""
    vectors = starts * (2 * products**2 + 8 * products + DRAWN)
    return Work(products=starts * products * examples, vectors=vectors, calls=starts * (products + 2))


def _errors(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Bounds on the errors of Ritz values ``[m]`` that rise: r, or r²/g where the gap g is larger than r."""
    apart = np.diff(values)
    gaps = np.minimum(np.append(np.inf, apart), np.append(apart, np.inf))
    gaps = np.where(np.isinf(gaps), 0, gaps)
    return residuals**2 / np.maximum(np.maximum(gaps, residuals), np.finfo(np.float64).tiny)


def _nothing(count: int, products: int) -> Eigenpairs:
    """Of a matrix whose products are not finite."""
    nan = torch.full((count,), float("nan"), dtype=torch.float64)
    return Eigenpairs(nan, nan, float("nan"), float("nan"), products, False)
