"""The parameters as a few numbers: a picture of the path at q numbers a step."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def random_projections(parameters: Parameters, count: int = 16, seed: int = 0) -> Tensor:
    """x_k = (1/√q)Σ_j N_kj θ_j, k ≤ q, with N_kj standard normal: float64 ``[q]``, in θ.

    ‖x‖² is ‖θ‖² up to a relative error with standard deviation √(2/q), and, since x is linear in θ, so are
    distances between points of a path (Johnson & Lindenstrauss 1984). N is a function of seed, k and the
    place j of a parameter, the same for all runs of networks of one shape.

    Args:
        parameters: by name, one after another.
        count: q.
        seed: of the directions.
    """
    require_counts(count=count)
    flat = torch.cat([p.detach().reshape(-1) for p in parameters.values()]).double().cpu()
    key = derive_key(seed, "random projections")
    rows = [torch.dot(normal(key, torch.tensor(0), len(flat), k, torch.float64), flat) for k in range(count)]
    return torch.stack(rows) / math.sqrt(count)


class RandomProjections(Measure):
    """``measure/projection_K`` of the parameters on q random directions, K = 1 … q, see
    :func:`random_projections`. The array ``random_projections`` has them too; its differences between steps
    have the lengths of the path's, up to √(2/q).

    Args:
        count: q.
        seed: of the directions, which runs share that are compared.
        cadence: see :class:`Measure`.
    """

    formula = "x_k = (1/√q)Σ_j N_kj θ_j, N_kj ~ N(0, 1), k = 1 … q"
    answers = "what does the path look like, and how far are runs from each other, at q numbers a step"
    price = "0, and q normal numbers for each parameter"
    logged = ("measure/projection_K",)
    arrays: ClassVar[Mapping[str, str]] = {"random_projections": "[q]: x_k in θ"}
    needs = ("parameters",)
    small = ({"count": 3},)

    def __init__(self, count: int = 16, seed: int = 0, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts("RandomProjections", count=count)
        self.count, self.seed = count, seed

    def take(self, run: RunAtStep, member: int) -> Values:
        found = run.once(projections_of, self.count, self.seed)
        return {f"measure/projection_{k}": value for k, value in enumerate(found.tolist(), start=1)}

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        return {"random_projections": run.once(projections_of, self.count, self.seed)}


def projections_of(run: RunAtStep, count: int, seed: int) -> Tensor:
    """Those of a run; ask for them by ``run.once``."""
    return random_projections(run.parameters, count, seed)
