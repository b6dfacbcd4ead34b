"""docs/measures.md as it stands, of its sections "Afterwards" and "In your own loop or module"."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "measures.md").read_text(encoding="utf-8")
NUMBER = r"\d+(?:\.\d+)?"


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def printed(*command: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def same(found: str, shown: str) -> None:
    """Lines of the page, with numbers that are the same up to what a machine's rounding makes of them."""
    for line in shown.strip().splitlines():
        pattern = re.sub(NUMBER, NUMBER.replace("\\", "\\\\"), re.escape(line).replace(r"\.", "."))
        wanted = pytest.approx([float(number) for number in re.findall(NUMBER, line)], rel=0.02)
        alike = [
            [float(number) for number in re.findall(NUMBER, text)] for text in re.findall(pattern, found)
        ]
        assert any(numbers == wanted for numbers in alike), f"{line!r} is not in {found!r}"


def test_afterwards(tmp_path):
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    (block,) = re.findall(r"```console\n(.*?)```", section("Afterwards"), re.DOTALL)
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE)
    assert len(commands) == 2
    for command, shown in commands:
        _, *arguments = shlex.split(command)
        same(printed(sys.executable, *arguments, cwd=tmp_path), shown)
    assert (tmp_path / "logs" / "mlp_classification" / "version_0" / "measures.csv").is_file()


def test_in_a_loop_and_in_a_module(tmp_path):
    text = section("In your own loop or module")
    loop, module = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shown,) = re.findall(r"It prints\n\n```\n(.*?)```", text, re.DOTALL)
    same(printed(sys.executable, "-c", loop, cwd=tmp_path), shown)
    said = printed(sys.executable, "-c", module, cwd=tmp_path)
    assert "noise scale" in said
    (table,) = (tmp_path / "logs").rglob("metrics.csv")
    columns, *rows = (line.split(",") for line in table.read_text().splitlines())
    steps = [row[columns.index("step")] for row in rows if row[columns.index("measure/sharpness")]]
    assert steps == ["0", "20", "40"]
    assert "measure/noise_scale" in columns
