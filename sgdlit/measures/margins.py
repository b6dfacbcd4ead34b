"""Margins: by how much the output of the right class is above that of any other."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_norms import QUANTILES
from sgdlit.measures.from_scripts import gathered
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import outputs_of, preserved, refuse_not_finite, undisturbed
from sgdlit.measures.work import Sizes, Work, Works


def margins(network: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """f_y(x) − max_{c ≠ y} f_c(x) of each example, float64 ``[n]``; below 0 where it is misclassified.

    Args:
        network: in the mode in which it is, with one output for each of two or more classes; nothing of it
            changes.
        batches: inputs ``[b, ...]`` and classes ``[b]``.

    Raises:
        UserError: targets that are no classes; a network that has diverged.
    """
    refuse_not_finite(network)
    found = []
    with preserved(network) as looked_at, torch.no_grad():
        for inputs, targets in gathered(batches):
            outputs = outputs_of(looked_at, inputs).double()
            if (
                targets.dim() != 1
                or targets.is_floating_point()
                or outputs.dim() != 2
                or outputs.shape[1] < 2
            ):
                raise UserError(
                    "margins: the targets are no classes, or there is not one output for each; allowed: "
                    "outputs [b, classes] and one class per example"
                )
            own = targets.unsqueeze(1)
            others = outputs.scatter(1, own, -math.inf).amax(1)
            found.append(outputs.gather(1, own).squeeze(1) - others)
    return torch.cat(found)


def weight_norm_product(network: nn.Module) -> float:
    """Π_l ‖W_l‖_F over the matrices and convolutions among the trained parameters."""
    matrices = [p.detach().double() for p in network.parameters() if p.requires_grad and p.dim() > 1]
    return math.prod(float(torch.linalg.vector_norm(p)) for p in matrices)


class Margins(Measure):
    """``measure/margin_qNNN`` quantiles over the examples of f_y − max_{c ≠ y} f_c: NNN = 000 is the
    smallest; and ``measure/normalized_margin`` the smallest over Π‖W_l‖_F, which scaling a layer does not
    change where the network is homogeneous in each (no biases, ReLU). The array ``margins`` has all."""

    formula = "f_y(x) − max_{c≠y} f_c(x) of each example; the smallest over Π_l ‖W_l‖_F"
    answers = "how far are examples from the decision boundary; do margins grow after all are fitted"
    price = "n/3"
    logged = ("measure/margin_qNNN", "measure/normalized_margin")
    arrays: ClassVar[Mapping[str, str]] = {"margins": "[n]: f_y − max f_c in units of the outputs"}
    needs = ("examples",)

    def check(self, network: nn.Module, data: KeyedData) -> None:
        inputs, targets = data.example()
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        try:
            with undisturbed(network):
                margins(network, [(inputs.to(dtype) if inputs.is_floating_point() else inputs, targets)])
        except UserError as error:
            raise UserError(f"Margins: {str(error).removeprefix('margins: ')}") from None

    def work(self, sizes: Sizes) -> Works:
        return {(margins_of,): Work(forwards=sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = run.once(margins_of)
        at = torch.tensor(QUANTILES, dtype=found.dtype, device=found.device)
        every = zip(QUANTILES, torch.quantile(found, at).tolist(), strict=True)
        values = {f"measure/margin_q{round(100 * q):03}": value for q, value in every}
        size = weight_norm_product(run.network)
        return values | ({"measure/normalized_margin": float(found.min()) / size} if size else {})

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        return {"margins": run.once(margins_of)}


def margins_of(run: RunAtStep) -> Tensor:
    """Those of the measured examples; ask for them by ``run.once``."""
    return margins(run.network, run.examples)
