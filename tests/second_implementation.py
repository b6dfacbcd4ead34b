"""What measures say, found a second time: gradients in a loop, products by curvlinops or by differences.

Nothing here is shared with ``sgdlit.measures``. curvlinops is installed without its dependencies, see
CONTRIBUTING.md; what needs it is skipped without.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdlit.objectives import CrossEntropy, HalfSquaredError, Loss

Batches = Sequence[tuple[Tensor, Tensor]]
Product = Callable[[Tensor], Tensor]


def curvlinops() -> Any:
    """The package; the test that asks is skipped where it is missing."""
    return pytest.importorskip(
        "curvlinops", reason="curvlinops is not installed: CONTRIBUTING.md says how", exc_type=ImportError
    )


def trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def plain_gradient(network: nn.Module, loss: Loss, batches: Batches) -> Tensor:
    """∇C of all examples at once, by a network that nobody has used, ``[P]``."""
    network = copy.deepcopy(network)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    cost = loss(network(x.clone()), y)
    return flat(torch.autograd.grad(cost, trained(network), materialize_grads=True))


def example_gradients(network: nn.Module, loss: Loss, batches: Batches) -> Tensor:
    """g_i, one backward pass after another, ``[n, P]``."""
    found = []
    for x, y in batches:
        for k in range(len(x)):
            own = copy.deepcopy(network)
            cost = loss(own(x[k : k + 1].clone()), y[k : k + 1])
            found.append(flat(torch.autograd.grad(cost, trained(own), materialize_grads=True)))
    return torch.stack(found)


def move(network: nn.Module, by: Tensor) -> None:
    """Add a vector to the parameters."""
    parameters = trained(network)
    with torch.no_grad():
        for p, part in zip(parameters, by.split([p.numel() for p in parameters]), strict=True):
            p += part.view_as(p)


def plain_product(network: nn.Module, loss: Loss, batches: Batches) -> Product:
    """Hv by differentiating ⟨∇C, v⟩ of the whole batch: the same method, without what is ours about it."""

    def product(v: Tensor) -> Tensor:
        own = copy.deepcopy(network)
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        found = torch.autograd.grad(loss(own(x.clone()), y), trained(own), create_graph=True)
        return flat(torch.autograd.grad(flat(found) @ v, trained(own)))

    return product


def differences(network: nn.Module, loss: Loss, batches: Batches) -> Product:
    """Hv by central differences of the gradient, in float64: for smooth networks; about nine digits."""

    def product(v: Tensor) -> Tensor:
        step = 1e-5 / float(v.norm())
        ends = []
        for side in (1, -1):
            own = copy.deepcopy(network)
            move(own, side * step * v)
            ends.append(plain_gradient(own, loss, batches))
        return (ends[0] - ends[1]) / (2 * step)

    return product


def oracle_product(kind: str, network: nn.Module, loss: Loss, batches: Batches) -> Product:
    """Hv (``Hessian``), Gv (``GGN``) or Σ_i g_i g_iᵀv/n (``EF``) by curvlinops.

    Its losses are torch's: of the half squared error, half of the mean square times the outputs.
    """
    operators = {
        "Hessian": curvlinops().HessianLinearOperator,
        "GGN": curvlinops().GGNLinearOperator,
        "EF": curvlinops().EFLinearOperator,
    }
    factor, own_loss = 1.0, nn.CrossEntropyLoss()
    if isinstance(loss, HalfSquaredError):
        # The mean square of k outputs is 2/k times ours; EF has 1/(nk) before sums of squares of 2g_i.
        outputs = batches[0][1][0].numel()
        factor, own_loss = outputs / (4 if kind == "EF" else 2), nn.MSELoss()
    else:
        assert isinstance(loss, CrossEntropy)
    operator = operators[kind](network, own_loss, trained(network), list(batches), check_deterministic=False)

    def product(v: Tensor) -> Tensor:
        """Of a vector, or of each column of a matrix, which takes less time than one after another."""
        with sdpa_kernel(SDPBackend.MATH):
            return factor * torch.as_tensor(operator @ v)

    return product


def by_eigsh(product: Product, size: int, which: str = "LA", count: int = 2) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues from the largest down (``LA``), or the smallest from the smallest up (``SA``),
    by scipy's Lanczos (ARPACK), and the first eigenvector."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    def of_array(v):
        return product(torch.from_numpy(v.reshape(-1).copy())).double().numpy()

    start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    operator = LinearOperator((size, size), matvec=of_array, dtype="float64")
    values, vectors = eigsh(operator, k=count, which=which, tol=1e-9, v0=start)
    order = (values.argsort()[::-1] if which == "LA" else values.argsort()).copy()
    return torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order[0]].copy())


def plain_gauss_newton(network: nn.Module, loss: Loss, batches: Batches, v: Tensor) -> Tensor:
    """Gv = Jᵀ∇²C(f)Jv with the whole Jacobian J of the outputs f, row by row."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    own = copy.deepcopy(network)
    with sdpa_kernel(SDPBackend.MATH):
        f = own(x.clone())
        rows = [
            flat(torch.autograd.grad(value, trained(own), retain_graph=True, materialize_grads=True))
            for value in f.reshape(-1)
        ]
        jacobian = torch.stack(rows)
        at = f.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(at, y), [at], create_graph=True)
        (bent,) = torch.autograd.grad(slope, [at], (jacobian @ v).view_as(at))
    return jacobian.T @ bent.reshape(-1)
