"""The tangent kernel against closed forms and the dense Jacobian."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from sgdlit.foundations.errors import UserError
from sgdlit.measures import as_outputs, kernel_alignment, kernel_drift, tangent_kernel
from sgdlit.models import MLP


def dense(network: nn.Module, x: Tensor) -> Tensor:
    """JJᵀ from the Jacobian of all outputs at once."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    jacobian = jacrev(lambda values: functional_call(network, values, (x,)).flatten())(parameters)
    j = torch.cat([part.flatten(1) for part in jacobian.values()], 1)
    return j @ j.T


def batches(x: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in x.split(size)]


class Convolutional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("size", [9, 4])
@pytest.mark.parametrize(
    ("make", "shape"), [(lambda: MLP([5, 7, 3], activation="tanh"), (5,)), (Convolutional, (1, 4, 4))]
)
def test_the_kernel_is_that_of_the_dense_jacobian(make, shape, size):
    torch.manual_seed(0)
    network, x = make().double(), torch.randn(9, *shape, dtype=torch.float64)
    found = tangent_kernel(network, batches(x, size))
    torch.testing.assert_close(found, dense(network, x), rtol=1e-10, atol=1e-12)


def test_of_a_linear_network_it_is_that_of_the_inputs_and_never_moves():
    """K = XXᵀ ⊗ 1 of Wx; alignment with targets along one eigenvector of XXᵀ."""
    torch.manual_seed(0)
    network, x = nn.Linear(6, 1, bias=False).double(), torch.randn(8, 6, dtype=torch.float64)
    kernel = tangent_kernel(network, batches(x, 3))
    torch.testing.assert_close(kernel, x @ x.T, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        network.weight.mul_(-3)
    assert kernel_drift(tangent_kernel(network, batches(x, 8)), kernel) == pytest.approx(0, abs=1e-12)
    values, vectors = torch.linalg.eigh(x @ x.T)
    aligned = kernel_alignment(kernel, 2 * vectors[:, -1])
    assert aligned == pytest.approx(float(values[-1] / values.norm()), rel=1e-12)
    assert kernel_alignment(torch.outer(x[:, 0], x[:, 0]), x[:, 0]) == pytest.approx(1, rel=1e-12)


def test_the_drift_does_not_see_growth_and_sees_a_turn():
    one, other = torch.diag(torch.tensor([1.0, 0.0])).double(), torch.diag(torch.tensor([1.0, 1.0])).double()
    assert kernel_drift(5 * one, one) == pytest.approx(0, abs=1e-15)
    assert kernel_drift(other, one) == pytest.approx(1 - 0.5**0.5, rel=1e-12)


def test_targets_stand_for_outputs():
    classes = as_outputs(torch.tensor([2, 0]), 3)
    assert classes is not None
    assert classes.tolist() == [[0, 0, 1], [1, 0, 0]]
    signs = as_outputs(torch.tensor([1.0, -1.0]), 1)
    assert signs is not None
    assert signs.tolist() == [[1], [-1]]
    assert as_outputs(torch.zeros(2, 5), 3) is None


def test_what_has_no_kernel_is_refused():
    network = nn.Linear(2, 1)
    with pytest.raises(UserError, match="501 examples are too many for a kernel; allowed: at most 500"):
        tangent_kernel(network, batches(torch.zeros(501, 2), 100))
    with pytest.raises(UserError, match="no examples"):
        tangent_kernel(network, [])
    with pytest.raises(UserError, match="takes the statistics of the batch"):
        tangent_kernel(nn.Sequential(nn.BatchNorm1d(2), network), batches(torch.zeros(4, 2), 4))
