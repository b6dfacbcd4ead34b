"""The two-dimensional example of implicit gradient regularization (Barrett & Dherin, arXiv 2009.11162).

E(a, b) = ½ (y − a b x)². Its minima are the hyperbola ab = y/x, of which the flattest points have the
smallest a² + b² (there the trace of the Hessian is x²(a² + b²)). Gradient flow keeps a² − b². Descent of
step h follows instead, to one order more, the flow on Ẽ = E + λR with λ = hP/4, R = (1/P) Σ_i (∂_i E)² and
P = 2 parameters, that is on E + (h/4) ‖∇E‖²; it ends at a flatter minimum the larger h is.
"""

from dataclasses import dataclass

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.flow import follow


@dataclass(frozen=True)
class BarrettDherin:
    """E(a, b) = ½ (y − a b x)² and where descent starts; the defaults are the paper's."""

    x: float = 1.0
    y: float = 0.6
    start: tuple[float, float] = (2.8, 3.5)

    def gradient(self, point: np.ndarray, step: float = 0.0) -> np.ndarray:
        """The gradient of E + (step/4) ‖∇E‖² at (a, b), with ‖∇E‖² = r²x²(a² + b²), r = y − abx."""
        swapped, residual = point[::-1], self.y - self.x * point[0] * point[1]
        square = point @ point
        plain = -self.x * residual * swapped
        penalty = 2 * self.x**2 * residual * (residual * point - self.x * square * swapped)
        return plain + step / 4 * penalty

    def curvature(self) -> float:
        """The larger eigenvalue of the Hessian of E at the start: descent needs h below about 2 over it."""
        a, b = self.start
        mixed = self.x * (2 * self.x * a * b - self.y)
        return float(np.linalg.eigvalsh([[(self.x * b) ** 2, mixed], [mixed, (self.x * a) ** 2]])[-1])


def descent_path(problem: BarrettDherin, step: float, time: float) -> np.ndarray:
    """Gradient descent of size ``step`` for ⌈time/step⌉ updates; [T+1, 2], the first row is the start.

    Raises:
        UserError: a step that is not positive, or one at which the iterates leave every bound.
    """
    if step <= 0:
        raise UserError(f"step = {step}: must be positive")
    points = [np.array(problem.start)]
    for _ in range(int(np.ceil(time / step))):
        points.append(points[-1] - step * problem.gradient(points[-1]))
        if not np.abs(points[-1]).max() < 1e6:
            raise UserError(
                f"step = {step}: gradient descent diverges; the curvature at the start is "
                f"{problem.curvature():.3g}, so steps far above {2 / problem.curvature():.3g} cannot work"
            )
    return np.stack(points)


def modified_path(problem: BarrettDherin, step: float, time: float, points: int = 200) -> np.ndarray:
    """The flow on E + (step/4)‖∇E‖² at ``points`` log-spaced times up to ``time``; [points, 2].

    ``step = 0`` is gradient flow on E itself.
    """
    times = np.concatenate([[0.0], np.geomspace(1e-4 * time, time, points - 1)])
    return follow(lambda point: -problem.gradient(point, step), np.array(problem.start), times)


def squared_norm(path: np.ndarray) -> float:
    """a² + b² at the end of a path."""
    return float((path[-1] ** 2).sum())
