"""The command ``reproduce``: what it lists, writes, refuses, and does not do twice."""

import json
import subprocess
import sys

import pytest

from sgdlit.cli.main import main as sgdlit
from sgdlit.cli.reproduce import main
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table
from sgdlit.papers.catalogue import papers

CONVEX = ["--convex.steps", "[10,20]", "--convex.runs", "20"]


def test_the_list_has_every_claim_and_how_it_stands(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert main(["blog:B10", *out, *CONVEX]) == 0
    capsys.readouterr()
    assert main(out) == 0
    listed = capsys.readouterr().out
    for paper in papers().values():
        assert f"{paper.name}: " in listed
        assert all(f"  {claim.id:5} " in listed for claim in paper.claims)
    (line,) = (line for line in listed.splitlines() if line.startswith("  B10 "))
    assert line.split()[1] == "holds"
    assert listed.count("not run") == sum(len(paper.claims) for paper in papers().values()) - 1


def test_the_list_imports_neither_torch_nor_lightning():
    code = (
        "import sys; from sgdlit.cli.reproduce import main; main([]); "
        "assert not {'torch', 'lightning', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_claim_writes_tables_pictures_and_findings(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"convex": {"steps": [10, 20], "runs": 50}}))
    out = tmp_path / "out"
    arguments = ["--config", str(config), "--convex.runs", "20", "--out", str(out), "--svg"]
    assert main(["blog:B10", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.count("holds: yes") == 2
    assert "2 of 2 findings hold" in printed
    assert str(out / "blog" / "regret.png") in printed
    written = {path.name for path in (out / "blog").iterdir()}
    assert written == {"regret.csv", "regret.png", "regret.svg", "claims.json"}
    rows = read_table(out / "blog" / "regret.csv")
    assert [row["steps"] for row in rows] == ["10", "20"]
    assert all(value not in ("nan", "") for row in rows for value in row.values())
    entry = json.loads((out / "blog" / "claims.json").read_text())["B10"]
    assert (entry["state"], entry["protocol"]["options"]["convex"]["runs"]) == ("holds", 20)
    assert len(entry["findings"]) == 2


def test_figures_of_an_unreachable_target_are_drawn(tmp_path, capsys):
    small = [f"--{k}={v}" for k, v in {
        "dimensions": 10, "target": 1e-9, "batch_sizes": "[1,4]", "rates": 3, "decades": 1,
        "one_minus_momentum": "[0.1]", "one_minus_decay": "[0.1]",
    }.items()]  # fmt: skip
    assert main(["zhang2019:G2", "--out", str(tmp_path), *small]) == 0
    assert "nothing was decided" in capsys.readouterr().out
    assert (tmp_path / "zhang2019" / "steps_to_target.png").stat().st_size > 10_000
    assert "nan" not in (tmp_path / "zhang2019" / "steps.csv").read_text()


def only(monkeypatch, *names):
    """As if there were these papers and no others."""
    kept = {name: paper for name, paper in papers().items() if name in names}
    monkeypatch.setattr("sgdlit.papers.catalogue.papers", lambda: kept)


def test_all_runs_what_is_missing(tmp_path, capsys, monkeypatch):
    only(monkeypatch, "barrett2021", "ma2018")
    out = ["--out", str(tmp_path)]
    assert main(["ma2018", *out]) == 0
    before = (tmp_path / "ma2018" / "claims.json").stat().st_mtime_ns
    assert main(["--all", *out]) == 0
    assert "ma2018: interpolation is there already" in capsys.readouterr().err
    assert (tmp_path / "ma2018" / "claims.json").stat().st_mtime_ns == before
    assert (tmp_path / "barrett2021" / "igr.png").exists()
    assert main(["--all", "--scale", "full", *out]) == 0
    kept = json.loads((tmp_path / "ma2018" / "claims.json").read_text())
    assert kept["G14"]["protocol"]["scale"] == "full"


MINE = """
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper
from sgdlit.runs.reading import load_run

def measure(options, workshop):
    arguments = ["--data.steps", "12", "--trainer.val_check_interval", "6", "--trainer.logger", "false"]
    run = load_run(workshop.fit("one", "noisy_quadratic/sgd.yaml", *arguments))
    step = run.status["step"]
    finding = Finding("A1", "steps", "13", str(step), step == 13, "none: a count")
    return Evidence({"run": [{"step": step}]}, [finding])

def draw(tables):
    return {}

claim = Claim("A1", "it goes on", "nobody", "trained", "13", "12", "the same", "noisy_quadratic/sgd.yaml")
PAPER = Paper("mine", "A paper of one's own", (Experiment("steps", (claim,), measure, draw),))
"""


def test_ones_own_paper_fails_a_claim_and_does_not_train_twice(tmp_path, capsys, monkeypatch):
    """A claim that fails is a result; a run that has ended, with the same arguments, is read again."""
    (tmp_path / "own_papers").mkdir()
    (tmp_path / "own_papers" / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    out, states = ["--out", str(tmp_path / "out")], []
    for _ in range(2):
        assert main(["own_papers.mine", *out]) == 0
        assert "holds: NO" in capsys.readouterr().out
        states.append((tmp_path / "out/mine/runs/one/version_0/status.json").stat().st_mtime_ns)
    assert states[0] == states[1]
    assert not (tmp_path / "out/mine/runs/one/version_1").exists()
    kept = json.loads((tmp_path / "out/mine/claims.json").read_text())
    assert kept["A1"]["state"] == "does not show"


def test_dry_runs_name_the_config(capsys, tmp_path):
    assert main(["smith2021:F1b", "--scale", "full", "--dry-run", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "sweep --config configs/sweeps/paper/f1_f2_f5_wrn10_1.yaml" in printed
    assert not list(tmp_path.iterdir())


def test_mistakes_are_answered_in_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, named in (
        (["blog:B10", *CONVEX, "--out", str(tmp_path / "file")], "no such folder can be made"),
        (["smth2021"], "no paper 'smth2021'; did you mean smith2021"),
        (["foo2021"], "there is no paper 'foo2021'\nallowed: andreyev2024, "),
        (["cohen2023"], "no paper 'cohen2023'; did you mean cohen2022"),
        (["smith2021:f1b"], "no claim 'f1b'; did you mean F1b"),
        (["ma2018:"], "ma2018 has no claim ''; allowed: G14"),
        (["ma2018", "--jobs", "0"], "--jobs: 0 is not allowed; allowed: 1 or more"),
        (["ma2018", "--jobs=-1"], "--jobs: -1 is not allowed; allowed: 1 or more"),
        (["no.such.module"], "no module with a PAPER"),
        (["--all", "blog"], "come before all options"),
        (["blog", "--all"], "not together with blog"),
        (["blog", "--data", str(tmp_path / "none")], "there is no such folder"),
        (["ma2018", "--dry-run", "--data", str(tmp_path / "none")], "there is no such folder"),
    ):
        assert sgdlit(["reproduce", *arguments]) == 2
        assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["zhang2019", "--target", "abc"], "target.*abc"),
        (["zhang2019", "--taret", "0.1"], "taret.*did you mean.*target"),
        (["zhang2019", "--targ", "0.1"], "targ: .*target"),
        (["zhang2019", "--pieces", "0"], "pieces = 0"),
        (["zhang2019", "--target", "-1"], r"target = -1\.0: must be positive"),
        (["zhang2019", "--one_minus_momentum", "[0]"], r"momentum = 1\.0: must lie in \[0, 1\)"),
        (["smith2021", "--m", "7"], "m = 7"),
        (["smith2021", "--n_steps", "[0]"], r"n_steps = \[0\]"),
        (["barrett2021", "--igr_steps", "[0.01,0.5]"], r"step = 0\.5: gradient descent diverges"),
        (["smith2021", "--largest_lr", "50"], r"largest_lr = 50\.0 .* well below 0\.\d+, one over the"),
        (["kidambi2018", "--conditions", "[0.5]"], r"condition = 0\.5"),
        (["grosse2021:G12", "--regression.batch_size", "0"], "batch_size = 0: must be at least 1"),
        (["ma2018", "--examples", "3"], "examples = 3: must be at least 8"),
        (["grosse2021:G12", "--regression.lr_share", "1"], r"lr_share = 1\.0: must lie above 0 and below 1"),
        (["blog:B10", "--convex.steps", "[]"], "steps is empty"),
    ],
)
def test_bad_options_are_named_before_anything_is_computed(arguments, named, tmp_path, capsys):
    with pytest.raises(UserError, match=named):
        main([*arguments, "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_progress_is_printed_where_it_cannot_be_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sgdlit.foundations.progress.PRINT_SECONDS", 0.0)
    assert main(["blog:B10", *CONVEX, "--out", str(tmp_path)]) == 0
    assert "runs 2/2  0:00 passed, 0:00 left" in capsys.readouterr().err


@pytest.mark.parametrize("name", papers())
def test_help_explains_symbols(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "Symbols" in capsys.readouterr().out
