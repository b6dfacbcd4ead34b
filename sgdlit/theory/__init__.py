"""What does theory say? Closed forms and exact simulations in float64, without any trainer.

- modified flow: ``modified_losses`` (the losses of Eqs 1, 11, 20, 39), ``flow`` (gradient flow),
  ``epoch_orders`` (an epoch in all orders), ``modified_flow`` (how far they are apart), ``minibatch_penalty``
  (Eqs 2 and 22), ``implicit_gradient`` (the example of Barrett & Dherin), on ``losses`` and ``problems``
- noisy quadratic model: ``noisy_quadratic`` (exact risk at one learning rate) on ``optimizers`` and
  ``two_roots``, ``recursion`` (at any rates), ``simulation``, ``first_crossing`` (fewest steps to a target),
  ``schedules`` on ``quadrature``, ``lr_search`` (both, in processes)
- linear regression: ``linear_regression``, ``randomized_kaczmarz``, ``interpolation``, ``kidambi``,
  ``least_squares``
- online convex optimisation: ``online_convex``
- studies of single papers: ``moment_operator`` (mean-square stability), ``learning_curves`` (structured
features),
  ``gap_change`` (of a step), ``heavy_tails``, ``connecting_path`` (between wide networks),
  ``distance_over_gradients``

Each name is loaded when it is first used, so that importing this room costs nothing; a type checker reads the
same names from imports that never run.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# Names for a type checker, the same as in _HOMES.
# ruff: noqa: F401
if TYPE_CHECKING:
    from sgdlit.theory.connecting_path import Neurons, corners
    from sgdlit.theory.draws import generator, normal_matrix, numbered_generator
    from sgdlit.theory.epoch_orders import all_orders, mean_and_spread, paired_orders, sgd_endpoints
    from sgdlit.theory.first_crossing import Best, best_constant_lr, lr_grid, steps_to_target
    from sgdlit.theory.flow import gradient_flow
    from sgdlit.theory.heavy_tails import hill, stable_noise, tail_index
    from sgdlit.theory.implicit_gradient import BarrettDherin, descent_path, modified_path, squared_norm
    from sgdlit.theory.interpolation import Interpolation
    from sgdlit.theory.kidambi import Discrete
    from sgdlit.theory.learning_curves import learning_curve
    from sgdlit.theory.least_squares import expected_error, minimum_norm_error
    from sgdlit.theory.linear_regression import (
        GaussianRegression,
        gradient_covariance,
        largest_stable_lr,
        simulate_regression,
    )
    from sgdlit.theory.losses import flat_losses, flat_parameters, largest_curvature, mean_loss
    from sgdlit.theory.lr_search import Search, best_lrs_and_schedules
    from sgdlit.theory.minibatch_penalty import (
        enumerated_square_norm,
        expected_square_norm,
        gradient_covariance_trace,
        split_square_norm,
    )
    from sgdlit.theory.modified_flow import SlopeCurve, orders_for, penalty_identities, slope_curves
    from sgdlit.theory.modified_losses import flat_modified_loss, flat_modified_loss_gd
    from sgdlit.theory.moment_operator import Hessians
    from sgdlit.theory.noisy_quadratic import ExactRisk, NoisyQuadratic, risk
    from sgdlit.theory.online_convex import best_lr, regret_bound, simulate_stream
    from sgdlit.theory.optimizers import SGD, AveragedSGD, HeavyBall
    from sgdlit.theory.problems import Problem, fashion_mnist, random_regression
    from sgdlit.theory.quadrature import quadrature_directions
    from sgdlit.theory.randomized_kaczmarz import contraction, kaczmarz, proximal_step
    from sgdlit.theory.recursion import risk_of_lrs
    from sgdlit.theory.schedules import (
        Schedule,
        best_schedules,
        optimise_schedule,
        schedule_moments,
        schedule_risk,
    )
    from sgdlit.theory.simulation import simulate

_HOMES = {
    "draws": ("generator", "normal_matrix", "numbered_generator"),
    "epoch_orders": ("all_orders", "mean_and_spread", "paired_orders", "sgd_endpoints"),
    "connecting_path": ("Neurons", "corners"),
    "first_crossing": ("Best", "best_constant_lr", "lr_grid", "steps_to_target"),
    "flow": ("gradient_flow",),
    "heavy_tails": ("hill", "stable_noise", "tail_index"),
    "implicit_gradient": ("BarrettDherin", "descent_path", "modified_path", "squared_norm"),
    "interpolation": ("Interpolation",),
    "kidambi": ("Discrete",),
    "learning_curves": ("learning_curve",),
    "least_squares": ("expected_error", "minimum_norm_error"),
    "linear_regression": (
        "GaussianRegression",
        "gradient_covariance",
        "largest_stable_lr",
        "simulate_regression",
    ),
    "losses": ("flat_losses", "flat_parameters", "largest_curvature", "mean_loss"),
    "lr_search": ("Search", "best_lrs_and_schedules"),
    "minibatch_penalty": (
        "enumerated_square_norm",
        "expected_square_norm",
        "gradient_covariance_trace",
        "split_square_norm",
    ),
    "modified_flow": ("SlopeCurve", "orders_for", "penalty_identities", "slope_curves"),
    "modified_losses": ("flat_modified_loss", "flat_modified_loss_gd"),
    "moment_operator": ("Hessians",),
    "noisy_quadratic": ("ExactRisk", "NoisyQuadratic", "risk"),
    "online_convex": ("best_lr", "regret_bound", "simulate_stream"),
    "optimizers": ("SGD", "AveragedSGD", "HeavyBall"),
    "problems": ("Problem", "fashion_mnist", "random_regression"),
    "quadrature": ("quadrature_directions",),
    "randomized_kaczmarz": ("contraction", "kaczmarz", "proximal_step"),
    "recursion": ("risk_of_lrs",),
    "schedules": ("Schedule", "best_schedules", "optimise_schedule", "schedule_moments", "schedule_risk"),
    "simulation": ("simulate",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
