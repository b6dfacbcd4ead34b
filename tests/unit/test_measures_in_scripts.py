"""The functions on what a script has: a loader, a loss by name or as a function, a network in any state."""

import copy
import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sgdlit.measures
from sgdlit.foundations.errors import UserError
from sgdlit.measures import (
    HessianProducts,
    batch_sharpness,
    c_reg_parts,
    example_norms,
    gradient_noise,
    gradient_norm,
    sharpness,
    step_ratio,
    trace,
    train_test_gap,
)
from sgdlit.models.mean_field import MeanField
from sgdlit.objectives import CrossEntropy

FUNCTIONS: dict[str, Any] = {
    "sharpness": lambda network, loss, batches: sharpness(network, loss, batches).values.tolist(),
    "trace": lambda network, loss, batches: trace(network, loss, batches, probes=3).trace,
    "gradient_norm": gradient_norm,
    "gradient_noise": gradient_noise,
    "c_reg_parts": lambda network, loss, batches: c_reg_parts(network, loss, batches, [4]),
    "example_norms": lambda network, loss, batches: example_norms(network, loss, batches).tolist(),
    "step_ratio": lambda network, loss, batches: step_ratio(
        network,
        loss,
        batches,
        torch.full((sum(p.numel() for p in network.parameters()),), 0.01, dtype=torch.float64),
    ),
    "train_test_gap": lambda network, loss, batches: train_test_gap(network, loss, batches, batches),
}
OF_MEANS = ("sharpness", "trace", "gradient_norm", "step_ratio")


class Net(nn.Module):
    """With dropout and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def network() -> nn.Module:
    torch.manual_seed(0)
    return Net().double().eval()


def examples(count: int = 26) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(x, torch.randint(3, (count,), generator=generator))


def each(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loader_and_a_function_that_gives_each_loss_are_as_good_as_a_list_and_a_loss(name):
    loader = DataLoader(examples(), batch_size=10)
    expected = FUNCTIONS[name](network(), CrossEntropy(), [tuple(batch) for batch in loader])
    torch.manual_seed(5)
    before, net = torch.get_rng_state(), network()
    torch.manual_seed(5)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    state = copy.deepcopy(net.state_dict())
    found = FUNCTIONS[name](net, each, loader)
    assert torch.equal(torch.get_rng_state(), before), "a loader draws from the generator"
    torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
    assert not any(module.training for module in net.modules())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mean_is_enough_where_no_example_has_a_value_of_its_own(name):
    batches = list(DataLoader(examples(), batch_size=10))
    if name not in OF_MEANS:
        with pytest.raises(UserError, match=r"gives \(\) for .* examples.*allowed: one that gives"):
            FUNCTIONS[name](network(), nn.CrossEntropyLoss(), batches)
        return
    found = FUNCTIONS[name](network(), nn.CrossEntropyLoss(), batches)
    torch.testing.assert_close(found, FUNCTIONS[name](network(), each, batches), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loader_that_shuffles_is_noticed_once(name, capsys):
    loader = DataLoader(examples(), batch_size=10, shuffle=True)
    FUNCTIONS[name](network(), each, loader)
    FUNCTIONS[name](network(), each, loader)
    said = capsys.readouterr().err
    assert said.count("the DataLoader shuffles") == 1
    FUNCTIONS[name](network(), each, DataLoader(examples(), batch_size=10))
    assert "shuffles" not in capsys.readouterr().err


def _takes_a_loss(name: str) -> bool:
    found = getattr(sgdlit.measures, name)
    return inspect.isfunction(found) and {"network", "loss"} <= set(inspect.signature(found).parameters)


INSIDE = {"each_batch", "refuse_company", "prices_of"}  # others check the loss for them
OF_FEW_PARAMETERS = ("example_hessians", "linear_stability")
TAKING_A_LOSS = ["HessianProducts", "GaussNewtonProducts"]
TAKING_A_LOSS += [name for name in dir(sgdlit.measures) if _takes_a_loss(name) and name not in INSIDE]


def _with_loss(name: str, loss: Any) -> Any:
    """What the function finds, of some batches and the least of everything else."""
    small = {"kept_loss": MeanField(6, 3)} | dict.fromkeys(OF_FEW_PARAMETERS, nn.Linear(6, 3))
    net: Any = small[name].double() if name in small else network()
    seen = examples()[:]
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    given = {key: [seen] for key in ("batches", "minibatches", "training", "test")} | {
        "batch": seen,
        "inputs": seen[0],
        "targets": seen[1],
        "optimizer": optimizer,
        "kept": 2,
        "batch_sizes": [4],
        "batch_size": 4,
        "update": torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.float64),
    }
    given |= {key: dict(net.named_parameters()) for key in ("one", "other", "u", "v")}
    given |= {key: [0.0] for key in ("alphas", "betas")}
    function = getattr(sgdlit.measures, name)
    needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    values = {p: given[p] for p in needed if p in given}
    found = function(network=net, loss=loss, **values)
    return found @ values.get("update", found.gradient) if name == "HessianProducts" else found


@pytest.mark.parametrize("name", TAKING_A_LOSS)
def test_what_is_no_loss_is_refused_in_words(name):
    with pytest.raises(UserError, match=r"^loss: 'cross_entropi' is no function .*loss_by_name\('cross_ent"):
        _with_loss(name, "cross_entropi")
    with pytest.raises(UserError, match=r"^loss: the class CrossEntropy is no .* did you mean Cross"):
        _with_loss(name, CrossEntropy)
    if name == "GaussNewtonProducts":
        return  # it runs the network when it is multiplied
    with pytest.raises(UserError, match=r"^loss: <?\w+>? gives \(\d+, 1\) for \d+ examples.*; allowed: one"):
        _with_loss(name, lambda outputs, targets: outputs[:, :1])
    with pytest.raises(UserError, match=r"^loss: <?\w+>? gives a float for \d+ examples.*; allowed: one"):
        _with_loss(name, lambda outputs, targets: 1.0)


def test_what_stands_beside_a_value():
    batches = list(DataLoader(examples(), batch_size=10))
    top = sharpness(network(), each, batches, count=2)
    assert (top.examples, top.converged, len(top.values), len(top.residuals)) == (26, True, 2, 2)
    assert top.products >= 2
    found = trace(network(), each, batches, probes=5)
    assert (found.examples, found.products) == (26, 5)
    assert found.trace.low < found.trace.value < found.trace.high
    noise = gradient_noise(network(), each, batches)
    assert noise.examples == 26
    assert noise.low < noise.noise_scale < noise.high
    assert len(batch_sharpness(network(), each, batches).quotients) == 3


def test_the_operator_is_that_of_scipy_too():
    """Against the dense Hessian and its eigenvalues."""
    import scipy.sparse.linalg

    net, batches = network(), [examples()[:]]
    hessian = HessianProducts(net, nn.CrossEntropyLoss(), batches)
    names, parameters = zip(*net.named_parameters(), strict=True)

    def cost(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in parameters])
        values = {n: v.view_as(p) for n, v, p in zip(names, parts, parameters, strict=True)}
        outputs = torch.func.functional_call(net, values, (batches[0][0],))
        return F.cross_entropy(outputs, batches[0][1])

    dense = torch.func.hessian(cost)(torch.cat([p.detach().flatten() for p in parameters]))
    vectors = torch.randn(hessian.size, 2, dtype=torch.float64)
    torch.testing.assert_close(hessian @ vectors, dense @ vectors, rtol=1e-10, atol=1e-12)
    (largest,) = scipy.sparse.linalg.eigsh(hessian.to_scipy(), 1, which="LA", return_eigenvectors=False)
    assert largest == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-8)
