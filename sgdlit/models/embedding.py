"""A classifier whose first, linear layer can have larger gradients than the rest, at the same function."""

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import Linear


class EmbeddingMLP(nn.Module):
    """x -> W₂ relu(W₁ E(c·x)), with E divided by c: one function for every c, and ∂C/∂E c times as large.

    That is what the first layer of a fine-tuned transformer is like (Kumar et al. 2022, 2211.09359). E starts
    as N(0, 1/inputs)/c, W₁ as N(0, 2/embedding) and W₂ as N(0, 1/hidden); no layer has biases.

    Args:
        inputs: numbers per example.
        embedding: rows of E.
        hidden: rows of W₁.
        outputs: rows of W₂.
        input_scale: c.

    Shapes: input (batch, inputs), output (batch, outputs).

    Raises:
        UserError: a size below 1, a scale that is not positive.
    """

    def __init__(
        self, inputs: int, embedding: int, hidden: int, outputs: int, input_scale: float = 1.0
    ) -> None:
        super().__init__()
        sizes = {"inputs": inputs, "embedding": embedding, "hidden": hidden, "outputs": outputs}
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; give 1 or more")
        if not 0 < input_scale < float("inf"):
            raise UserError(f"input_scale: {input_scale} is not allowed; give a number above 0")
        self.input_scale = input_scale
        self.embed = Linear(inputs, embedding, bias=False)
        self.hidden = Linear(embedding, hidden, bias=False)
        self.head = Linear(hidden, outputs, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        nn.init.normal_(self.embed.weight, std=self.embed.in_features**-0.5)
        with torch.no_grad():
            self.embed.weight /= self.input_scale
        nn.init.normal_(self.hidden.weight, std=(2 / self.hidden.in_features) ** 0.5)
        nn.init.normal_(self.head.weight, std=self.head.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.embed(self.input_scale * x)).relu())
