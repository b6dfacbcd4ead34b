"""Who imports whom, and what a fit loads: ``python scripts/architecture.py``.

Draws the arrows between the rooms of the package from its imports, also those inside functions, as
``docs/architecture.png``, and prints how many files and lines of the package a small fit loads.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "sgdlit"
ROOMS = (
    "foundations", "config", "data", "models", "objectives", "algorithms", "measures",
    "theory", "runs", "training", "sweeps", "figures", "papers", "cli",
)  # fmt: skip
"""From the ground up: each imports only from those before it."""

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


def draw(found: Counter[tuple[str, str]], path: Path) -> None:
    """The rooms as a column, the ground at the bottom; imports as arcs, upward ones in red."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import FancyArrowPatch

    figure, axes = pyplot.subplots(figsize=(7, 8), layout="constrained")
    heights = {room: k for k, room in enumerate(ROOMS)}
    for room, y in heights.items():
        files = [file.read_text().count("\n") for file in (PACKAGE / room).rglob("*.py")]
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "0.3"}
        axes.text(0, y, room, ha="center", va="center", bbox=box, zorder=3)
        axes.text(-1.05, y, f"{len(files)} files, {sum(files)} lines", ha="right", va="center", color="0.4")
    for (who, whom), count in found.items():
        down = heights[whom] < heights[who]
        arrow = FancyArrowPatch(
            (0.55, heights[who]),
            (0.55, heights[whom]),
            connectionstyle=f"arc3,rad={-0.6 if down else 0.6}",
            arrowstyle="-|>",
            mutation_scale=9,
            linewidth=0.5 + 0.25 * count**0.5,
            color="tab:blue" if down else "tab:red",
            alpha=0.55 if down else 1.0,
        )
        axes.add_patch(arrow)
    axes.set(xlim=(-2.6, 3.6), ylim=(-0.7, len(ROOMS) - 0.3))
    axes.set_title("Who imports whom; an arrow that points up would be red")
    axes.axis("off")
    figure.savefig(path, dpi=130)


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
