"""What optimizers share that update one parameter tensor after another, and know each by its number."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class ByTensor(Optimizer, ABC):
    """Calls :meth:`update_tensor` for every parameter that has a gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; the closure's value, where there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        place = 0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update_tensor(p, p.grad, group, place)
                place += 1
        return loss

    @abstractmethod
    def update_tensor(self, p: Tensor, gradient: Tensor, group: dict[str, Any], place: int) -> None:
        """Update parameter number ``place``, counted over all groups, in place."""
