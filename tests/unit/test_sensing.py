"""Matrix sensing as a run: networks, the summed loss, the report and its figure, the warm-up, resuming."""

import csv
import math

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer

from sgdlit.data.members import data_of
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.teachers import XOR
from sgdlit.foundations.errors import UserError
from sgdlit.measures.relative_error import RelativeError, relative_error
from sgdlit.measures.relative_squared_error import UnseenError, squared_sums
from sgdlit.measures.sensing_risk import SensingRisk, sensing_risk
from sgdlit.measures.singular_values import SensingSpectrum, singular_values
from sgdlit.models import MLP, DeepLinear
from sgdlit.models.diagonal import DiagonalLinear
from sgdlit.models.sensing import BilinearForm, NormalizedStack
from sgdlit.objectives import CrossEntropy
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.checkpoints import Checkpoints
from sgdlit.training.measuring import Measures
from sgdlit.training.module import Training
from sgdlit.training.schedules import SampleWarmUp

# Networks


def test_bilinear_form_is_that_of_its_matrix():
    network = BilinearForm(DeepLinear([5, 7, 5]))
    pairs = torch.randn(6, 2, 5)
    expected = torch.einsum("ni,ij,nj->n", pairs[:, 0], network.matrix, pairs[:, 1])
    assert torch.allclose(network(pairs), expected.unsqueeze(1), rtol=1e-4, atol=1e-5)
    assert BilinearForm(NormalizedStack(5, 2)).matrix is None
    with pytest.raises(UserError, match=r"data\.d: pairs of 4 numbers do not fit .* from 5 to 5"):
        network(torch.randn(1, 2, 4))


def test_simple_network_has_the_rank_one_gradients_of_the_formula():
    """F1: ∇W₁ = −e·a(W₂b)ᵀ and ∇W₂ = −e·(W₁ᵀa)bᵀ for the loss ½(y − aᵀW₁W₂b)²."""
    network = BilinearForm(DeepLinear([5, 5, 5])).double()
    w1, w2 = network.net.weights[0].T, network.net.weights[1].T  # M = (weights[1] weights[0])ᵀ
    a, b, y = torch.randn(5).double(), torch.randn(5).double(), 3.0
    error = y - a @ w1 @ w2 @ b
    loss = 0.5 * (y - network(torch.stack((a, b)).unsqueeze(0))).square().sum()
    first, second = torch.autograd.grad(loss, list(network.parameters()))
    assert torch.allclose(first.T, -error * torch.outer(a, w2 @ b))
    assert torch.allclose(second.T, -error * torch.outer(w1.T @ a, b))


@pytest.mark.parametrize(
    ("normalization", "kinds"),
    [
        ("batchnorm", ["Linear", "BatchNorm1d", "ReLU", "Linear"]),
        ("layernorm", ["Linear", "ReLU", "LayerNorm", "Linear"]),
    ],
)
def test_stack_is_layers_without_the_last_two(normalization, kinds):
    stack = NormalizedStack(8, 2, normalization)
    assert [type(module).__name__ for module in stack.layers] == kinds
    assert len(NormalizedStack(8, 10, normalization).layers) == 28
    assert all(m.bias is None for m in stack.layers if isinstance(m, torch.nn.Linear))
    wide = NormalizedStack(300, 1).layers[0].weight
    assert wide.abs().max().item() == pytest.approx(300**-0.5, rel=1e-3)
    torch.manual_seed(0)
    before = [p.clone() for p in NormalizedStack(8, 2, normalization).parameters()]
    torch.manual_seed(0)
    stack.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, stack.parameters(), strict=True))


def test_diagonal_network_is_linear_with_product_coefficients():
    network = DiagonalLinear(4, u_start=0.1)
    assert network(torch.randn(3, 4)).tolist() == [[0.0]] * 3
    with torch.no_grad():
        network.v.copy_(torch.tensor([1.0, 2.0, 0.0, -1.0]))
    assert torch.allclose(network(torch.eye(4)), torch.tensor([[0.1], [0.2], [0.0], [-0.1]]))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: NormalizedStack(0), "width: 0"),
        (lambda: NormalizedStack(4, normalization="groupnorm"), "groupnorm"),
        (lambda: DiagonalLinear(0), "d: 0"),
        (lambda: DiagonalLinear(3, 0.0, 0.0), "gradient vanishes"),
        (lambda: Measures([RelativeError()], every_n_steps=0), "every_n_steps: 0"),
        (lambda: RelativeError(every_n_steps=0), "every_n_steps: 0"),
        (lambda: UnseenError(window=0), "window: 0"),
        (lambda: Measures([]), "measures: none"),
        (lambda: SampleWarmUp(torch.optim.SGD([torch.zeros(1)], 1.0), 0), "samples: 0"),
        (lambda: SampleWarmUp(torch.optim.SGD([torch.zeros(1)], 1.0), 5, start=2.0), "start: 2"),
    ],
)
def test_bad_arguments_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()


# Measures


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher", "sparse"])
def test_population_risk_in_closed_form_is_the_mean_over_draws(distribution):
    data = MatrixSensing(d=12, r=2, gamma=1.0, steps=1, distribution=distribution, label_noise=2.0)
    pairs, y = data.draw("test", torch.arange(40000))
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    losses = 0.5 * (y - torch.einsum("ni,ij,nj->n", pairs[:, 0], matrix, pairs[:, 1])).square()
    expected = sensing_risk(matrix, data.target.float(), 2.0).item()
    assert losses.mean().item() == pytest.approx(expected, abs=5 * losses.std().item() / 200)


def test_measures_by_hand():
    target = torch.diag(torch.tensor([3.0, 4.0]))
    assert relative_error(torch.zeros(2, 2), target) == 1
    assert relative_error(torch.diag(torch.tensor([3.0, 0.0])), target).item() == pytest.approx(0.8)
    assert singular_values(torch.diag(torch.tensor([1.0, -4.0, 2.0])), 2).tolist() == [4.0, 2.0]
    p, y = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
    assert squared_sums((y - p).square().mean() / 2, y).tolist() == [4.0, 17.0]


# Schedule


def test_warm_up_is_the_one_of_the_protocol():
    """lr · min(1, 0.1 + samples/(d²/4)) with d = 32, B = 16; also after a restart in the middle."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = SampleWarmUp(optimizer, samples=256, batch_size=16)
    for step in range(20):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * min(1, 0.1 + step * 16 / 256))
        optimizer.step()
        schedule.step()
        if step == 7:
            state = schedule.state_dict()
            schedule = SampleWarmUp(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0), 1)
            optimizer = schedule.optimizer
            schedule.load_state_dict(state)
            optimizer.param_groups[0]["lr"] = schedule.get_last_lr()[0]  # the optimizer's own state has it


# Runs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
]


def table(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def measured(folder):
    """The rows of measures, as numbers."""
    rows = [{name: float(v) for name, v in row.items() if v} for row in table(folder)]
    return [row for row in rows if "sensing/samples" in row]


def train(folder, data, network, steps=40, ckpt=None, every=5, **given):
    torch.manual_seed(0)
    network.reset_parameters()
    options = {"loss": "half_squared_error", "optimizer": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9)}
    trainer = {k: given.pop(k) for k in ("accumulate_grad_batches", "precision") if k in given}
    run = Training(network, **{**options, **given})
    linear = isinstance(network, BilinearForm) and network.matrix is not None
    own = (
        [RelativeError(), SensingRisk(), SensingSpectrum(every_n_steps=10)]
        if linear
        else [UnseenError(window=8)]
    )
    report = Measures(own, every)
    callbacks = [report] if isinstance(data, MatrixSensing) else []
    keeper = Checkpoints()
    keeper.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    keep = len(table(folder)) if ckpt else 0
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=MetricsFile(folder, keep),
        callbacks=[*callbacks, keeper],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        log_every_n_steps=10,
        **trainer,
    )
    trainer.fit(run, data, ckpt_path=ckpt, weights_only=True)
    return run, report


def sensing(**given):
    return MatrixSensing(**{"d": 16, "r": 2, "gamma": 0.5, "batch_size": 4, "steps": 40, "seed": 2, **given})


@pytest.mark.parametrize("net", [DeepLinear([16, 16, 16]), NormalizedStack(16, 3)], ids=["linear", "stack"])
@pytest.mark.parametrize("stop", [13, 26])
def test_a_resumed_run_ends_bitwise_where_the_whole_one_ends(tmp_path, net, stop):
    whole, report = train(tmp_path / "whole", sensing(), BilinearForm(net), reduction="sum")
    end = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    train(tmp_path / "part", sensing(), BilinearForm(net), steps=stop, reduction="sum")
    ckpt = tmp_path / "part" / "checkpoints" / "resume.ckpt"
    resumed, again = train(tmp_path / "part", sensing(), BilinearForm(net), ckpt=ckpt, reduction="sum")
    assert all(torch.equal(tensor, end[name]) for name, tensor in resumed.state_dict().items())
    assert str(again.state_dict()) == str(report.state_dict())
    rows = {row["sensing/samples"]: row for row in measured(tmp_path / "part")}
    for row in measured(tmp_path / "whole"):
        assert rows[row["sensing/samples"]] == row


def test_report_of_a_linear_network_is_in_closed_form(tmp_path):
    data = sensing()
    run, _ = train(tmp_path, data, BilinearForm(DeepLinear([16, 16, 16])))
    rows = measured(tmp_path)
    assert [row["step"] for row in rows] == list(range(0, 41, 5))
    assert [row["step"] for row in rows if "sensing/singular_value_2" in row] == [0, 10, 20, 30, 40]
    matrix = run.members[0].network.matrix.detach().double()
    last = rows[-1]
    assert last["sensing/samples"] == 160
    assert last["sensing/relative_error"] == pytest.approx(
        float((matrix - data.target).norm() / data.target.norm()), rel=1e-6
    )
    assert last["sensing/singular_value_1"] == pytest.approx(
        float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-6
    )
    assert last["sensing/target_singular_value_1"] == pytest.approx(
        float(torch.linalg.matrix_norm(data.target, 2)), rel=1e-6
    )


def test_report_of_a_stack_is_the_mean_over_unseen_minibatches(tmp_path):
    """Second implementation: a loop that predicts each minibatch before it learns from it."""
    data = sensing()
    train(tmp_path, data, BilinearForm(NormalizedStack(16, 2, "layernorm")), steps=20, reduction="sum")
    rows = measured(tmp_path)
    torch.manual_seed(0)
    network = BilinearForm(NormalizedStack(16, 2, "layernorm"))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    errors = []
    for step in range(20):
        pairs, y = data.draw("train", torch.arange(4 * step, 4 * step + 4))
        missed = (y.unsqueeze(1) - network(pairs)).square().sum()
        errors.append((missed / y.square().sum()).item())
        optimizer.zero_grad()
        (0.5 * missed).backward()
        optimizer.step()
    assert rows[-1]["sensing/relative_squared_error"] == pytest.approx(sum(errors[-8:]) / 8, rel=1e-4)
    assert rows[0]["sensing/relative_squared_error"] == pytest.approx(sum(errors[:5]) / 5, rel=1e-4)


def test_summed_loss_is_the_mean_with_a_rate_b_times_as_large(tmp_path):
    def run(name, lr, **given):
        network = BilinearForm(DeepLinear([16, 16, 16]))
        given["optimizer"] = lambda p: torch.optim.SGD(p, lr=lr)
        run, _ = train(tmp_path / name, sensing(dtype="float64"), network, precision="64-true", **given)
        return torch.cat([p.detach().flatten() for p in run.parameters()]), table(tmp_path / name)

    summed, one = run("sum", 1e-3, reduction="sum")
    mean, other = run("mean", 4e-3)
    split, _ = run("split", 1e-3, reduction="sum", accumulate_grad_batches=2)
    assert torch.allclose(summed, mean, rtol=1e-12)
    assert torch.allclose(summed, split, rtol=1e-12)
    for a, b in zip(one, other, strict=True):
        if a["train/loss"]:
            assert float(a["train/loss"]) == pytest.approx(float(b["train/loss"]), rel=1e-9)
            assert float(a["train/C_reg"]) == pytest.approx(float(b["train/C_reg"]), rel=1e-9)
            assert float(a["train/gradient_norm"]) == pytest.approx(4 * float(b["train/gradient_norm"]))


def test_report_refuses_what_it_cannot_look_at(tmp_path):
    data = XOR(d=16, steps=4)
    with pytest.raises(UserError, match="MLP on XOR"):
        Trainer(
            accelerator="cpu", logger=False, callbacks=[Measures([RelativeError()])],
            enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, max_steps=1,
        ).fit(Training(MLP([16, 4, 1]), "logistic"), data)  # fmt: skip


def test_what_no_measure_can_look_at():
    with pytest.raises(UserError, match="data: LightningDataModule cannot be measured"):
        data_of(LightningDataModule())
    with pytest.raises(UserError, match="net: Linear has no `widths`"):
        BilinearForm(torch.nn.Linear(4, 4))


def test_cross_entropy_of_soft_labels():
    outputs, soft = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    expected = -(soft * outputs.log_softmax(1)).sum(1)
    loss = CrossEntropy()
    assert torch.allclose(loss.per_example(outputs, soft), expected)
    assert loss.correct(outputs, soft).tolist() == [True, False]
    loss.check_targets(outputs, soft)
    with pytest.raises(UserError, match="sum to 1"):
        loss.check_targets(outputs, soft / 2)
    assert math.isclose(float(loss(outputs, soft)), float(expected.mean()), rel_tol=1e-6)
