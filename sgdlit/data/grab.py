"""GraB: the order of the next epoch from the gradients of this one, so that their prefix sums stay small.

Source: Lu, Guo & De Sa 2022, arXiv:2205.10733. Where both signs leave the sum equally long, as
they do at the first visit, the sign is +, as in the authors' code. That choice is not idle: with − the first
example would come last in the next epoch, orders would nearly alternate with their reverses, and distances
from the minimiser at a constant rate would be some four times smaller.
"""

from typing import Any

import torch
from torch import Tensor

from sgdlit.data.orders import LearnedOrder
from sgdlit.foundations.philox import Key, permutation


def balance(prefix: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """The sign that keeps a signed prefix sum small, and the sum with it.

    Args:
        prefix: s, ``[..., P]``.
        centred: c, a gradient minus the mean of the last epoch, ``[..., P]``.

    Returns:
        whether ‖s + c‖ ≤ ‖s − c‖, bool ``[...]``; s + c where it is, else s − c.
    """
    plus = (prefix * centred).sum(-1) <= 0
    return plus, prefix + torch.where(plus, 1.0, -1.0).to(prefix).unsqueeze(-1) * centred


def reordered(visited: Tensor, plus: Tensor) -> Tensor:
    """The next epoch's order: what got + in the order of visits, then what got − in reverse.

    Args:
        visited: int64 ``[..., N]``.
        plus: bool ``[..., N]``, of each visit.
    """
    front, back = plus.cumsum(-1) - 1, plus.shape[-1] - (~plus).cumsum(-1)
    return torch.empty_like(visited).scatter(-1, torch.where(plus, front, back), visited)


class GraB(LearnedOrder):
    """Gradient balancing: a first random epoch, then each in the order that the last one's gradients ask for.

    Every gradient of an example, less the mean of the epoch before, gets the sign that keeps the signed sum
    small; examples with + come first in the next epoch, those with − last and reversed. It holds three
    vectors of the size of the gradient and costs a gradient per example.
    """

    def __init__(self) -> None:
        self._state: dict[str, Tensor] = {}

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        (epoch,) = epochs.tolist()
        if not self._state:
            self._state = {
                "order": permutation(key, examples),
                "epoch": torch.tensor(0),
                "plus": torch.zeros(examples, dtype=torch.bool),
                "visits": torch.tensor(0),
            }
        known = int(self._state["epoch"])
        if epoch != known:
            raise RuntimeError(f"GraB: epoch {epoch} is not known in epoch {known}")
        return self._state["order"].to(epochs.device).unsqueeze(0)

    def learn(self, examples: Tensor, gradients: Tensor) -> None:
        own, count = self._state, self.length(len(self._state["order"]))
        gradients = gradients.detach()
        zero = torch.zeros_like(gradients[0])
        prefix, total, mean = (own.get(name, zero) for name in ("prefix", "total", "mean"))
        visits = int(own["visits"])
        for gradient in gradients:
            own["plus"][visits], prefix = balance(prefix, gradient - mean)
            visits += 1
        total = total + gradients.sum(0)
        own |= {"prefix": prefix, "total": total, "mean": mean, "visits": torch.tensor(visits)}
        if visits == count:
            self._state = {
                "order": reordered(own["order"], own["plus"]),
                "epoch": own["epoch"] + 1,
                "plus": torch.zeros(count, dtype=torch.bool),
                "visits": torch.tensor(0),
                "mean": total / count,
            }

    def state_dict(self) -> dict[str, Any]:
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = {name: tensor.clone() for name, tensor in state.items()}
