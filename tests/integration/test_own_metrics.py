"""Metrics of torchmetrics in evaluations: of each member what its predictions give. Ranks: test_ddp.py."""

import pytest
import torch
from fine_tuning import BASE, write_own_arrays
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, MeanSquaredError
from torchmetrics.classification import (
    BinaryAccuracy,
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassROC,
)

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.measures import load
from sgdlit.objectives import CrossEntropy, HalfSquaredError, Logistic
from sgdlit.objectives.losses import NetworkOutput, NextToken
from sgdlit.training.own_metrics import check_metrics, named_values, seen_by_metrics

KINDS = "torchmetrics.classification."
METRICS = {
    "by_class": {
        "class_path": f"{KINDS}MulticlassAccuracy",
        "init_args": {"num_classes": 4, "average": None},
    },
    "calibration": {"class_path": "MulticlassCalibrationError", "init_args": {"num_classes": 4}},
    "confusion": {"class_path": "MulticlassConfusionMatrix", "init_args": {"num_classes": 4}},
}


def test_each_member_is_measured_on_its_own_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_arrays(tmp_path)
    axes = [{"model.optimizer.lr": [0.1, 0.5]}]
    given = {"model.metrics": METRICS, "data.eval_batch_size": 7, "trainer.logger": True}
    run = sgdlit.fit(BASE, given, ensemble=axes, ensemble_curves=True)
    inputs, targets = run.data().tensors("test")
    for k in range(2):
        outputs = run.network(k)(inputs).detach()
        guess = outputs.argmax(1)
        counts = torch.zeros(4, 4, dtype=torch.long)
        for y, z in zip(targets, guess, strict=True):
            counts[y, z] += 1
        matrices = load(run, k)["test_confusion"]
        assert matrices.values[-1].tolist() == counts.tolist()
        assert matrices.about["metric"] == "MulticlassConfusionMatrix"
        shares = counts.diagonal() / counts.sum(1)
        for c in range(4):
            assert run.column(f"test/by_class_{c}", k)[1][-1] == pytest.approx(float(shares[c]))
        own = MulticlassCalibrationError(4)
        own.update(outputs.softmax(1), targets)
        assert run.column("test/calibration", k)[1][-1] == pytest.approx(float(own.compute()), abs=1e-6)
        loss = run.column("test/loss", k)[1][-1]
        assert loss == pytest.approx(float(cross_entropy(outputs, targets)), abs=1e-6)
    assert any(b"test/confusion/member_1" in path.read_bytes() for path in run.folder.glob("events*"))


def test_what_a_metric_is_given():
    logits, labels = torch.tensor([[0.2, 0.6], [0.9, 0.1]]), torch.tensor([1, 0])
    probabilities, classes = seen_by_metrics(CrossEntropy(), logits, labels)
    assert torch.allclose(probabilities, logits.softmax(1))  # torchmetrics takes numbers in [0, 1] for these
    assert classes is labels
    assert seen_by_metrics(CrossEntropy(), logits, torch.tensor([[0.1, 0.9], [1, 0]]))[1].tolist() == [1, 0]
    p, y = seen_by_metrics(Logistic(), torch.tensor([[2.0], [-1.0]]), torch.tensor([1.0, -1.0]))
    assert torch.allclose(p, torch.sigmoid(torch.tensor([2.0, -1.0])))
    assert y.tolist() == [1, 0]
    value, target = seen_by_metrics(HalfSquaredError(), torch.ones(3, 1), torch.zeros(3))
    assert value.shape == target.shape == (3,)
    tokens = seen_by_metrics(NextToken(), torch.randn(2, 5, 7), torch.zeros(2, 5, dtype=torch.long))
    assert (tokens[0].shape, tokens[1].shape) == ((10, 7), (10,))


def test_results_of_every_kind_have_names():
    row, matrices = named_values("a", {"x": torch.tensor(1.0), "y": torch.tensor([2.0, 3.0])})
    assert row == {"a_x": 1.0, "a_y_0": 2.0, "a_y_1": 3.0}
    assert not matrices
    row, matrices = named_values("b", torch.eye(2))
    assert (row, matrices["b"].tolist()) == ({}, [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("name", "metric", "loss", "words"),
    [
        ("accuracy", MulticlassAccuracy(4), CrossEntropy(), "accuracy: not possible as a name"),
        ("by class", MulticlassAccuracy(4), CrossEntropy(), "by class: not possible as a name"),
        ("own", MulticlassConfusionMatrix(3), CrossEntropy(), "own: MulticlassConfusionMatrix cannot take"),
        ("own", BinaryAccuracy(), CrossEntropy(), r"outputs of shape \[16, 4\] and targets of shape \[16\]"),
        ("own", MulticlassROC(4), CrossEntropy(), "own: gives a tuple; allowed: metrics that give a number"),
        ("own", MeanSquaredError(), CrossEntropy(), "MeanSquaredError cannot take"),
        ("own", MeanMetric(), NetworkOutput(), "there is nothing to compare"),
    ],
)
def test_a_metric_that_does_not_go_with_a_run_is_refused(name, metric, loss, words):
    outputs, targets = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 4
    with pytest.raises(UserError, match=rf"model\.metrics\..*{words}"):
        check_metrics({name: metric}, loss, outputs, targets)
