"""Piecewise-constant learning rates for plain SGD on a noisy quadratic, optimised for the fewest steps (G10).

In each piece every direction relaxes geometrically towards its stationary second moment (F5)::

    s_{j+1} = f_j + ρ_j^{2k_j} (s_j − f_j),   ρ_j = 1 − α_j h,   f_j = α_j c / (B h (2 − α_j h))

so the risk at the end and its derivatives by all rates α_j and durations k_j are exact. The total Σ_j k_j is
minimised under risk <= target over real durations, every rate below the largest stable one, by sequential
quadratic programming in the logarithms on few directions that stand for all
(:mod:`sgdlit.theory.quadrature`); then the durations are rounded and the first step at or below the target
is found exactly, on all directions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.first_crossing import Best
from sgdlit.theory.noisy_quadratic import NoisyQuadratic, check_batch, check_target
from sgdlit.theory.optimizers import log_of_distance
from sgdlit.theory.quadrature import Directions, quadrature_directions
from sgdlit.theory.two_roots import Array

_TOP = 0.9999  # rates stay below this part of the largest stable one


@dataclass(frozen=True)
class Schedule:
    """Rate ``lrs[j]`` for ``durations[j]`` steps each."""

    lrs: tuple[float, ...]
    durations: tuple[int, ...]

    @property
    def steps(self) -> int:
        return sum(self.durations)


def schedule_moments(
    model: NoisyQuadratic, lrs: Sequence[float], durations: Sequence[float], batch_size: float
) -> Array:
    """E θ_i² after each piece, [J + 1, D], row 0 the start.

    Raises:
        UserError: a rate outside (0, largest stable rate), or lists of unequal length.
    """
    if len(lrs) != len(durations):
        raise UserError(f"{len(lrs)} rates and {len(durations)} durations: must be as many")
    largest = model.largest_lr()
    moments = [model.start]
    for lr, k in zip(lrs, durations, strict=True):
        if not 0 < lr < largest:
            raise UserError(f"lr = {lr} in a schedule: must lie above 0 and below {largest:.6g}")
        moments.append(_relax(model, lr, k, batch_size, moments[-1]))
    return np.stack(moments)


def schedule_risk(
    model: NoisyQuadratic, lrs: Sequence[float], durations: Sequence[float], batch_size: float
) -> float:
    """E L at the end of a schedule; durations may be real."""
    return float(0.5 * model.curvature @ schedule_moments(model, lrs, durations, batch_size)[-1])


def optimise_schedule(
    model: NoisyQuadratic,
    batch_size: float,
    target: float,
    guess: tuple[Array, Array],
    iterations: int = 300,
) -> tuple[Schedule, tuple[Array, Array]] | None:
    """The schedule with the fewest steps to the target that is found from a guess (a local optimum).

    Args:
        model: any; plain SGD is meant.
        batch_size, target: as everywhere.
        guess: learning rates and durations, [J] each; J is the number of pieces.
        iterations: of the optimiser.

    Returns:
        The schedule in whole steps, whose last step is the first at or below the target, and the real-valued
        optimum as a guess for a neighbouring batch size; None if the target was not reached.
    """
    from scipy.optimize import minimize

    pieces, top, directions = len(guess[0]), _TOP * model.largest_lr(), quadrature_directions(model)
    first = np.log(np.concatenate([np.clip(guess[0], 1e-12, top), np.maximum(guess[1], 1e-3)]))
    known: dict[bytes, tuple[float, Array]] = {}

    def log_risk(z: Array) -> tuple[float, Array]:
        if z.tobytes() not in known:  # the optimiser asks for value and gradient apart
            known.clear()
            known[z.tobytes()] = log_risk_and_gradient(directions, batch_size, z)
        return known[z.tobytes()]

    constraint = {
        "type": "ineq",
        "fun": lambda z: np.log(target) - log_risk(z)[0],
        "jac": lambda z: -log_risk(z)[1],
    }
    bounds = [(np.log(1e-12), np.log(top))] * pieces + [(np.log(1e-3), np.log(1e15))] * pieces
    result = minimize(
        _log_total, first, jac=True, bounds=bounds, constraints=[constraint], method="SLSQP",
        options={"maxiter": iterations, "ftol": 1e-8},
    )  # fmt: skip
    lrs, durations = np.exp(np.clip(result.x, *np.array(bounds).T)).reshape(2, pieces)
    schedule = _in_whole_steps(model, lrs, durations, batch_size, target)
    return None if schedule is None else (schedule, (lrs, durations))


def best_schedules(
    model: NoisyQuadratic,
    constant: Sequence[Best | None],
    target: float,
    pieces: int = 10,
    on_progress: Callable[[], None] = lambda: None,
) -> list[Schedule | None]:
    """A schedule for each batch size, none slower than its best constant rate, which is one schedule too.

    None stands for a batch size at which no constant rate reaches the target.
    Each is the best of what is found from three guesses: the best constant rate bent into a slow and into a
    steep decay, and the optimum of the batch size before, stretched as the best constant rate's steps are.
    """
    check_target(target)
    if pieces < 1:
        raise UserError(f"pieces = {pieces}: a schedule has at least one")
    found: list[Schedule | None] = []
    guess: tuple[Array, Array] | None = None
    before = 0
    for best in constant:
        if best is None or best.steps == 0:
            found.append(None if best is None else Schedule((), ()))
        else:
            starts = [_decay(model, best, pieces, fall) for fall in (5, 20)]
            if guess is not None:
                starts.append(_stretch(guess, before / best.steps))
            optima = [optimise_schedule(model, best.batch_size, target, start) for start in starts]
            reached = [optimum for optimum in optima if optimum is not None]
            schedule, before = Schedule((best.lr,), (best.steps,)), best.steps
            for other, optimum in reached:
                if other.steps < schedule.steps:
                    schedule, guess = other, optimum
            found.append(schedule)
        on_progress()
    return found


def _relax(model: NoisyQuadratic, lr: float, k: float, batch_size: float, moments: Array) -> Array:
    x = lr * model.curvature
    floor = lr * model.noise / (check_batch(batch_size) * model.curvature * (2 - x))
    return floor + _decay_factor(x, k) * (moments - floor)


def _decay_factor(x: Array, k: float) -> Array:
    """ρ^{2k} for ρ = 1 − x and real k >= 0."""
    return np.exp(2 * k * np.maximum(log_of_distance(x), -1e300)) if k > 0 else np.ones_like(x)


def _log_total(z: Array) -> tuple[float, Array]:
    """log Σ_j k_j and its gradient; z = (log α, log k)."""
    logs = z[len(z) // 2 :]
    weights = np.exp(logs - logs.max())
    gradient = np.concatenate([np.zeros_like(logs), weights / weights.sum()])
    return float(np.log(weights.sum()) + logs.max()), gradient


def log_risk_and_gradient(
    model: NoisyQuadratic | Directions, batch_size: float, z: Array
) -> tuple[float, Array]:
    """The logarithm of the risk at the end and its gradient, by one pass back through the pieces.

    ``z`` holds the logarithms of the J rates and then of the J durations, [2J], and so does the gradient.
    """
    lrs, durations = np.exp(z).reshape(2, -1, 1)
    h, c = model.curvature, model.noise
    x = lrs * h  # [J, D] here and below
    floor = lrs * c / (batch_size * h * (2 - x))
    exponent = 2 * durations * np.maximum(log_of_distance(x), -1e3)
    decay = np.exp(exponent)
    moments, away, weights = model.start, np.empty_like(x), np.empty_like(x)
    for j in range(len(x)):
        away[j] = decay[j] * (moments - floor[j])
        moments = floor[j] + away[j]
    weights[-1] = 0.5 * h
    for j in range(len(x) - 1, 0, -1):
        weights[j - 1] = weights[j] * decay[j]
    # dρ^{2k}/d log α = −2k x ρ^{2k}/ρ, with ρ kept from 0 where ρ^{2k} vanishes anyway.
    rho = np.where(np.abs(1 - x) < 1e-12, 1e-12, 1 - x)
    by_duration = (weights * away * exponent).sum(1)
    by_lr = (weights * ((1 - decay) * floor * 2 / (2 - x) - away * 2 * durations * x / rho)).sum(1)
    risk = float(0.5 * h @ moments)
    return float(np.log(risk)), np.concatenate([by_lr, by_duration]) / risk


def _decay(model: NoisyQuadratic, best: Best, pieces: int, fall: float) -> tuple[Array, Array]:
    """A guess: from a larger rate down to the best constant one over ``fall``, in pieces of equal length."""
    top = min(0.9 * model.largest_lr(), 10 * best.lr)
    return np.geomspace(top, best.lr / fall, pieces), np.full(pieces, best.steps / pieces)


def _stretch(guess: tuple[Array, Array], ratio: float) -> tuple[Array, Array]:
    return guess[0] * ratio, guess[1] / ratio


def _in_whole_steps(
    model: NoisyQuadratic, lrs: Array, durations: Array, batch_size: float, target: float
) -> Schedule | None:
    """Durations rounded, the last one up to the first step at or below the target."""
    whole = np.rint(durations).astype(np.int64)
    lrs, whole = lrs[whole > 0], whole[whole > 0]
    if len(whole) == 0:
        return None
    whole[-1] += len(durations) + whole.sum() // 1000  # what rounding of all pieces may have taken
    moments, kept = model.start, []
    for lr, k in zip(lrs.tolist(), whole.tolist(), strict=True):
        steps = first_step_in_piece(model, lr, k, batch_size, target, moments)
        kept.append((lr, k if steps is None else steps))
        if steps is not None:
            used = [piece for piece in kept if piece[1] > 0]
            return Schedule(tuple(p[0] for p in used), tuple(p[1] for p in used))
        moments = _relax(model, lr, float(k), batch_size, moments)
    return None


def first_step_in_piece(
    model: NoisyQuadratic, lr: float, length: int, batch_size: float, target: float, moments: Array
) -> int | None:
    """The first of the next ``length`` steps (0 is the state given) with risk <= target.

    Each direction moves one way only, so directions that fall are least at the end of an interval and those
    that rise at its beginning: an interval whose bound is above the target is discarded.
    """
    x, half = lr * model.curvature, 0.5 * model.curvature
    floor = lr * model.noise / (batch_size * model.curvature * (2 - x))
    above = moments >= floor
    falling, rising = half * np.where(above, moments - floor, 0), half * np.where(above, 0, floor - moments)
    base = float(half @ floor)
    seen: dict[int, tuple[float, float]] = {}

    def parts(k: int) -> tuple[float, float]:
        if k not in seen:
            decay = _decay_factor(x, float(k))
            seen[k] = float(falling @ decay), float(rising @ decay)
        return seen[k]

    if base + parts(0)[0] - parts(0)[1] <= target:
        return 0
    waiting = [(0, length)] if length > 0 else []
    while waiting:
        a, b = waiting.pop()
        if base + parts(b)[0] - parts(a)[1] > target:
            continue
        if b == a + 1:
            if base + parts(b)[0] - parts(b)[1] <= target:
                return b
            continue
        waiting += [((a + b) // 2, b), (a, (a + b) // 2)]
    return None
