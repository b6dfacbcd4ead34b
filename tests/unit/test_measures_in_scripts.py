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
from sgdlit.foundations.philox import derive_key
from sgdlit.measures import (
    HessianProducts,
    batch_sharpness,
    c_reg_parts,
    example_norms,
    gradient_noise,
    gradient_norm,
    noise_of_batch,
    noise_of_first,
    sharpness,
    step_ratio,
    trace,
    train_test_gap,
)
from sgdlit.models.mean_field import MeanField
from sgdlit.objectives import CrossEntropy
from sgdlit.theory import heavy_tails

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
        "first": 2,
        "gradient": {name: torch.zeros_like(p) for name, p in net.named_parameters()},
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


NET = nn.Linear(3, 2).double()
PAIR = (torch.arange(12.0, dtype=torch.float64).reshape(4, 3).sin(), torch.tensor([0, 1, 1, 0]))
NORMS, MATRIX = torch.tensor([1.0, 2.0, 3.0]), torch.eye(3, dtype=torch.float64)
NAN, INF = float("nan"), float("inf")
HERE = dict(NET.named_parameters())
HESSIANS = torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
DESCENT = torch.optim.SGD(NET.parameters(), lr=0.1)
ROWS = torch.ones(2, 3), torch.eye(3).expand(2, 3, 3)


def of(name: str, **given: Any) -> Any:
    """A call of a function of the folder with the network, a loss and one batch."""
    return lambda: getattr(sgdlit.measures, name)(NET, CrossEntropy(), [PAIR], **given)


def with_numbers(name: str, *given: Any, **more: Any) -> Any:
    return lambda: getattr(sgdlit.measures, name)(*given, **more)


SENSELESS: dict[str, Any] = {
    r"population: 3 .* 4 examples .*: 4 or more": of("gradient_noise", population=3),
    r"population: nan .* 4 or more": of("gradient_noise", population=float("nan")),
    r"population: 2 .* 4 or more": of("c_reg_parts", batch_sizes=[2], population=2),
    r"population: 1 .* 4 or more": lambda: train_test_gap(NET, CrossEntropy(), [PAIR], [PAIR], 1),
    r"population: 1 .* 6 or more": with_numbers("noise_of_parts", NORMS, [2, 2, 2], 1.0, 1),
    r"batch_sizes: 9 .* 1 to 4": of("c_reg_parts", batch_sizes=[9]),
    r"batch_sizes: 0 .* 1 to 4": of("c_reg_parts", batch_sizes=[0]),
    r"squared_norms: 1 are not enough": with_numbers("noise_of_parts", NORMS[:1], [2], 1.0, 9),
    r"norms: 2 are not": with_numbers("noise_of_examples", NORMS[:2], NORMS[:2], 1.0, 9),
    r"level: 2 .* below 1": with_numbers("noise_of_examples", NORMS, NORMS, 1.0, 9, level=2),
    r"level: 0 .* below 1": with_numbers("noise_of_steps", [1.0] * 9, [1.0] * 9, level=0),
    r"probes: 0 .* 1, 2, 3": of("trace", probes=0),
    r"probes: 2\.5 ": of("trace", probes=2.5),
    r"probes: -1 ": of("curvature_noise", probes=-1),
    r"^probes: 0 ": of("noise_alignment", probes=0),
    r"steps: 0 ": of("spectral_density", steps=0),
    r"starts: 0 ": of("spectral_density", starts=0),
    r"tolerance: -1 .* 0 or more": of("sharpness", tolerance=-1),
    r"tolerance: nan ": of("gauss_newton_sharpness", tolerance=float("nan")),
    r"count: 0 .* 1 to 8": of("sharpness", count=0),
    r"radius: 0 .* positive": of("average_sharpness", radius=0),
    r"draws: 0 ": of("average_sharpness", draws=0),
    r"repeats: 0 ": of("gradient_gram", repeats=0),
    r"factor: 0 ": lambda: sgdlit.measures.scale_invariant_weights(NET, CrossEntropy(), PAIR, factor=0),
    r"size: 0 ": lambda: list(sgdlit.measures.drawn_minibatches([PAIR], 0, 1, derive_key(0, "of a test"))),
    r"^count: 0 ": with_numbers("random_projections", {"w": NORMS}, 0),
    r"horizon: 0 ": with_numbers("rollout_cost", NORMS, 0),
    r"count: -2 ": with_numbers("row_alignment", *ROWS, -2),
    r"count: -1 ": with_numbers("singular_values", MATRIX, -1),
    r"^tolerance: -1 ": with_numbers("numerical_rank", NORMS, -1),
    r"threshold: -1 ": with_numbers("support_size", NORMS, -1),
    r"label_noise: -1 ": with_numbers("sensing_risk", MATRIX, MATRIX, -1),
    r"^BarrierFromStart\.points: 1 .* 2, 3, 4 and": with_numbers("BarrierFromStart", points=1),
    r"Coefficient\.burn_in: -1 .* 0, 1, 2 and": with_numbers("LocalLearningCoefficient", burn_in=-1),
    r"^AdaptiveSharpness\.steps: -1 .* 0, 1": with_numbers("AdaptiveSharpness", steps=-1),
    r"^LinearStability\.tolerance: nan ": with_numbers("LinearStability", tolerance=float("nan")),
    r"^Sharpness\.tolerance: 1 .* below 1": with_numbers("Sharpness", tolerance=1),
    r"^points: 2\.5 .* 2, 3, 4": of("line", one=HERE, other=HERE, points=2.5),
    r"^points: nan .* 2, 3, 4": of("barrier", one=HERE, other=HERE, points=NAN),
    r"^alpha: nan .* finite": with_numbers("between", HERE, HERE, NAN),
    r"^alphas: 0 are not enough": of("plane", u=HERE, v=HERE, alphas=[], betas=[0.0]),
    r"^alphas: nan .* finite": of("plane", u=HERE, v=HERE, alphas=[NAN], betas=[0.0]),
    r"^betas: inf .* finite": of("plane", u=HERE, v=HERE, alphas=[0.0], betas=[INF]),
    r"^path: 0 are not enough": with_numbers("plane_of_path", HERE, []),
    r"^tolerance: -1 .* positive": of("linear_stability", batch_size=2, tolerance=-1),
    r"^batch_size: 2\.5 .* 1 to 4": of("linear_stability", batch_size=2.5, tolerance=9),
    r"^batch_size: 0 .* 1 to 3": with_numbers("stable_rate", HESSIANS, 0),
    r"^batch_size: 9 .* 1 to 3": with_numbers("stable_rate", HESSIANS, 9),
    r"^factor: 0 .* positive": with_numbers("stability_limit", DESCENT, 0),
    r"^factor: nan .* positive": with_numbers("stability_limit", DESCENT, NAN),
    r"^lr: nan .* 0 or more": with_numbers("effective_lr", NAN, NORMS),
    r"^lr: -1 .* 0 or more": with_numbers("effective_lr", -1, NORMS),
    r"^weight: 0\.0 .* positive": with_numbers("effective_lr", 0.1, 0 * NORMS),
    r"^sample: inf .* positive": with_numbers("hill", NORMS / torch.tensor([1.0, 1.0, 0.0])),
    r"^sample: nan .* positive": with_numbers("hill", NORMS * NAN),
    r"^sample: 1 are not enough": with_numbers("hill", NORMS[:1]),
    r"^block: 2\.5 ": with_numbers("noise_of_steps", [1.0] * 9, [1.0] * 9, block=2.5),
    r"^squares: 8 for 9 traces": with_numbers("noise_of_steps", [1.0] * 9, [1.0] * 8),
    r"^parts: 2\.5 .* 2 to 4": lambda: noise_of_batch(NET, CrossEntropy(), PAIR, 2.5),
    r"^first: 4 .* 1 to 3": lambda: noise_of_first(NET, CrossEntropy(), PAIR, 4, HERE),
    r"^first: 0 .* 1 to 3": lambda: noise_of_first(NET, CrossEntropy(), PAIR, 0, HERE),
    r"^inputs: 3 .* 0 to 2": with_numbers("feature_share", MATRIX, [3]),
    r"^inputs: 0 are not enough": with_numbers("feature_share", MATRIX, []),
    r"^count: 1\.5 .* 1 to 8": of("sharpness", count=1.5),
    r"^batch_sizes: 1\.5 .* 1 to 4": of("c_reg_parts", batch_sizes=[1.5]),
    r"^batch_sizes: 0 are not enough": of("c_reg_parts", batch_sizes=[]),
    r"^share: nan .* below 1": lambda: heavy_tails.hill(NORMS.numpy(), NAN),
    r"^values: 0\.0 .* positive": lambda: heavy_tails.hill(0 * NORMS.numpy(), 0.5),
}
"""What is said, and the call of which it is said."""


@pytest.mark.parametrize("said", SENSELESS)
def test_numbers_without_sense_are_refused_in_words(said):
    with pytest.raises(UserError, match=said):
        SENSELESS[said]()


@pytest.mark.parametrize(
    "name", ["trace", "gradient_noise", "gradient_norm", "example_norms", "class_losses"]
)
@pytest.mark.parametrize("batches", [PAIR, list(PAIR), PAIR[0]], ids=["pair", "list", "inputs"])
def test_one_batch_is_no_list_of_batches(name, batches):
    with pytest.raises(UserError, match=r"^batches: a .*allowed: \[\(inputs, targets\)\]"):
        getattr(sgdlit.measures, name)(NET, CrossEntropy(), batches)
