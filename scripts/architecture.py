"""Who imports whom, and what a fit loads: ``python scripts/architecture.py``.

Draws the arrows between the rooms of the package from its imports, also those inside functions, as
``docs/architecture.png``, and prints how many files and lines of the package a small fit loads.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "sgdlit"
QUESTIONS = {
    "foundations": "what does everything stand on?",
    "config": "what may be set?",
    "data": "what is seen, in which order?",
    "models": "what is trained?",
    "objectives": "what is differentiated?",
    "algorithms": "what is an update?",
    "measures": "what is measured?",
    "theory": "what does theory say?",
    "runs": "what does a run leave on disk?",
    "training": "how does a run run?",
    "sweeps": "which runs, and what came out?",
    "figures": "what does it look like?",
    "papers": "does the claim hold?",
    "cli": "how is it called?",
}
ROOMS = tuple(QUESTIONS)
"""From the ground up: each imports only from those before it."""
PLACES = {
    "cli": (0.7, 9), "papers": (0.7, 8), "figures": (-0.2, 7), "sweeps": (-0.2, 6), "training": (-0.2, 5),
    "theory": (2.1, 4), "algorithms": (-0.1, 3), "measures": (1.2, 3),
    "runs": (-1.75, 2), "objectives": (-0.4, 2), "models": (0.9, 2),
    "config": (-1.75, 1), "data": (1.3, 1), "foundations": (0.0, 0),
}  # fmt: skip
"""Where the picture has them."""

_WIDTH, _HEIGHT = 1.08, 0.56
_CONFIG = "configs/teachers/mlp_classification.yaml"
_FIT = """
import sys
from sgdlit.cli.main import main

arguments = "--trainer.max_steps 2 --trainer.enable_progress_bar false --trainer.accelerator cpu".split()
code = main(["fit", "--config", sys.argv[1], *arguments, "--logs", sys.argv[2]])
files = (module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "sgdlit")
print(*sorted(file for file in files if file), sep="\\n")
sys.exit(code)
"""


def arrows() -> Counter[tuple[str, str]]:
    """How many imports go from one room to another: ``(who, whom)``."""
    found: Counter[tuple[str, str]] = Counter()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for module in _imported(ast.parse(path.read_text())):
            target = module.split(".")[1]
            if room in ROOMS and target in ROOMS and target != room:
                found[room, target] += 1
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules of the package that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("sgdlit."))
        elif isinstance(node, ast.ImportFrom) and node.module == "sgdlit":
            yield from (f"sgdlit.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sgdlit."):
            yield node.module or ""


def reduced(found: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows without those that follow from a chain of others."""
    below: dict[str, set[str]] = {room: set() for room in ROOMS}
    for room in ROOMS:
        direct = {whom for who, whom in found if who == room}
        below[room] = direct.union(*(below[whom] for whom in direct))
    return {
        (who, whom)
        for who, whom in found
        if not any((who, other) in found and whom in below[other] for other in ROOMS)
    }


def draw(found: Counter[tuple[str, str]], path: Path) -> None:
    """The rooms, each above those that it imports from; an arrow that points up is red."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    figure, axes = pyplot.subplots(figsize=(9.4, 10.2), layout="constrained")
    for who, whom in reduced(found):
        (x0, y0), (x1, y1) = PLACES[who], PLACES[whom]
        down = y1 < y0
        arrow = FancyArrowPatch(
            (x0, y0 - _HEIGHT / 2 if down else y0 + _HEIGHT / 2),
            (x1, y1 + _HEIGHT / 2 if down else y1 - _HEIGHT / 2),
            arrowstyle="-|>",
            mutation_scale=14,
            shrinkA=0,
            shrinkB=1,
            linewidth=1.3,
            color="0.35" if down else "tab:red",
        )
        axes.add_patch(arrow)
    for room, (x, y) in PLACES.items():
        files = [file.read_text().count("\n") for file in (PACKAGE / room).rglob("*.py")]
        corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
        box = FancyBboxPatch(
            corner, _WIDTH, _HEIGHT, boxstyle="round,pad=0,rounding_size=0.06", fc="#eef3f8", ec="0.35"
        )
        axes.add_patch(box)
        axes.text(x, y + 0.16, room, ha="center", va="center", weight="bold", fontsize=11)
        axes.text(x, y - 0.02, QUESTIONS[room], ha="center", va="center", fontsize=8)
        size = f"{len(files)} files, {sum(files)} lines"
        axes.text(x, y - 0.18, size, ha="center", va="center", color="0.45", fontsize=7)
    axes.set(xlim=(-2.35, 2.85), ylim=(-0.4, 9.4))
    axes.set_title("Who imports whom (what follows from a chain of arrows is left out)", fontsize=10)
    axes.axis("off")
    figure.savefig(path, dpi=110)


def loaded_by_fit(config: Path) -> list[Path]:
    """The files of the package that a fit of two steps loads, in a process of its own."""
    import tempfile

    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, "-c", _FIT, str(config), logs]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        raise SystemExit(f"the fit of {config} ended with exit code {done.returncode}:\n{done.stderr}")
    return [Path(line) for line in done.stdout.splitlines() if line.endswith(".py")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=_CONFIG, help="what the fit trains")
    parser.add_argument("--out", default="docs/architecture.png", help="where the picture goes")
    parser.add_argument("--files", action="store_true", help="name the files that the fit loads")
    given = parser.parse_args()
    found = arrows()
    draw(found, Path(given.out))
    upward = [f"{who} -> {whom}" for who, whom in found if ROOMS.index(whom) > ROOMS.index(who)]
    print(f"{len(found)} arrows between {len(ROOMS)} rooms, upward: {', '.join(upward) or 'none'}")
    files = loaded_by_fit(Path(given.config))
    lines = {path: path.read_text().count("\n") for path in files}
    for path in files if given.files else ():
        print(f"{lines[path]:6} {path.relative_to(REPOSITORY)}")
    print(f"a fit of {given.config} loads {len(files)} files of the package, {sum(lines.values())} lines")


if __name__ == "__main__":
    main()
