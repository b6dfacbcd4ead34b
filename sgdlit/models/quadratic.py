"""The noisy quadratic: a cost that is quadratic in the parameters and linear in an example of noise."""

import torch
from torch import Tensor, nn

from sgdlit.data.spectra import Spectrum, eigenvalues
from sgdlit.foundations.errors import UserError


class Quadratic(nn.Module):
    """e -> ½ Σ_i h_i θ_i² + (a + b·‖Hθ‖)·eᵀθ: the cost itself, for the loss ``network_output``.

    θ starts standard normal. With e from :class:`sgdlit.data.gradient_noise.GradientNoise` this is the noisy
    quadratic model of Zhang et al. 2019 (1907.04164), whose exact risk ``sgdlit.theory`` has. With b > 0 the
    noise grows with the gradient, of which nothing is differentiated: affine variance (Attia & Koren 2023,
    2302.08783), which vanishes at the minimum where a = 0.

    Args:
        d: number of parameters.
        curvature: h: ``power_law`` h_i = i^(−exponent), i = 1 … d; ``isotropic`` h_i = 1; or a list of d
            positive numbers.
        exponent: of the power law.
        constant_noise: a.
        relative_noise: b.

    Shapes: input (batch, d), output (batch, 1).

    Raises:
        UserError: d below 1; a curvature that is not d positive numbers; a or b below 0; in ``forward``,
            examples of another size.
    """

    curvatures: Tensor

    def __init__(
        self,
        d: int,
        curvature: Spectrum | list[float] = "power_law",
        exponent: float = 1.0,
        constant_noise: float = 1.0,
        relative_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if d < 1:
            raise UserError(f"d: {d} is not allowed; give 1 or more")
        curvatures = eigenvalues("curvature", d, curvature, exponent)
        if not (curvatures > 0).all():
            raise UserError(f"curvature: {curvature} is not allowed; give numbers above 0")
        for name, value in (("constant_noise", constant_noise), ("relative_noise", relative_noise)):
            if value < 0:
                raise UserError(f"{name}: {value} is not allowed; give 0 or more")
        self.constant_noise, self.relative_noise = constant_noise, relative_noise
        self.register_buffer("curvatures", torch.from_numpy(curvatures).float(), persistent=False)
        self.theta = nn.Parameter(torch.empty(d))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        nn.init.normal_(self.theta)

    def forward(self, noise: Tensor) -> Tensor:
        if noise.shape[-1] != len(self.theta):
            raise UserError(
                f"data.d: noise of {noise.shape[-1]} numbers does not fit {len(self.theta)} parameters"
            )
        risk = 0.5 * (self.curvatures * self.theta.square()).sum()
        size = self.constant_noise
        if self.relative_noise:
            gradient = (self.curvatures * self.theta).detach()
            size = size + self.relative_noise * torch.linalg.vector_norm(gradient)
        return (risk + size * (noise @ self.theta)).unsqueeze(-1)
