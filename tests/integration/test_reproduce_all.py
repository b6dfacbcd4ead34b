"""Many papers: side by side, killed and started again, with parts that are missing, and as a page."""

import json
import os
import subprocess
import sys

import pytest
from fit_runs import wait_until

from sgdlit.cli.main import main as sgdlit
from sgdlit.cli.reproduce import main
from sgdlit.papers import catalogue

PAPER = """
import os, time
from pathlib import Path
from sgdlit.figures.style import panels
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper

HERE = Path(__file__).parent

def measure(options, workshop):
    (HERE / "{name}.began").touch()
    for _ in range(600):  # until the other one, or the test, says so
        if (HERE / "{waits_for}").exists():
            return evidence(True)
        time.sleep(0.1)
    return evidence(False)

def evidence(holds):
    finding = Finding("A1", "n", "1", "1", holds, "none: a count")
    return Evidence({{"pid": [{{"pid": os.getpid()}}]}}, [finding])

def draw(tables):
    figure, (ax,) = panels(1, 1)
    ax.plot([0, 1])
    return {{"line": figure}}

def refuse(options, workshop):
    {refusal}

CLAIM, OTHER = (Claim(i, "it is", "nobody", "exact", "1", "small", "large") for i in ("A1", "A2"))
EXPERIMENTS = (Experiment("one", (CLAIM,), measure, draw), {second})
PAPER = Paper("{name}", "A paper of one's own", EXPERIMENTS)
"""
SECOND = 'Experiment("two", (OTHER,), refuse, draw)'
DATA = 'Experiment("two", (OTHER,), lambda o, w: Evidence(notes=["left out"]), draw, needs_data=True)'


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Makes papers ``own.NAME``, which other processes find too."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{before}")
    monkeypatch.delenv("SGDLIT_DATA", raising=False)

    def make(name, waits_for, second="", refusal="pass"):
        text = PAPER.format(name=name, waits_for=waits_for, second=second, refusal=refusal)
        (folder / f"{name}.py").write_text(text)
        return folder

    yield make
    for name in [name for name in sys.modules if name == "own" or name.startswith("own.")]:
        del sys.modules[name]


def claims(out, name):
    return json.loads((out / name / "claims.json").read_text())


def test_two_papers_run_at_a_time(own, tmp_path, capsys):
    """Each waits until the other has begun."""
    own("a", "b.began")
    own("b", "a.began")
    out = tmp_path / "out"
    assert main(["own.a", "own.b", "--jobs", "2", "--out", str(out), "--page"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("1 of 1 findings hold") == 2
    assert {claims(out, name)["A1"]["state"] for name in "ab"} == {"holds"}
    pids = {(out / name / "pid.csv").read_text() for name in "ab"}
    assert len(pids) == 2
    page = (out / "index.html").read_text()
    assert 'id="a-A1" data-state="holds"' in page
    assert page.count("data:image/png") == 2


def test_what_was_killed_is_not_done_again_where_it_had_ended(own, tmp_path, capsys):
    folder = own("a", "a.began")
    own("b", "go")
    out = tmp_path / "out"
    command = ["own.a", "own.b", "--missing", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "sgdlit", "reproduce", *command], cwd=tmp_path)
    wait_until(lambda: (folder / "b.began").exists(), process)
    process.kill()
    process.wait()
    before = (out / "a" / "claims.json").stat().st_mtime_ns
    (folder / "go").touch()
    (folder / "a.began").unlink()
    assert main(command) == 0
    assert "a: one is there already" in capsys.readouterr().err
    assert not (folder / "a.began").exists()
    assert (out / "a" / "claims.json").stat().st_mtime_ns == before
    assert claims(out, "b")["A1"]["state"] == "holds"


def test_processes_pass_on_what_stops_them(own, tmp_path):
    folder = own("a", "never")
    own("b", "never")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sgdlit",
        "reproduce",
        "own.a",
        "own.b",
        "--jobs",
        "2",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (folder / "a.began").exists() and (folder / "b.began").exists(), process)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in said
    assert not out.exists()


def test_a_check_that_is_refused_is_recorded_and_does_not_stop_the_others(own, tmp_path, capsys):
    own("a", "a.began", SECOND, "from sgdlit.foundations.errors import UserError; raise UserError('no luck')")
    out = ["--out", str(tmp_path / "out")]
    assert sgdlit(["reproduce", "own.a", *out]) == 2
    assert "no luck" in capsys.readouterr().err
    assert main(["own.a", "--missing", *out]) == 0
    assert "a: two was not checked: no luck" in capsys.readouterr().err
    kept = claims(tmp_path / "out", "a")
    assert (kept["A1"]["state"], kept["A2"]["state"], kept["A2"]["notes"]) == (
        "holds",
        "not run",
        ["no luck"],
    )


def test_a_dry_run_leaves_out_what_is_there(own, tmp_path, capsys):
    own("a", "a.began")
    own("b", "b.began")
    out = ["--out", str(tmp_path / "out")]
    assert main(["own.a", *out]) == 0
    capsys.readouterr()
    assert main(["own.a", "own.b", "--dry-run", *out]) == 0
    both = capsys.readouterr().out
    assert main(["own.a", "own.b", "--missing", "--dry-run", *out]) == 0
    left = capsys.readouterr().out
    assert "a:A1" in both
    assert "a:A1" not in left
    assert "b:A1" in left
    assert main(["own.a", "--missing", "--dry-run", *out]) == 0
    assert capsys.readouterr().out == "nothing is missing\n"


def test_missing_without_a_target_lists_what_has_no_findings(own, tmp_path, capsys, monkeypatch):
    own("a", "a.began", SECOND, "return Evidence(notes=['left out'])")
    own("b", "b.began")
    from own import a, b

    monkeypatch.setattr(catalogue, "papers", lambda: {"a": a.PAPER, "b": b.PAPER})
    out = ["--out", str(tmp_path / "out")]
    assert main(["own.a", "own.b", "--missing", *out]) == 0
    capsys.readouterr()
    assert main(["--missing", *out]) == 0
    said = capsys.readouterr().out
    assert "A2" in said
    assert "A1" not in said
    assert "b: " not in said
    assert said.endswith(f"python -m sgdlit reproduce --all checks what is missing in {tmp_path / 'out'}.\n")
    monkeypatch.setattr(catalogue, "papers", lambda: {"b": b.PAPER})
    assert main(["--missing", *out]) == 0
    assert capsys.readouterr().out == f"nothing is missing in {tmp_path / 'out'}\n"


def test_an_extra_that_is_missing_is_named(own, tmp_path, capsys):
    own("a", "a.began", SECOND, "raise ModuleNotFoundError('no dog', name='dog.optimizer')")
    assert sgdlit(["reproduce", "own.a:A2", "--out", str(tmp_path / "out")]) == 2
    assert "pip install sgdlit[optimizers]" in capsys.readouterr().err


def test_a_fault_in_one_paper_does_not_stop_the_others(own, tmp_path, capsys):
    own("a", "a.began", SECOND, "raise ZeroDivisionError('a fault')")
    own("b", "b.began")
    out = tmp_path / "out"
    assert main(["own.a", "own.b", "--missing", "--out", str(out)]) == 1
    assert "ZeroDivisionError: a fault" in capsys.readouterr().err
    assert claims(out, "b")["A1"]["state"] == "holds"


def test_data_that_is_missing_is_made_up_for_later(own, tmp_path, capsys):
    own("a", "a.began", DATA)
    out = ["--out", str(tmp_path / "out")]
    assert main(["own.a", "--missing", *out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "missing, and with it all of this: python -m sgdlit data fashion-mnist" in said
    assert claims(tmp_path / "out", "a")["A2"]["state"] == "not run"
    own("a", "a.began", DATA.replace("notes=[", "{'t': [{'n': 1}]}, notes=["))
    del sys.modules["own.a"]
    assert main(["own.a", "--missing", "--data", str(tmp_path), *out]) == 0
    assert claims(tmp_path / "out", "a")["A2"]["state"] == "no verdict"
    capsys.readouterr()
    assert main(["own.a", "--missing", *out]) == 0  # not done again, and worse, without the data
    assert "a: two is there already" in capsys.readouterr().err


def test_the_set_that_is_needed_at_full_scale_is_named(own, tmp_path, capsys):
    own("a", "a.began", DATA.replace("needs_data=True", 'needs_data=True, data_at_full=("cifar10",)'))
    for scale, name in (("quick", "fashion-mnist"), ("full", "cifar10")):
        given = ["--missing", "--scale", scale, "--out", str(tmp_path / scale)]
        assert main(["own.a", *given]) == 0
        assert f"python -m sgdlit data {name} --root data" in " ".join(capsys.readouterr().out.split())


def test_full_scale_needs_data_where_sweeps_train_on_images(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SGDLIT_DATA", raising=False)
    assert main(["shallue2018:G7", "--scale", "full", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name in ("fashion-mnist", "cifar10"):
        assert f"python -m sgdlit data {name} --root data" in printed
    kept = claims(tmp_path, "shallue2018")["G7"]
    assert (kept["state"], kept["protocol"]["data"]) == ("not run", False)
    assert [path.name for path in (tmp_path / "shallue2018").iterdir()] == ["claims.json"]
    assert main(["--out", str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  G7 "))
    assert line.split()[1:3] == ["not", "run"]
    assert line.split()[3].startswith("≈")  # what it takes, and not what finding nothing took


def test_a_dry_run_of_the_page_says_that_it_would_be_written(tmp_path, capsys):
    assert main(["--page", "--dry-run", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing would be run",
        f"would write the page of {tmp_path}, from what is known",
    ]
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_write_one_paper(own, tmp_path, capsys):
    own("a", "a.began")
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from sgdlit.foundations.locks import Locks; "
        f"locks = Locks(Path({str(out / 'papers.lock')!r})); print(locks.take('a'), flush=True); "
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "True\n"
    assert sgdlit(["reproduce", "own.a", "--out", str(out)]) == 2
    assert "another process checks a; wait until it ends" in capsys.readouterr().err
    holder.communicate("")
    assert sgdlit(["reproduce", "own.a", "--out", str(out)]) == 0


def test_a_collection_names_its_papers(capsys, tmp_path):
    assert main(["edge-of-stability", "--dry-run", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("cohen2021:ES1", "andreyev2024:AB1", "cohen2022:AE1"):
        assert name in printed
    assert sgdlit(["reproduce", "edge-of-stabilty"]) == 2
    assert "did you mean edge-of-stability?" in capsys.readouterr().err


def test_the_page_alone_runs_nothing(capsys, tmp_path):
    assert main(["--page", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out' / 'index.html'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
