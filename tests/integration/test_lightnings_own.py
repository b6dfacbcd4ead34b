"""Every callback and option of Lightning has a row in docs/lightning.md, and goes as the row says.

Here some of the rows; all of them in ``tests/long``.
"""

import inspect
import io
import logging
import re
from pathlib import Path

import lightning.pytorch
import pytest
from conftest import REPOSITORY
from fit_runs import Runs
from lightning_rows import CALLBACKS, MORE, OPTIONS, Row, problems

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
