"""Every callback and option of Lightning has a row in docs/lightning.md, and goes as the row says.

Here some of the rows; all of them in ``tests/long``.
"""

import inspect
import io
import logging
import re
import warnings
from pathlib import Path

import lightning.pytorch
import pytest
import torch
from conftest import REPOSITORY
from fit_runs import Runs
from lightning_rows import CALLBACKS, MORE, OPTIONS, Row, problems
from torch.utils.data import DataLoader

from sgdlit.cli.main import main

SAMPLE = ("EMAWeightAveraging", "OnExceptionCheckpoint", "LambdaCallback", "overfit_batches")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("lightning"))


def test_every_callback_and_option_has_a_row():
    options = inspect.signature(lightning.pytorch.Trainer.__init__).parameters
    assert {row.name for row in CALLBACKS} == set(lightning.pytorch.callbacks.__all__)
    assert [row.name for row in OPTIONS] == list(options)[1:]


def test_the_table_of_the_docs_says_the_same():
    text = (REPOSITORY / "docs" / "lightning.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (\w+)", text, flags=re.MULTILINE))
    assert table == {row.name: row.way for row in (*CALLBACKS, *OPTIONS)}


@pytest.mark.parametrize("row", [row for row in (*CALLBACKS, *OPTIONS) if row.name in SAMPLE], ids=str)
def test_a_row(runs, row: Row, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert problems(runs, row, row.name) == []


def test_a_checkpoint_by_the_clock_is_written(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (row,) = (row for row in MORE if "train_time_interval" in str(row))
    assert problems(runs, row, "by_the_clock") == []


class Own(lightning.pytorch.LightningModule):
    """A module with a shuffled DataLoader of ten batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(20, 4), batch_size=2, shuffle=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("default:.*does not have many workers.*")
@pytest.mark.parametrize(("step", "warned"), [(13, True), (10, False)])
def test_what_is_true_of_a_loader_of_ones_own_is_said(tmp_path, monkeypatch, capsys, step, warned):
    """A run that is resumed within an epoch begins the epoch anew; and in any case in another order."""
    monkeypatch.chdir(tmp_path)
    common = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(["fit", "--model=test_lightnings_own.Own", f"--trainer.max_steps={step}", *common]) == 0
    with warnings.catch_warnings(record=True) as said:
        assert main(["fit", "--resume", "logs/run/version_0", "--trainer.max_steps=15"]) == 0
    assert any("dataloader is not resumable" in str(each.message) for each in said) == warned
    assert "the DataLoader shuffles (RandomSampler)" in capsys.readouterr().err


class Resumable(Own):
    """The same with torchdata's loader, and examples that differ."""

    def train_dataloader(self) -> DataLoader:
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(torch.arange(80.0).view(20, 4) / 80, batch_size=2, shuffle=True)


@pytest.mark.filterwarnings("ignore")
def test_torchdatas_loader_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchdata", reason="torchdata is not installed")
    monkeypatch.chdir(tmp_path)
    model = ["--model=test_lightnings_own.Resumable", "--trainer.accelerator=cpu"]
    ends = []
    for name, stop in (("straight", 25), ("within", 13), ("between", 10)):
        assert main(["fit", *model, f"--name={name}", f"--trainer.max_steps={stop}"]) == 0
        folder = Path("logs") / name / "version_0"
        assert stop == 25 or main(["fit", "--resume", str(folder), "--trainer.max_steps=25"]) == 0
        ends.append(torch.load(folder / "checkpoints" / "resume.ckpt", weights_only=True)["state_dict"])
    assert all(
        torch.equal(a, b) for end in ends[1:] for a, b in zip(ends[0].values(), end.values(), strict=True)
    )
    assert "the DataLoader shuffles" not in capsys.readouterr().err


def test_what_a_config_asks_for_is_said(runs):
    """``profiler: simple``, and callbacks that are verbose; and nothing that nobody has asked for."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("lightning.pytorch").addHandler(handler)
    verbose = ", init_args: {monitor: val/loss, verbose: true}}"
    callbacks = f"[{{class_path: EarlyStopping{verbose}, {{class_path: ModelCheckpoint{verbose}]"
    arguments = ["--trainer.max_steps=12", "--trainer.profiler=simple", f"--trainer.callbacks={callbacks}"]
    try:
        assert runs.fit("said", *arguments) == 0
    finally:
        logging.getLogger("lightning.pytorch").removeHandler(handler)
    assert "FIT Profiler Report" in said.getvalue()
    assert "Metric val/loss improved" in said.getvalue()
    assert "'val/loss' reached" in said.getvalue()
    assert "available: " not in said.getvalue()
