"""Runs of ``fit`` on the noisy quadratic model: what their configs say, and the exact risk of that."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdlit.config.keys import value_at
from sgdlit.data.spectra import eigenvalues
from sgdlit.foundations.errors import UserError
from sgdlit.papers.support.lrs_of_runs import learning_rates
from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.recursion import risk_of_lrs
from sgdlit.theory.two_roots import Array

_PRESUPPOSED = {
    "model.network": "sgdlit.models.quadratic.Quadratic",
    "model.network.constant_noise": 1.0,
    "model.network.relative_noise": 0.0,
    "model.loss": "network_output",
    "model.reg_strength": 0.0,
    "model.reduction": "mean",
    "model.optimizer": "torch.optim.SGD",
    "model.optimizer.dampening": 0.0,
    "model.optimizer.weight_decay": 0.0,
    "model.optimizer.nesterov": False,
    "model.optimizer.maximize": False,
    "data": "sgdlit.data.gradient_noise.GradientNoise",
    "data.shard_size": None,
    "data.repeats": 1,
    "trainer.gradient_clip_val": None,
    "trainer.overfit_batches": 0.0,
    "model.transform": None,
    "ensemble": None,
    "mixing": None,
}
_ONLY_LOOK_ON = (
    "sgdlit.training.measuring.Measures",
    "sgdlit.training.log_spaced_validation.LogSpacedValidation",
    *(
        f"lightning.pytorch.callbacks.{name}"
        for name in ("LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "RichModelSummary")
    ),
)
"""The callbacks that leave the iterate, and what is evaluated of it, as they are."""


@dataclass(frozen=True)
class QuadraticRun:
    """The resolved config of a run.

    Raises:
        UserError: a value under which the exact risk is not known.
    """

    config: dict[str, Any]

    def __post_init__(self) -> None:
        for key, needed in _PRESUPPOSED.items():
            found = value_at(self.config, key)
            found = found["class_path"] if isinstance(found, dict) and "class_path" in found else found
            if found != needed:
                raise _unknown(key, found, str(needed))
        precision = str(self["trainer.precision"] or "32-true")
        if precision.removesuffix("-true") not in ("32", "64"):
            raise _unknown("trainer.precision", precision, "32-true, 64-true")
        callbacks = self["trainer.callbacks"] or []
        for given in callbacks if isinstance(callbacks, list) else [callbacks]:
            if given["class_path"] not in _ONLY_LOOK_ON:
                raise _unknown("trainer.callbacks", given["class_path"], ", ".join(_ONLY_LOOK_ON))

    def __getitem__(self, key: str) -> Any:
        return value_at(self.config, key)

    @property
    def setting(self) -> str:
        """What runs share that differ in nothing but their seeds."""
        data = {k: v for k, v in self["data.init_args"].items() if k not in ("seed", "order_seed")}
        return json.dumps([self.config["model"], data], sort_keys=True)

    @property
    def seeds(self) -> dict[str, int]:
        """Of the initialisation and of the noise."""
        start = self["init_seed"]
        return {
            "init_seed": self["seed_everything"] if start is None else start,
            "data.seed": self["data.seed"],
        }

    @property
    def label(self) -> str:
        momentum, scheduler = self["model.optimizer.momentum"], self["model.scheduler"]
        parts = [f"lr {self['model.optimizer.lr']:g}", f"B = {self['data.batch_size']}"]
        parts += [f"momentum {momentum:g}"] if momentum else []
        return ", ".join(parts + ([scheduler["class_path"].rsplit(".", 1)[-1]] if scheduler else []))

    def exact_risk(self, steps: int) -> Array:
        """E ½θᵀHθ after 0 … ``steps`` steps, over starts and noise."""
        d = self["model.network.d"]
        curvature, variance = (
            eigenvalues(f"{at}.{name}", d, self[f"{at}.{name}"], self[f"{at}.exponent"])
            for at, name in (("model.network", "curvature"), ("data", "variance"))
        )
        model = NoisyQuadratic(curvature, variance, np.ones(d))
        momentum = self["model.optimizer.momentum"]
        return risk_of_lrs(model, learning_rates(self.config, steps), self["data.batch_size"], momentum)


def _unknown(key: str, found: Any, allowed: str) -> UserError:
    return UserError(f"{key}: {found} in a run whose exact risk is asked for; allowed: {allowed}")
