"""K-FAC against dense Fisher matrices, and against the natural gradient where both are one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from sgdlit.algorithms.kfac import KFAC, Factors, factors_of, output_roots
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name

CROSS_ENTROPY, SQUARED = loss_by_name("cross_entropy"), loss_by_name("half_squared_error")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network_of(*widths: int, activation: str = "identity", bias: bool = True) -> MLP:
    network = MLP(list(widths), activation=activation, bias=bias).double()
    for k, p in enumerate(network.parameters()):
        p.data = 0.5 * drawn(*p.shape, seed=k + 1)
    return network


def layers_of(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def fisher_block(network: nn.Module, loss, x: Tensor, layer: nn.Module) -> Tensor:
    """The exact Fisher matrix by (W, b) of a layer, from the Jacobian of the outputs.

    Σ_i JᵢᵀHᵢJᵢ/n with Hᵢ the Fisher matrix of the outputs, diag(p) − ppᵀ or I, written down here once more.
    """
    parameters = dict(network.named_parameters())
    own = [name for name, p in parameters.items() if any(p is q for q in layer.parameters())]
    total = 0.0
    for one in x:
        jacobian = jacrev(lambda q, a=one: functional_call(network, {**parameters, **q}, (a[None],))[0])(
            {name: parameters[name].detach() for name in own}
        )
        weight = jacobian[own[0]].flatten(2)
        both = torch.cat([weight, jacobian[own[1]].unsqueeze(2)], 2) if len(own) > 1 else weight
        rows = both.flatten(1)
        p = network(one[None])[0].softmax(0)
        hessian = torch.diag(p) - torch.outer(p, p) if loss is CROSS_ENTROPY else torch.eye(len(p)).double()
        total = total + rows.T @ hessian @ rows / len(x)
    return total.detach()


def test_roots_are_those_of_the_fisher_matrix_of_the_outputs():
    f = drawn(3, 4)
    p = f.softmax(1)
    roots = output_roots(CROSS_ENTROPY, f)
    found = torch.einsum("kni,knj->nij", roots, roots)
    torch.testing.assert_close(found, torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1))
    with pytest.raises(UserError, match="KFAC does not know the Fisher matrix of Hinge"):
        output_roots(loss_by_name("hinge"), f)


@pytest.mark.parametrize("bias", [True, False])
def test_the_factors_of_one_example_are_the_fisher_matrix(bias):
    """Of a linear layer, and of the layers of a network with ReLUs, to rounding."""
    for widths, activation in (((5, 3), "identity"), ((5, 6, 4, 3), "relu")):
        network, x = network_of(*widths, activation=activation, bias=bias), drawn(1, 5)
        layers = layers_of(network)
        for layer, found in zip(layers, factors_of(network, CROSS_ENTROPY, layers, x), strict=True):
            expected = fisher_block(network, CROSS_ENTROPY, x, layer)
            torch.testing.assert_close(torch.kron(found.outputs, found.inputs), expected)


def test_the_factors_of_a_deep_linear_network_are_the_fisher_matrix():
    """Whatever the number of examples, with a squared error; where there are ReLUs they are not."""
    x = drawn(7, 4)
    for activation, equal in (("identity", True), ("relu", False)):
        network = network_of(4, 5, 3, 2, activation=activation)
        layers = layers_of(network)
        for layer, found in zip(layers[:-1], factors_of(network, SQUARED, layers, x), strict=False):
            expected = fisher_block(network, SQUARED, x, layer)
            assert torch.allclose(torch.kron(found.outputs, found.inputs), expected, rtol=1e-10) == equal


def take(network: nn.Module, loss, x: Tensor, y: Tensor, steps: int = 1, **settings) -> KFAC:
    """Some steps on one batch."""
    optimizer = KFAC(network.parameters(), **settings)
    optimizer.watch(network, loss)

    def closure() -> Tensor:
        optimizer.zero_grad()
        cost = loss(network(x), y)
        cost.backward()
        return cost

    for _ in range(steps):
        optimizer.step(closure)
    return optimizer


def test_a_step_is_the_natural_gradient_of_the_blocks():
    """(F + λI)⁻¹g by dense algebra, where F = G ⊗ A and damping is too small to be seen."""
    network, x, y = network_of(4, 3, 2, bias=False), drawn(9, 4), drawn(9, 2, seed=9)
    before = copy.deepcopy(network)
    take(network, SQUARED, x, y, lr=0.5, damping=1e-22)
    SQUARED(before(x), y).backward()
    for was, now in zip(layers_of(before)[1:], layers_of(network)[1:], strict=True):
        block = fisher_block(before, SQUARED, x, was)
        step = torch.linalg.solve(block, was.weight.grad.flatten()).view_as(was.weight)
        torch.testing.assert_close(now.weight, was.weight - 0.5 * step, rtol=1e-6, atol=1e-8)


def test_a_step_of_a_deep_linear_network_is_that_of_its_product():
    """Each of L layers takes the product W towards its minimum W*, to first order in the rate.

    Together they move it by −L·lr·(W − W*), the natural gradient in function space (Bernacchia et al. 2018).
    """
    network, x = network_of(3, 3, 3, 3, bias=False), drawn(8, 3)
    target = drawn(3, 3, seed=20)
    product = lambda n: torch.linalg.multi_dot([layer.weight for layer in reversed(layers_of(n))])  # noqa: E731
    before, lr = product(network).detach(), 1e-8
    take(network, SQUARED, x, x @ target.T, lr=lr, damping=1e-22)
    moved = (product(network).detach() - before) / lr
    torch.testing.assert_close(moved, -3 * (before - target), rtol=1e-4, atol=1e-5)


def convolution(**settings) -> nn.Conv2d:
    layer = nn.Conv2d(2, 3, **settings).double()
    layer.weight.data, layer.bias.data = drawn(*layer.weight.shape), drawn(3, seed=4)
    return layer


def test_a_convolution_at_one_place_is_a_linear_layer():
    layer, x, y = convolution(kernel_size=4), drawn(5, 2, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    linear = nn.Linear(32, 3).double()
    linear.weight.data, linear.bias.data = (
        layer.weight.detach().flatten(1).clone(),
        layer.bias.detach().clone(),
    )
    flat = nn.Sequential(nn.Flatten(), linear)
    over = nn.Sequential(layer, nn.Flatten())
    take(over, CROSS_ENTROPY, x, y, steps=3, every=2, momentum=0.5)
    take(flat, CROSS_ENTROPY, x, y, steps=3, every=2, momentum=0.5)
    torch.testing.assert_close(layer.weight.flatten(1), linear.weight)
    torch.testing.assert_close(layer.bias, linear.bias)


@pytest.mark.parametrize("settings", [{"kernel_size": 3}, {"kernel_size": 3, "stride": 2, "padding": 1}])
def test_factors_of_a_convolution_are_sums_over_places(settings):
    """A by loops over examples and places; G by the gradient of each output of the network at each place."""
    layer, x = convolution(**settings), drawn(4, 2, 5, 5)
    head = nn.Linear(layer(x)[0].numel(), 2).double()
    head.weight.data = drawn(*head.weight.shape, seed=5)
    network = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), head)
    found = factors_of(network, SQUARED, [layer], x)[0]
    padded = nn.functional.pad(x, [settings.get("padding", 0)] * 4)
    made, stride = layer(x), settings.get("stride", 1)
    of_inputs, of_outputs = torch.zeros(19, 19).double(), torch.zeros(3, 3).double()
    rest = lambda s: network[3](network[2](network[1](s)))  # noqa: E731
    for n in range(4):
        jacobian = jacrev(lambda s: rest(s[None])[0])(made[n].detach())
        for i in range(made.shape[2]):
            for j in range(made.shape[3]):
                patch = padded[n, :, stride * i : stride * i + 3, stride * j : stride * j + 3].flatten()
                row = torch.cat([patch, torch.ones(1).double()])
                of_inputs += torch.outer(row, row) / 4
                of_outputs += jacobian[:, :, i, j].T @ jacobian[:, :, i, j] / (4 * made[0, 0].numel())
    torch.testing.assert_close(found.inputs, of_inputs)
    torch.testing.assert_close(found.outputs, of_outputs.detach())


def test_damping_is_shared_out_between_the_factors():
    a, g = torch.diag(torch.tensor([4.0, 12.0])).double(), torch.diag(torch.tensor([0.5, 1.5])).double()
    inverse_a, inverse_g = Factors(a, g).inverses(0.09)
    pi = (8 / 1) ** 0.5
    torch.testing.assert_close(inverse_a, torch.diag(1 / (torch.diag(a) + pi * 0.3)))
    torch.testing.assert_close(inverse_g, torch.diag(1 / (torch.diag(g) + 0.3 / pi)))


def test_what_has_no_inverse_makes_a_run_diverge_and_is_no_crash():
    network, x = network_of(3, 2), drawn(4, 3)
    take(network, CROSS_ENTROPY, x * float("inf"), torch.tensor([0, 1, 0, 1]))
    assert all(p.isnan().all() for p in network.parameters())


def test_factors_are_averaged_and_kept_in_the_state():
    network, x, y = network_of(3, 2), drawn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0])
    optimizer = KFAC(network.parameters(), lr=0.3, decay=0.5, every=2)
    optimizer.watch(network, CROSS_ENTROPY)
    expected = None
    for step in range(7):
        now = factors_of(network, CROSS_ENTROPY, layers_of(network), x)[0].outputs
        if step % 2 == 0:
            keep = min(1 - 1 / (step // 2 + 1), 0.5)
            expected = now if expected is None else keep * expected + (1 - keep) * now

        def closure() -> Tensor:
            optimizer.zero_grad()
            cost = CROSS_ENTROPY(network(x), y)
            cost.backward()
            return cost

        optimizer.step(closure)
        state = optimizer.state[layers_of(network)[0].weight]
        torch.testing.assert_close(state["output_factor"], expected)
        assert state["step"] == step + 1


def test_a_state_that_is_loaded_goes_on_alike():
    x, y = drawn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0])
    settings = {"every": 4, "momentum": 0.9, "lr": 0.05}
    whole, first = network_of(3, 4, 2, activation="tanh"), network_of(3, 4, 2, activation="tanh")
    take(whole, CROSS_ENTROPY, x, y, steps=7, **settings)
    half = take(first, CROSS_ENTROPY, x, y, steps=3, **settings)
    second = copy.deepcopy(first)
    resumed = KFAC(second.parameters(), **settings)
    resumed.watch(second, CROSS_ENTROPY)
    resumed.load_state_dict(half.state_dict())

    def closure() -> Tensor:
        resumed.zero_grad()
        cost = CROSS_ENTROPY(second(x), y)
        cost.backward()
        return cost

    for _ in range(4):
        resumed.step(closure)
    for p, q in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


class Shared(nn.Module):
    """A layer that is called twice, or never."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.layer, self.other, self.calls = nn.Linear(3, 3), nn.Linear(3, 3), calls

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.layer(x)
        return self.other(x)


def test_what_it_cannot_do_is_refused():
    for settings, words in (
        ({"damping": 0.0}, "damping: 0.0"), ({"every": 0}, "every: 0"), ({"lr": -1.0}, "lr: -1.0"),
        ({"momentum": 1.0}, "momentum: 1.0"), ({"decay": 1.0}, "decay: 1.0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"optimizer.{words} is not possible"):
            KFAC(network_of(2, 2).parameters(), **settings)
    normalised = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="BatchNorm1d lets no example"):
        KFAC(normalised.parameters()).watch(normalised, CROSS_ENTROPY)
    plain = nn.Sequential(nn.Embedding(3, 3))
    with pytest.raises(UserError, match="finds no layer"):
        KFAC(plain.parameters()).watch(plain, CROSS_ENTROPY)
    with pytest.raises(UserError, match="needs to know its network"):
        KFAC(network_of(2, 2).parameters()).step(lambda: None)
    wide = network_of(2, 65)
    with pytest.raises(UserError, match="each of 65 outputs"):
        take(wide, CROSS_ENTROPY, drawn(3, 2), torch.tensor([0, 1, 2]))
    for calls, words in ((2, "is called twice"), (0, "1 of 2 layers are not called")):
        with pytest.raises(UserError, match=words):
            take(Shared(calls), CROSS_ENTROPY, torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
