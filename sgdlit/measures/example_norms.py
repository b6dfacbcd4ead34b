"""Norms of the gradients of single examples."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import LossOfEach
from sgdlit.measures.measure import Measure, RunAtStep, Values

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def example_norms(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> Tensor:
    """‖∇C_i‖² of every example, float64 ``[n]``, in C²/θ².

    Of linear layers ‖δ_i‖²(‖a_i‖² + 1) from one backward pass (Goodfellow 2015, 1510.01799), elsewhere from
    the gradients themselves; see :mod:`sgdlit.measures.example_gradients`.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, at least one.

    Raises:
        UserError: a loss that has no value per example; BatchNorm that takes the statistics of the batch.
    """
    return example_gradients(network, loss, batches).squared_norms


class ExampleNorms(Measure):
    """``measure/example_gradient_norm_qNNN`` quantiles of ‖∇C_i‖ over the examples: NNN = 000 is the
    smallest, 050 the median, 100 the largest. The array ``example_gradient_norms`` has all of them."""

    formula = "quantiles of ‖∇C_i‖"
    answers = "are there outliers among the examples; how heavy is the tail"
    price = "n (linear layers), 1.4 n and more elsewhere"
    logged = ("measure/example_gradient_norm_qNNN",)
    arrays: ClassVar[Mapping[str, str]] = {"example_gradient_norms": "[n]: ‖∇C_i‖ in C/θ of each example"}
    needs = ("example_norms",)

    def take(self, run: RunAtStep, member: int) -> Values:
        norms = run.example_norms.sqrt()
        at = torch.tensor(QUANTILES, dtype=norms.dtype, device=norms.device)
        found = zip(QUANTILES, torch.quantile(norms, at).tolist(), strict=True)
        return {f"measure/example_gradient_norm_q{round(100 * q):03}": value for q, value in found}

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        return {"example_gradient_norms": run.example_norms.sqrt()}
