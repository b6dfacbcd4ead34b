"""C_reg against its closed form for a linear model, and as a report of a run."""

import pytest
import torch
from fit_runs import Runs, datamodule

from sgdlit.measures.c_reg import c_reg
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name


def test_closed_form_of_a_linear_model():
    """∇Ĉ = Xᵀe/B for ½ mean (xᵀw − y)²."""
    torch.manual_seed(0)
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    network = torch.nn.Linear(5, 1, bias=False).double()
    error = x @ network.weight.detach()[0] - y
    gradients = [x[k : k + 4].T @ error[k : k + 4] / 4 for k in (0, 4, 8)]
    expected = sum(g.square().sum() for g in gradients) / 3 / 4
    batches = zip(x.split(4), y.split(4), strict=True)
    found = c_reg(network, loss_by_name("half_squared_error"), batches)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("grid", [[], ["--ensemble=[{seed_everything: [3, 0]}]"]])
def test_a_run_reports_it_and_evaluates_its_training_set(tmp_path, grid):
    runs = Runs(tmp_path)
    report = ["--trainer.callbacks=sgdlit.training.measuring.Measures", "--trainer.callbacks.measures=[CReg]"]
    report += ["--trainer.callbacks.every_n_steps=8", "--data.evaluate_train=true"]
    assert runs.fit("reported", *report, *grid) == 0
    rows = [row for row in runs.rows("reported") if row.get("member", "1") == "1"]
    assert [row["step"] for row in rows if row["train_set/C_reg"]] == ["0", "8", "16", "20"]
    data = datamodule(runs)
    images, labels = data.subsets["train"].take(torch.arange(60))
    inputs = data.standardise(images)
    network = MLP([784, 16, 10])
    prefix = "networks.1." if grid else "networks.0."
    state = runs.checkpoint("reported")["state_dict"]
    network.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    loss = loss_by_name("cross_entropy")
    expected = c_reg(network, loss, zip(inputs.split(10), labels.split(10), strict=True))
    measured = [row["train_set/C_reg"] for row in rows if row["train_set/C_reg"]]
    assert float(measured[-1]) == pytest.approx(float(expected), rel=1e-5)
    with torch.no_grad():
        outputs = network(inputs)
    last = next(row for row in reversed(rows) if row["train_set/loss"])
    assert float(last["train_set/loss"]) == pytest.approx(float(loss(outputs, labels)), rel=1e-5)
    accuracy = float((outputs.argmax(1) == labels).float().mean())
    assert float(last["train_set/accuracy"]) == pytest.approx(accuracy)
