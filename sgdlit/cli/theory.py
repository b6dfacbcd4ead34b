"""``python -m sgdlit theory NAME``: what theory predicts, beside what is computed or simulated.

Each study writes a figure (PNG, and SVG with ``--svg``) and a CSV of every table that is drawn, and prints a
line per claim. Options come from ``--config FILE.yaml`` or the command line. Whether claims hold is output,
not an exit status: a study that ran exits 0, a mistake in the options exits 2.
"""

import csv
import importlib
import inspect
import os
import sys
from pathlib import Path

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.progress import Progress
from sgdlit.papers.studies import options as study_options
from sgdlit.papers.studies.study import Row, Study

STUDIES: dict[str, tuple[type, str]] = {
    "modified-flow": (
        study_options.ModifiedFlowOptions,
        "the flow that discrete training follows (M1–M6, IGR)",
    ),
    "noisy-quadratic": (
        study_options.NoisyQuadraticOptions,
        "steps to a target risk over batch size (G2, G6–G11)",
    ),
    "noisy-quadratic-runs": (
        study_options.NoisyQuadraticRunsOptions,
        "runs of fit on that model, beside the exact mean of their risk (F5, F8)",
    ),
    "rate-drop": (
        study_options.RateDropOptions,
        "a drop of the learning rate, and of the risk to a lower floor (G3)",
    ),
    "linear-regression": (
        study_options.LinearRegressionOptions,
        "gradient noise, Kaczmarz, interpolation and momentum on least squares (G12–G15)",
    ),
    "online-convex": (
        study_options.OnlineConvexOptions,
        "one pass of SGD over convex Lipschitz losses (B10)",
    ),
    "least-squares": (
        study_options.LeastSquaresOptions,
        "matrix sensing without a prior on the rank, the baseline of SGD (B2)",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one study; returns the exit status.

    Raises:
        UserError: there is no such study, or its options cannot be used.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    # Vectors of some thousand numbers: linear algebra's own threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    name, rest = argv[0], argv[1:]
    if name not in STUDIES:
        raise UserError(f"theory {name}: there is no such study; there are {', '.join(STUDIES)}")
    _run(name, rest)
    return 0


def _overview() -> str:
    lines = [f"  {name:21} {about}" for name, (_, about) in STUDIES.items()]
    return "\n".join(
        [
            "usage: python -m sgdlit theory NAME [options]",
            "",
            "studies:",
            *lines,
            "",
            "python -m sgdlit theory NAME --help says what each option and symbol is.",
        ]
    )


def _run(name: str, argv: list[str]) -> None:
    given = _parser(name).parse_args(argv).as_dict()
    folder = _folder(given.pop("out"))
    svg = given.pop("svg")
    given.pop("config")
    options = STUDIES[name][0](**given)
    module = importlib.import_module(f"sgdlit.papers.studies.{name.replace('-', '_')}")
    with Progress() as progress:
        study = module.run(options, progress.stage)
    written = [_write_csv(folder / f"{table}.csv", rows) for table, rows in study.tables.items()]
    written += _draw(name, study, folder, svg)
    for line in [*map(str, study.claims), *(f"note: {note}" for note in study.notes)]:
        print(line)
    held = sum(claim.holds for claim in study.claims)
    print(f"{held} of {len(study.claims)} claims hold; wrote {', '.join(map(str, written))}")


def _folder(out: str) -> Path:
    """The folder for results, made before anything is computed."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out = {out}: no such folder can be made ({error.strerror})") from error
    return folder


def _parser(name: str):
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> None:
            text = " ".join(message.split())
            raise UserError(f"{text}; python -m sgdlit theory {name} --help says what is allowed")

    options = STUDIES[name][0]
    about = inspect.getdoc(options).split("\n\nArgs:")[0]
    parser = Parser(allow_abbrev=False, prog=f"python -m sgdlit theory {name}", description=about)
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_argument("--out", default=f"logs/theory/{name}", help="folder for figures and tables")
    parser.add_argument("--svg", action="store_true", help="write each figure as SVG too")
    parser.add_class_arguments(options)
    return parser


def _write_csv(path: Path, rows: list[Row]) -> Path:
    """One line per row; an empty field where there is no value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _draw(name: str, study: Study, folder: Path, svg: bool) -> list[Path]:
    from sgdlit.figures.style import save

    module = importlib.import_module(f"sgdlit.figures.{name.replace('-', '_')}")
    drawn = module.draw(study.tables)
    return [path for title, figure in drawn.items() for path in save(figure, folder, title, svg)]
