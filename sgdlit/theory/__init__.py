"""What does theory say? Closed forms and exact simulations in float64, without any trainer.

- modified flow (M1–M6, IGR): ``modified_loss``, ``modified_loss_gd``, ``gradient_flow``, ``flat_losses``,
  ``flat_parameters``, ``mean_loss``, ``all_orders``, ``paired_orders``, ``sgd_endpoints``, ``slope_curves``,
  ``mean_and_spread``, ``expected_square_norm``, ``enumerated_square_norm``, ``split_square_norm``,
  ``BarrettDherin``
- noisy quadratic model (G2, G3, G6–G11): ``NoisyQuadratic``, ``SGD``, ``HeavyBall``, ``IterateAverage``,
  ``Run``, ``risk``, ``steps_to_target``, ``best_constant_rate``, ``best_schedules``,
  ``schedule_risk``, ``condensed``, ``risk_of_rates``, ``simulate``
- linear regression (G12–G15): ``gradient_covariance``, ``GaussianRegression``, ``kaczmarz``, ``contraction``,
  ``proximal_step``, ``Interpolation``, ``Discrete``
- online convex optimisation (B10): ``regret_bound``, ``best_rate``, ``simulate_stream``

Each name is loaded when it is first used, so that importing this room costs nothing.
"""

from importlib import import_module

_HOMES = {
    "losses": ("flat_losses", "flat_parameters", "mean_loss"),
    "modified_losses": ("modified_loss", "modified_loss_gd"),
    "flow": ("gradient_flow",),
    "epoch_orders": ("all_orders", "mean_and_spread", "paired_orders", "sgd_endpoints"),
    "modified_flow": ("slope_curves",),
    "minibatch_penalty": (
        "enumerated_square_norm",
        "expected_square_norm",
        "gradient_covariance_trace",
        "split_square_norm",
    ),
    "implicit_gradient": ("BarrettDherin", "descent_path", "modified_path"),
    "noisy_quadratic": ("NoisyQuadratic", "Run", "risk"),
    "optimizers": ("SGD", "HeavyBall", "IterateAverage"),
    "first_crossing": ("Best", "best_constant_rate", "rate_grid", "steps_to_target"),
    "condensation": ("condensed",),
    "schedules": ("Schedule", "best_schedules", "optimise_schedule", "schedule_moments", "schedule_risk"),
    "recursion": ("risk_of_rates",),
    "simulation": ("simulate",),
    "linear_regression": ("GaussianRegression", "gradient_covariance", "largest_stable_rate"),
    "randomized_kaczmarz": ("contraction", "kaczmarz", "proximal_step"),
    "interpolation": ("Interpolation",),
    "kidambi": ("Discrete",),
    "online_convex": ("best_rate", "regret_bound", "simulate_stream"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
