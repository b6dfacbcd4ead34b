"""A quadratic whose Hessian consists of rotated blocks, one for each parameter tensor."""

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError


def rotation(normals: Tensor) -> Tensor:
    """A uniformly distributed orthogonal matrix from independent normals, both ``[..., n, n]``.

    Q of the QR decomposition, its columns times the signs of R's diagonal (Stewart 1980).
    """
    q, r = torch.linalg.qr(normals)
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)


def rotated(eigenvalues: Tensor, normals: Tensor) -> Tensor:
    """Q diag(λ) Qᵀ with a uniformly distributed Q: ``[..., n, n]`` from λ ``[..., n]`` and normals
    ``[..., n, n]``."""
    q = rotation(normals)
    return (q * eigenvalues.unsqueeze(-2)) @ q.mT


class BlockQuadratic(nn.Module):
    """e -> ½ Σ_b θ_bᵀH_bθ_b + eᵀθ: the cost itself, for the loss ``network_output``.

    Each block has a parameter θ_b of its own, so that an optimizer can give it a rate of its own, and a
    Hessian H_b = Q_b diag(λ_b) Q_bᵀ with Q_b uniformly distributed. θ starts standard normal. Examples e of
    zeros make gradient descent of it; see :class:`sgdlit.data.gradient_noise.GradientNoise`, and for the
    blocks Zhang et al. 2024 (2402.16788), section 3.

    Args:
        blocks: λ of each block, positive.

    Shapes: input (batch, d) with d the number of eigenvalues, output (batch, 1).

    Raises:
        UserError: no blocks, an empty one, or numbers that are not positive; in ``forward``, examples of
            another size.
    """

    def __init__(self, blocks: list[list[float]]) -> None:
        super().__init__()
        if not blocks or not all(blocks) or not all(v > 0 for block in blocks for v in block):
            raise UserError(f"blocks: {blocks} is not allowed; give lists of numbers above 0")
        self.blocks = [list(block) for block in blocks]
        self.thetas = nn.ParameterList(torch.empty(len(block)) for block in blocks)
        for b, block in enumerate(blocks):
            self.register_buffer(f"hessian_{b}", torch.empty(len(block), len(block)))
        self.reset_parameters()

    @property
    def hessians(self) -> list[Tensor]:
        """H_b of each block."""
        return [self.get_buffer(f"hessian_{b}") for b in range(len(self.blocks))]

    def reset_parameters(self) -> None:
        """Draw new rotations and initial parameters from torch's global generator."""
        for block, hessian, theta in zip(self.blocks, self.hessians, self.thetas, strict=True):
            normals = torch.randn(len(block), len(block), dtype=torch.float64)
            hessian.copy_(rotated(torch.tensor(block, dtype=torch.float64), normals))
            nn.init.normal_(theta)

    def forward(self, noise: Tensor) -> Tensor:
        theta = torch.cat(list(self.thetas))
        if noise.shape[-1] != len(theta):
            raise UserError(
                f"data.d: noise of {noise.shape[-1]} numbers does not fit {len(theta)} parameters"
            )
        costs = [0.5 * t @ h @ t for t, h in zip(self.thetas, self.hessians, strict=True)]
        return (torch.stack(costs).sum() + noise @ theta).unsqueeze(-1)
