"""``load_run`` on folders that are written by hand: values, columns, and what is refused."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.runs.folder import locked, make_next
from sgdlit.runs.outcomes import outcomes, summary, write_members
from sgdlit.runs.reading import runs_in

CONFIG = """
name: tiny
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.MLP, init_args: {widths: [4, 3, 2]}}
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
    scheduler: null
trainer:
  callbacks:
  - {class_path: sgdlit.training.iterate_average.IterateAverage, init_args: {decay: 0.5}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "status.json").write_text('{"state": "finished", "step": 20, "test/lowest_loss": 0.5}')
    (tmp_path / "metrics.csv").write_text("step,train/loss,test/loss\n10,1.0,\n10,,3.0\n20,nan,2.0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.optimizer.lr", 0.1),
        ("model.init_args.optimizer.init_args.lr", 0.1),
        ("model.network.widths", [4, 3, 2]),
        ("model.optimizer.class_path", "torch.optim.SGD"),
        ("model.scheduler", None),
        ("model.scheduler.gamma", None),
        ("trainer.callbacks.IterateAverage.decay", 0.5),
        ("trainer.callbacks.0.decay", 0.5),
        ("trainer.callbacks.Other.decay", None),
    ],
)
def test_values_by_short_key(folder, key, value):
    assert sgdlit.load_run(folder).value(key) == value


def test_metrics_are_columns_of_equal_length(folder):
    run = sgdlit.load_run(str(folder))
    np.testing.assert_equal(
        run.metrics,
        {
            "step": np.array([10, 20]),  # one row for what was measured at a step
            "train/loss": np.array([1.0, np.nan]),  # it diverged
            "test/loss": np.array([3.0, 2.0]),
        },
    )
    assert run.metrics["step"].dtype == np.int64
    steps, values = run.column("train/loss")
    np.testing.assert_equal((steps.tolist(), values.tolist()), ([10, 20], [1.0, np.nan]))
    with pytest.raises(
        UserError, match=r"no column 'test/los'; did you mean test/loss\? allowed: train/loss"
    ):
        run.column("test/los")
    assert (run.state, run.status["step"]) == ("finished", 20)
    (only,) = run.members
    assert (only.point, only.reached) == ({}, {"test/lowest_loss": 0.5})


def test_an_ensemble_has_a_member_column_and_points(folder):
    points = [{"model.optimizer.lr": 1.0}, {"model.optimizer.lr": 2.0}]
    members = outcomes(points, [None, 7], "finished", 20, [{"test/highest_accuracy": 0.5}, {}])
    write_members(folder, "finished", 20, members)
    (folder / "metrics.csv").write_text("step,member,train/loss\n10,0,1.0\n10,1,5.0\n20,0,0.5\n")
    run = sgdlit.load_run(folder)
    assert run.metrics["member"].tolist() == [0, 1, 0]
    assert run.column("train/loss", member=0)[1].tolist() == [1.0, 0.5]
    assert [(m.state, m.step) for m in run.members] == [("finished", 20), ("diverged", 7)]
    assert run.value("model.optimizer.lr") == 0.1
    assert run.value("model.optimizer.lr", member=1) == 2.0
    assert run.value("model.network.widths", member=1) == [4, 3, 2]
    with pytest.raises(UserError, match="an ensemble; name the member"):
        run.column("train/loss")
    assert (folder / "members.csv").read_text() == (
        "member,model.optimizer.lr,state,step,test/highest_accuracy\n0,1.0,finished,20,0.5\n1,2.0,diverged,7,\n"
    )
    assert summary(run.members) == "2 members, 1 diverged, test/highest_accuracy 0.5 (one member)"


def test_a_run_that_has_only_begun(folder):
    (folder / "metrics.csv").unlink()
    (folder / "status.json").write_text('{"state": "running", "step": 0}')
    run = sgdlit.load_run(folder)
    assert (run.state, run.members[0].columns) == ("running", {})
    np.testing.assert_equal(run.metrics, {"step": np.array([], np.int64)})
    (folder / "config.yaml").write_text(CONFIG + "ensemble: [{seed_everything: [0, 1]}]\n")
    run = sgdlit.load_run(folder)
    assert not run.alone
    with pytest.raises(UserError, match="how its members ended is not known yet"):
        _ = run.members


def test_folders_that_are_no_run(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(UserError, match=r"not the folder of a run: config\.yaml is missing"):
        sgdlit.load_run(empty)
    with pytest.raises(UserError, match="neither the folder of a run nor one with version_0"):
        runs_in(empty)
    (folder / "status.json").write_text("{")
    with pytest.raises(UserError, match="not the status of a run"):
        _ = sgdlit.load_run(folder).state
    with pytest.raises(UserError, match=r"resume\.ckpt' does not exist"):
        sgdlit.load_run(folder).checkpoint()


DAMAGED = {
    "config": ("config.yaml", b"a: [1", "not valid YAML"),
    "list": ("config.yaml", b"[1]", "not the config of a run"),
    "empty": ("config.yaml", b"", "not the config of a run"),
    "no text": ("config.yaml", b"\xff\xfe", "not a text"),
    "binary": ("metrics.csv", b"step,a\n1,\xff\n", "not a table of text"),
    "foreign": ("metrics.csv", b"name,a\nx,1\n", "not the table of a run"),
    "words": ("metrics.csv", b"step,a\n1,high\n", "not the table of a run"),
    "too many": ("metrics.csv", b"step,a\n1,2,3\n", "not the table of a run"),
    "members": ("status.json", b'{"state": "finished", "step": 2, "members": [{}]}', "members: not those"),
    "count": ("status.json", b'{"state": "finished", "step": 2, "members": 3}', "members: not those"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named(folder, damage):
    name, content, words = DAMAGED[damage]
    (folder / name).write_bytes(content)
    run = sgdlit.load_run(folder)
    with pytest.raises(UserError) as refused:
        _ = run.config, run.members, run.metrics
    assert str(refused.value).startswith(f"{folder / name}: {words}")


def test_a_table_of_no_text_is_not_gone_on_with(folder):
    from sgdlit.runs.metrics_file import MetricsFile

    (folder / "metrics.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"metrics\.csv: not a table of text"):
        MetricsFile(folder, keep=1)


def test_a_column_that_only_dropped_rows_had_is_dropped_with_them(tmp_path):
    from sgdlit.runs.metrics_file import MetricsFile

    (tmp_path / "metrics.csv").write_text("step,a,b\n1,0.5,\n2,,\n3,,0.25\n")
    assert MetricsFile(tmp_path, keep=2).columns == ["step", "a"]
    assert (tmp_path / "metrics.csv").read_text() == "step,a\n1,0.5\n2,\n"


def test_a_table_that_gets_a_column_without_room_is_named(tmp_path):
    from sgdlit.runs.metrics_file import MetricsFile

    table = MetricsFile(tmp_path)
    table.log_metrics({"a": 0.125}, 0)
    table.log_metrics({"b": 0.25}, 1)  # waits
    text, before = table.path.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(text), before[1]))
    try:
        with pytest.raises(OSError, match="row of step 1 not written") as refused:
            table.finalize("failed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.filename == str(table.path)
    assert table.path.read_text() == text
    table.log_metrics({"b": 0.25}, 1)  # there is room again
    table.finalize("success")
    assert table.path.read_text() == "step,a,b\n0,0.125,\n1,,0.25\n"


def write(table, row, added):
    (table.add_metrics if added else table.log_metrics)(row, 1)
    table.keep_through_a_loss_of_power()


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("room", [0, 3])
def test_a_row_without_room_leaves_the_table_as_it_was(tmp_path, added, room):
    from sgdlit.runs.metrics_file import MetricsFile

    path, text = tmp_path / "metrics.csv", "step,a,b\n0,0.125,0.25\n1,0.5,\n"
    table = MetricsFile(tmp_path)
    table.log_metrics({"a": 0.125, "b": 0.25}, 0)
    table.add_metrics({"a": 0.5}, 1)
    assert path.read_text() == text
    before, seal = resource.getrlimit(resource.RLIMIT_FSIZE), table.seal
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(text) + room, before[1]))
    try:
        with pytest.raises(OSError, match="not written") as refused:
            write(table, {"b": 1 / 3}, added)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.filename == str(path)
    assert (path.read_text(), table.rows, table.seal) == (text, 2, seal)
    table.add_metrics({"b": 1 / 3}, 1)  # there is room again
    table.finalize("success")
    assert path.read_text() == text[:-1] + f"{1 / 3}\n"


def test_rows_of_a_fifth_of_a_second_are_written_together(tmp_path, monkeypatch):
    from sgdlit.runs import bursts
    from sgdlit.runs.metrics_file import MetricsFile

    clock = [0.0]
    monkeypatch.setattr(bursts.time, "monotonic", lambda: clock[0])
    table, found = MetricsFile(tmp_path), []
    for step, now in enumerate((0.0, 0.1, 0.15, 0.3, 5.0, 5.1)):
        clock[0] = now
        table.log_metrics({"a": now}, step)
        found.append(len(table.path.read_text().splitlines()) - 1)
    assert found == [1, 1, 1, 4, 5, 5]
    assert table.rows == 6
    assert len(table.path.read_text().splitlines()) == 7
    table.finalize("success")


ENSEMBLE = "ensemble: [{model.optimizer.lr: [1.0, 2.0]}]\n"


@pytest.mark.parametrize("kind", ["alone", "ended", "running"])
def test_a_member_that_there_is_not_is_refused(folder, kind):
    if kind != "alone":
        (folder / "config.yaml").write_text(CONFIG + ENSEMBLE)
        (folder / "metrics.csv").write_text("step,member,test/loss\n10,0,1.0\n10,1,5.0\n")
        (folder / "status.json").write_text('{"state": "running", "step": 0}')
    if kind == "ended":
        points = [{"model.optimizer.lr": 1.0}, {"model.optimizer.lr": 2.0}]
        write_members(folder, "finished", 20, outcomes(points, [None, None], "finished", 20, [{}, {}]))
    run = sgdlit.load_run(folder)
    assert run.column("test/loss", 0)[1].tolist() == ([3.0, 2.0] if kind == "alone" else [1.0])
    allowed = "0" if kind == "alone" else "0 to 1"
    for k in (-1, 9):
        for ask in (
            lambda k=k: run.column("test/loss", k),
            lambda k=k: run.value("model.optimizer.lr", k),
            lambda k=k: run.network(k),
        ):
            with pytest.raises(UserError) as refused:
                ask()
            assert str(refused.value) == f"member: {k} does not exist in {folder}; allowed: {allowed}"


def test_versions_are_counted_and_found_in_their_order(tmp_path):
    made = [make_next(tmp_path, "name") for _ in range(11)]
    for path in made:
        (path / "config.yaml").write_text(CONFIG)
    (tmp_path / "name" / "version_x").mkdir()
    assert [run.folder for run in runs_in(tmp_path / "name")] == made
    assert made[-1].name == "version_10"


STRANGERS = {
    "subprocess.Popen": "model.network: 'subprocess.Popen' is not allowed; allowed: a subclass of nn.Module",
    "torch.optim.SGD": "model.network: 'torch.optim.SGD' is not allowed",
    "no.such.Class": "model.network: 'no.such.Class' is not allowed",
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("inner", [False, True])
def test_only_networks_are_built_from_a_folder(folder, stranger, inner):
    import torch

    config = yaml.safe_load(CONFIG)
    wanted = {"class_path": stranger, "init_args": {"args": ["touch", str(folder / "called")]}}
    if inner:
        wanted = {"class_path": "sgdlit.models.sensing.BilinearForm", "init_args": {"net": wanted}}
    config["model"]["init_args"]["network"] = wanted
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints").mkdir()
    parts = ("state_dict", "global_step", "epoch", "loops", "pytorch-lightning_version")
    torch.save({part: {} for part in parts}, folder / "checkpoints" / "resume.ckpt")
    words = STRANGERS[stranger].replace(
        "model.network:", "model.network.init_args.net:" if inner else "model.network:"
    )
    with pytest.raises(UserError) as refused:
        sgdlit.load_run(folder).network()
    assert str(refused.value).startswith(words)
    assert not (folder / "called").exists()


def test_reading_imports_neither_torch_nor_lightning(folder):
    program = (
        f"import sys, sgdlit; run = sgdlit.load_run({str(folder)!r}); run.metrics, run.members, run.config\n"
        "print([name for name in ('torch', 'lightning', 'jsonargparse') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_a_folder_has_one_writer(tmp_path):
    """A second process is refused, and named; one that is killed leaves nothing."""
    program = (
        "import sys; from pathlib import Path; from sgdlit.runs.folder import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('writing', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "writing\n"
        with pytest.raises(UserError) as refused, locked(tmp_path):
            pass
        assert f"{tmp_path}: process {other.pid} on " in str(refused.value)
        assert "is writing this run; wait until it ends, or stop it" in str(refused.value)
        other.kill()
        other.wait()
    with locked(tmp_path):
        assert json.loads((tmp_path / "writer.lock").read_text().split()[1]) > 0
    assert (tmp_path / "writer.lock").read_text() == ""


@pytest.mark.parametrize("named", ["xor/version_0", "xro/version_0", "logs/xro/version_0"])
def test_a_run_that_is_named_by_its_end_or_nearly_is_found_in_the_logs(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    folder = Path("logs/xor/version_0")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    with pytest.raises(UserError, match="allowed: logs/xor/version_0"):
        sgdlit.load_run(named)
