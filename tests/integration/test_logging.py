"""What is logged: once, where it was measured, under one name everywhere."""

import json
import re
import resource
import struct
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY
from fit_runs import Runs, charts
from logging_runs import Recorder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import plugin_data_pb2

from sgdlit.foundations.errors import in_words
from sgdlit.runs import event_file
from sgdlit.runs.charts import Charts, layout

RECORDED = "--trainer.logger=logging_runs.Recorder"
OWN = "--trainer.callbacks+=logging_runs.OwnNumbers"
FOREIGN = ["--data.val_size=0", "--model=logging_runs.Sometimes", "--model.inputs=784", "--model.classes=10"]
EVERY_FOUR = [4, 8, 12, 16, 20]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("logging"))


def columns(runs: Runs, name: str) -> dict[str, dict[int, float]]:
    """Values by step of every column; of a step with two values of one column this is no table."""
    found: dict[str, dict[int, float]] = {}
    for row in runs.rows(name):
        for column, value in row.items():
            if column not in ("step", "epoch") and value:
                own = found.setdefault(column, {})
                assert int(row["step"]) not in own, (column, row)
                own[int(row["step"])] = float(value)
    return found


@pytest.mark.parametrize("every", [3, 10])
def test_a_number_of_a_callback_is_stored_once_where_it_was_measured(runs, every):
    """Rows at every third or tenth step; values at every fourth, at the end of epochs, and always."""
    name = f"own_{every}"
    assert runs.fit(name, OWN, f"--trainer.log_every_n_steps={every}") == 0
    found = columns(runs, name)
    assert found["own/now"] == {step: step for step in EVERY_FOUR}
    assert found["own/later"] == {step: step + 0.5 for step in EVERY_FOUR}
    assert found["own/twice"] == {step: 2 * step for step in EVERY_FOUR}
    assert found["own/each"] == {step: step for step in [1, *range(every, 21, every)]}
    assert found["own/epoch"] == {step: step for step in (6, 12, 18, 20)}
    assert found["own/validation"] == {step: step for step in (6, 12, 18, 20)}
    together = [row for row in runs.rows(name) if row["own/later"]]
    assert all(row["own/twice"] and row["own/now"] for row in together)
    shown = charts(runs.path(name))
    assert {n: v for n, v in found.items() if any(v.values())} == {
        n: pytest.approx(v) for n, v in shown.items() if n != "train/steps_per_second"
    }


def test_a_module_of_ones_own(runs):
    """Evaluations at the step at which they were made; what ``training_step`` logs now and then, once."""
    assert runs.fit("foreign", *FOREIGN, RECORDED, "--trainer.log_every_n_steps=2") == 0
    found, seen = columns(runs, "foreign"), Recorder.last
    assert sorted(found["val/loss"]) == [7, 14, 20]
    assert found["own/gradient"] == {step: step for step in [0, *range(2, 20, 2)]}
    assert found["own/sometimes"] == {step: step for step in range(0, 20, 4)}
    assert sorted(found["train/loss"]) == list(range(0, 20, 2))
    assert len([row for row in runs.rows("foreign") if row["train/loss"]]) == 10
    assert all(
        row["train/accuracy"] and row["own/gradient"] for row in runs.rows("foreign") if row["train/loss"]
    )
    del (
        seen.values["own"],
        seen.values["epoch"],
    )  # the module's to its first logger; in several rows of a step
    assert seen.values == {name: pytest.approx(values) for name, values in found.items()}


def test_other_loggers_have_the_names_of_the_table_and_the_settings(runs):
    assert runs.fit("recorded", RECORDED, OWN) == 0
    seen = Recorder.last
    seen.values.pop("train/steps_per_second")
    assert seen.values == {name: pytest.approx(v) for name, v in columns(runs, "recorded").items()}
    assert not seen.twice
    settings = seen.settings
    assert settings["model.optimizer.lr"] == 0.01
    assert settings["model.network.widths"] == "[784, 16, 10]"
    assert settings["data.batch_size"] == 10
    assert not any(key.startswith(("checkpoints", "logs", "model.network.widths.")) for key in settings)


def test_the_table_of_hyper_parameters_has_a_single_run(runs):
    assert runs.fit("table", "--model.reg_strength=0.25") == 0
    events = EventAccumulator(str(runs.path("table"))).Reload()
    started = plugin_of(events, "_hparams_/session_start_info").session_start_info.hparams
    assert started["model.reg_strength"].number_value == 0.25
    assert started["model.network.widths"].string_value == "[784, 16, 10]"
    columns_ = plugin_of(events, "_hparams_/experiment").experiment.metric_infos
    named = {column.name.tag for column in columns_}
    assert named == set(runs.status("table")) - {"state", "step"}
    assert named <= set(charts(runs.path("table")))
    kept = yaml.safe_load((runs.path("table") / "hparams.yaml").read_text())
    assert kept["data.batch_size"] == 10


def plugin_of(events: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    content = events.summary_metadata[tag].plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_no_charts_of_zeros(runs, tmp_path):
    assert runs.fit("plain", "--ensemble=[{seed_everything: [0, 1]}]") == 0
    shown = charts(runs.path("plain"))
    assert "train/loss_spread" in shown
    assert not {"train/reg_strength", "train/reg_strength_spread", "train/lr_spread"} & set(shown)
    assert all(any(values.values()) for values in shown.values())
    order = layout_of(runs.path("plain"))
    assert [category.title for category in order.category] == ["test and validation", "training"]
    titles = [[chart.title for chart in category.chart][:2] for category in order.category]
    assert titles == [["accuracy", "loss"]] * 2
    for category in order.category:
        for chart in category.chart:
            (tag,) = chart.multiline.tag
            assert any(re.match(tag, name) for name in shown), tag


def layout_of(folder: Path) -> layout_pb2.Layout:
    """The order of charts, as TensorBoard's tab of custom scalars reads it."""
    written = EventAccumulator(str(folder)).Reload().Tensors(CONFIG_SUMMARY_TAG)[-1]
    return layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])


def test_charts_are_in_the_order_in_which_they_are_looked_at():
    names = ["val/loss", "test/loss", "test/accuracy", "train/loss", "train/C_reg", "sensing/samples"]
    names += ["measure/sharpness", "measure/squared_gradient_norm/layers.1", "train/loss_spread", "epoch"]
    found = {title: {what: tags for what, (_, tags) in c.items()} for title, c in layout(names).items()}
    assert [(title, list(charts)) for title, charts in found.items()] == [
        ("test and validation", ["accuracy", "loss"]),
        ("training", ["loss", "C_reg"]),
        ("measure", ["sharpness"]),
        ("sensing", ["samples"]),
    ]
    assert found["test and validation"]["loss"] == ["^(test|val)/loss$"]


def test_a_chart_begins_with_its_zeros_as_soon_as_it_has_another_value(tmp_path):
    logger = Charts(tmp_path / "run" / "version_0", {})
    for step, value in enumerate([0.0, 0.0, 0.0, 1.0, 0.0, 2.0]):
        logger.log_metrics({"a": value, "never": 0.0}, 10 * step)
    logger.finalize("success")
    assert charts(tmp_path / "run" / "version_0") == {"a": {0: 0, 20: 0, 30: 1, 40: 0, 50: 2}}


def test_charts_go_on_as_without_a_stop(tmp_path):
    """``late`` is 0 until after the stop; ``a`` is 0 for a while after it, and has a chart."""
    values = [(0.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 3.0), (2.0, 0.0)]
    one, other = tmp_path / "one" / "version_0", tmp_path / "other" / "version_0"
    for folder, parts in ((one, [(0, 6)]), (other, [(0, 3), (3, 6)])):
        state: dict = {}
        for first, end in parts:
            logger = Charts(folder, {}, 10 * first if first else None)
            logger.restore(state)
            for step in range(first, end):
                a, late = values[step]
                logger.log_metrics({"train/a": a, "train/late": late, "test/loss": 1.0}, 10 * step)
            logger.end({"train/a": 1.0, "train/late": 0.0})
            state = logger.state
            logger.finalize("success")
    assert charts(other) == charts(one)
    assert charts(other)["train/late"] == {0: 0, 30: 0, 40: 3, 50: 0}
    assert layout_of(other) == layout_of(one)
    titles = [chart.title for category in layout_of(other).category for chart in category.chart]
    assert titles == ["loss", "a", "late"]  # also what came after the first evaluation


def test_all_numbers_of_a_step_are_one_event(tmp_path):
    logger = Charts(tmp_path / "run" / "version_0", {})
    for step in range(3):
        logger.log_metrics({"a": torch.tensor(1.5), "b": step + 1}, 10 * step)
    logger.finalize("success")
    assert charts(tmp_path / "run" / "version_0") == {
        "a": {0: 1.5, 10: 1.5, 20: 1.5},
        "b": {0: 1, 10: 2, 20: 3},
    }
    (path,) = (tmp_path / "run" / "version_0").glob("events.*")
    events = [event for event in LegacyEventFileLoader(str(path)).Load() if event.HasField("summary")]
    assert [[value.tag for value in event.summary.value] for event in events] == [["a", "b"]] * 3


def test_charts_leave_out_members_without_a_finite_value(runs):
    """Of two members one diverges: the mean goes on with the other."""
    assert runs.fit("lost", "--ensemble=[{model.optimizer.lr: [0.01, 1.0e+10]}]") == 0
    rows = [row for row in runs.rows("lost") if row["member"] == "0" and row["test/loss"]]
    shown = charts(runs.path("lost"))["test/loss"]
    assert {int(row["step"]): pytest.approx(float(row["test/loss"])) for row in rows} == shown


def test_the_callback_of_the_page_on_loggers(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "logging.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# (mine)\.py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "page_on_loggers.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    runs = Runs(tmp_path)
    given = ["--trainer.callbacks=page_on_loggers.LargestWeight", "--trainer.callbacks.every_n_steps=5"]
    assert runs.fit("page", *given) == 0
    assert sorted(columns(runs, "page")["own/largest_weight"]) == [5, 10, 15, 20]


def test_a_logger_that_cannot_begin_is_refused_before_there_is_a_folder(runs, capsys):
    refusing = "--trainer.logger=logging_runs.Refusing"
    assert runs.fit("no_logger", refusing) == 2
    said = capsys.readouterr().err
    assert "trainer.logger: Refusing cannot begin (RuntimeError: file: is not supported any more)" in said
    assert not runs.path("no_logger").exists()


# Loggers of others, where they are installed


@pytest.mark.filterwarnings("default")
def test_weights_and_biases_without_a_network(runs, monkeypatch, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = ["--trainer.logger=lightning.pytorch.loggers.WandbLogger", "--trainer.logger.offline=true"]
    assert runs.fit("wandb", OWN, *given, f"--trainer.logger.save_dir={tmp_path}") == 0
    import wandb

    wandb.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = wandb_history(path)
    found.pop("train/steps_per_second")
    assert found == {name: pytest.approx(v) for name, v in columns(runs, "wandb").items()}


def wandb_history(path: Path) -> dict[str, dict[int, float]]:
    """Values by step in W&B's file of a run: records in LevelDB's format of logs."""
    from wandb.proto import wandb_internal_pb2

    data, place, record, found = path.read_bytes(), 7, b"", {}
    while place + 7 <= len(data):
        if 2**15 - place % 2**15 < 7:  # the rest of a block that holds no head
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):  # whole, or the last part
            continue
        parsed, record = wandb_internal_pb2.Record.FromString(record), b""
        row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in parsed.history.item}
        for name in row.keys() - {"trainer/global_step"}:
            if not name.startswith("_"):
                found.setdefault(name, {})[row["trainer/global_step"]] = row[name]
    return found


@pytest.mark.filterwarnings("default")
def test_mlflow_in_a_file(runs, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="mlflow keeps its file with sqlalchemy, which is not installed")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    given = [
        "--trainer.logger=lightning.pytorch.loggers.MLFlowLogger",
        f"--trainer.logger.tracking_uri={store}",
    ]
    assert runs.fit("mlflow", OWN, *given, f"--trainer.logger.artifact_location={tmp_path}") == 0
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.data.params["model.optimizer.lr"] == "0.01"
    for name, values in columns(runs, "mlflow").items():
        kept = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert kept == pytest.approx(values), name


def test_events_are_in_the_file_when_a_checkpoint_counts_on_them(tmp_path):
    folder = tmp_path / "run" / "version_0"
    logger = Charts(folder, {})
    logger.bring_to_the_file()
    assert not list(folder.glob("events.*"))
    for step in range(3):
        logger.log_metrics({"a": 1.0 + step}, step)
    logger.bring_to_the_file()
    assert charts(folder) == {"a": {0: 1, 1: 2, 2: 3}}
    logger.finalize("success")


def test_an_event_brings_those_before_it_to_the_file_after_a_second(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(event_file.time, "monotonic", lambda: clock[0])
    logger = Charts(tmp_path / "run" / "version_0", {})
    for step, now in ((0, 0.0), (1, 0.9), (2, 1.1), (3, 1.2)):
        clock[0] = now
        logger.log_metrics({"a": 1.0 + step}, step)
    assert charts(tmp_path / "run" / "version_0") == {"a": {0: 1, 1: 2, 2: 3}}
    logger.finalize("success")


def test_an_event_file_that_cannot_be_written_is_named(tmp_path):
    logger = Charts(tmp_path / "run" / "version_0", {})
    logger.log_metrics({"a": 1.0}, 0)
    logger.bring_to_the_file()
    (path,) = (tmp_path / "run" / "version_0").glob("events.*")

    def write() -> None:
        logger.log_metrics({"a": 2.0}, 1)
        logger.bring_to_the_file()

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="events not written") as refused:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert in_words(refused.value) == f"{path}: events not written (File too large)"
    logger.finalize("failed")
