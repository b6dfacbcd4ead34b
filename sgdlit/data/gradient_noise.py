"""The gradient noise of the noisy quadratic model, as a stream of its own."""

from typing import Any

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.spectra import Spectrum, eigenvalues
from sgdlit.data.streams import Split, StreamData
from sgdlit.foundations.philox import normal


class GradientNoise(StreamData):
    """Vectors e ~ N(0, diag(c)): inputs ``[n, d]``, and targets ``[n]`` of zeros, which no loss looks at.

    With the network :class:`sgdlit.models.quadratic.Quadratic` and the loss ``network_output``, example e
    costs ½θᵀHθ + eᵀθ, so that a minibatch of B has the gradient Hθ + ē with Cov ē = diag(c)/B: the noisy
    quadratic model (Zhang et al. 2019, 1907.04164). The cost is linear in e, so that its mean over the
    distribution is the cost at e = 0: that is the one example of the validation and test sets, whose loss is
    the exact risk ½θᵀHθ.

    Args:
        d: number of directions.
        variance: c: ``power_law`` c_i = i^(−exponent), i = 1 … d; ``isotropic`` c_i = 1; or a list of d
            numbers.
        exponent: of the power law.
        test_size: examples of the test set, all of them zero; more than one only where ranks share them.
        stream: see :class:`StreamData`.

    Raises:
        UserError: d below 1; variances that are not d finite numbers from 0 upwards.
    """

    key_name = "gradient noise"
    small = ({"d": 30, "exponent": 0.5},)

    def __init__(
        self,
        d: int,
        variance: Spectrum | list[float] = "power_law",
        exponent: float = 1.0,
        test_size: int = 1,
        **stream: Any,
    ) -> None:
        super().__init__(test_size=test_size, **stream)
        require(d >= 1, "d", d, "1 or more")
        self.d, self.variance, self.exponent = d, variance, exponent
        self.variances = torch.from_numpy(eigenvalues("data.variance", d, variance, exponent))

    @property
    def draws_per_example(self) -> int:
        return self.d

    def describe(self) -> dict[str, Any]:
        return {"d": self.d, "variance": self.variance, "exponent": self.exponent}

    def draw(self, split: Split, index: Tensor) -> Batch:
        targets = torch.zeros(len(index), dtype=self.dtype, device=index.device)
        if split != "train":
            return targets.unsqueeze(1).repeat(1, self.d), targets
        noise = normal(self.key(split), index, self.d, dtype=self.dtype)
        return noise * self.variances.sqrt().to(noise), targets
