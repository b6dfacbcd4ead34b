"""``python -m sgdlit measure barrier`` and ``measure plane``: the cost between and around stored networks.

measure barrier --run A --run B                 on the straight path between the last networks of two runs
measure barrier --run A --at 100,last           between two steps of one run
measure plane --run A                           along two random directions, filter by filter normalized
measure plane --run A --directions path         along the two directions in which the run has moved most
measure plane --run A --run B --run C           through three networks
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace

    from sgdlit.measures.landscape import Line
    from sgdlit.runs.landscape_files import LandscapeFiles
    from sgdlit.training.landscapes import StoredNetwork, Surroundings


def barrier(arguments: Sequence[str]) -> int:
    """Measure the cost on the straight path between two networks, and write and draw it.

    Raises:
        UserError: a mistake in the arguments, or networks that cannot be compared.
    """
    given = _parser(
        "barrier",
        "Measure the loss, and the error of classes, on the straight path between two stored networks.",
        "--run DIR [--run DIR] [--at STEP[,STEP]] [--member K[,K]] [--points N] [--set train|val|test]",
    ).parse(arguments)
    if given.points < 3:
        raise UserError(f"--points: {given.points} is not allowed; allowed: 3 or more")
    ends = _networks(given, 2)
    seen = _surroundings(given, ends[0])
    about = {"networks": [end.name for end in ends], **_settings(given, seen)}
    lines = seen.lines(ends[0], ends[1], given.points)
    files = _files(given, "_".join(["barrier", *_short_names(ends)]), ends[0], about)
    files.write_line(_rows(lines))
    from sgdlit.figures.landscape import draw_line
    from sgdlit.figures.style import save

    files.path("png").unlink(missing_ok=True)
    save(draw_line(_rows(lines), about), files.folder, files.name, svg=False)
    print("\n".join(_in_words(lines)))
    written = f"wrote {files.name}.csv and .png into {files.folder}"
    say(f"{given.points} points on {seen.examples} examples; {written}")
    return 0


def plane(arguments: Sequence[str]) -> int:
    """Measure the cost on a plane, a row at a time, and write and draw it.

    Raises:
        UserError: a mistake in the arguments, or networks that span no plane.
    """
    parser = _parser(
        "plane",
        "Measure the loss on a plane of parameters. What is there already of the same plane stays.",
        "--run DIR [--run DIR --run DIR] [--directions random|path] [--at STEP] [--points N] [--span X]",
    )
    parser.add_argument(
        "--directions",
        type=Literal["random", "path"] | None,
        default=None,
        help="of one run: random ones, in each filter as long as its weights (Li et al. 2018), or those in "
        "which its snapshots lie furthest from its end (default: random)",
    )
    parser.add_argument("--span", type=float, default=1.0, help="random directions: from −span to span")
    parser.add_argument("--seed", type=int, default=0, help="of random directions")
    given = parser.parse(arguments)
    if given.points < 3 or not given.span > 0:
        raise UserError(f"--points, --span: {given.points}, {given.span}; allowed: 3 or more, above 0")
    if given.directions and len(given.run) > 1:
        raise UserError(
            f"--directions: {given.directions} is for one run; three networks span their own plane"
        )
    return _plane(given)


def _parser(command: str, description: str, usage: str) -> CommandParser:
    parser = CommandParser(f"measure {command}", description, f"%(prog)s {usage}")
    parser.add_argument(
        "--run",
        type=str,
        action="append",
        required=True,
        metavar="DIR",
        help="folder of a run: logs/NAME/version_K; the loss and the examples are those of the first",
    )
    parser.add_argument(
        "--at", type=str, default="last", help="the stored step of each network, with commas: 0,last"
    )
    parser.add_argument(
        "--member", type=str, default="0", metavar="K", help="of an ensemble, for each network: 0,1"
    )
    parser.add_argument("--points", type=int, default=25, help="of the path, or of each side of the plane")
    parser.add_argument(
        "--set", type=Literal["train", "val", "test"], default="train", help="whose examples count"
    )
    parser.add_argument(
        "--examples",
        type=int | Literal["auto"] | None,
        default="auto",
        help="of the training set; auto: 500, or all of a smaller one; null: all of them",
    )
    parser.add_argument("--mode", type=Literal["eval", "train"], default="eval", help="of the network")
    parser.add_argument("--chunk_size", type=int, default=200, help="examples that are looked at together")
    parser.add_argument("--out", type=str | None, default=None, metavar="DIR", help="default: the first run")
    return parser


# The networks that are compared


def _networks(given: "Namespace", count: int) -> list["StoredNetwork"]:
    """So many stored networks: what is given once stands for all of them.

    Raises:
        UserError: another number, or the same one twice.
    """
    from sgdlit.cli.fit import settle_process
    from sgdlit.training.afterwards import StoredSteps
    from sgdlit.training.landscapes import stored_network

    settle_process()
    runs = [load_run(folder) for folder in _each("--run", given.run, count)]
    found = []
    for run, at, text in zip(
        runs,
        _each("--at", given.at.split(","), count),
        _each("--member", given.member.split(","), count),
        strict=True,
    ):
        if not text.strip().isdigit():
            raise UserError(f"--member: {text!r} is not allowed; allowed: numbers with commas between them")
        k = run.checked_member(int(text))
        found.append(stored_network(StoredSteps(run.folder), at.strip(), None if run.alone else k))
    if len({one.name for one in found}) < count:
        raise UserError(
            f"--run: {count} networks are needed, and {found[0].name} is given twice; allowed: others by "
            "--run, --at or --member"
        )
    return found


def _each(option: str, values: list[str], count: int) -> list[str]:
    if len(values) not in (1, count):
        raise UserError(
            f"{option}: {len(values)} values are given for {count} networks; allowed: 1 or {count}"
        )
    return values * count if len(values) == 1 else values


def _surroundings(given: "Namespace", first: "StoredNetwork") -> "Surroundings":
    """The run of the first network, built again."""
    from sgdlit.cli.built_again import built_again
    from sgdlit.training.landscapes import Surroundings

    if given.chunk_size < 1 or (isinstance(given.examples, int) and given.examples < 1):
        raise UserError("--examples, --chunk_size: allowed: 1 or more")
    built = built_again(load_run(first.folder))
    return Surroundings(
        built.model,
        built.datamodule,
        built.trainer,
        first.member or 0,
        given.set,
        given.examples,
        given.mode,
        given.chunk_size,
    )


def _settings(given: "Namespace", seen: "Surroundings") -> dict[str, Any]:
    return {"set": given.set, "examples": seen.examples, "mode": given.mode}


def _short_names(networks: Sequence["StoredNetwork"]) -> list[str]:
    """What tells them apart, for the name of a file."""
    folders = [f"{one.folder.parent.name}-{one.folder.name}" for one in networks]
    whose = ["" if one.member is None else f"-member{one.member}" for one in networks]
    shown = folders if len(set(folders)) > 1 else [""] * len(networks)
    return [f"{f}{w}-{one.step}".strip("-") for f, w, one in zip(shown, whose, networks, strict=True)]


def _files(given: "Namespace", name: str, first: "StoredNetwork", about: dict[str, Any]) -> "LandscapeFiles":
    from sgdlit.runs.landscape_files import LandscapeFiles

    return LandscapeFiles(Path(given.out) if given.out else first.folder, name, about)


# A line


def _rows(lines: Sequence["Line"]) -> list[dict[str, float]]:
    """A row for each point: its loss and its error, and those with statistics that were estimated anew."""
    rows: list[dict[str, float]] = [{"alpha": alpha} for alpha in lines[0].alphas.tolist()]
    for found, ending in zip(lines, ("", "_reestimated"), strict=False):
        for row, loss, error in zip(rows, found.costs.tolist(), found.errors.tolist(), strict=True):
            row[f"loss{ending}"] = loss
            if error == error:
                row[f"error{ending}"] = error
    return rows


def _in_words(lines: Sequence["Line"]) -> list[str]:
    said = []
    for found, whose in zip(lines, ("", ", BatchNorm with statistics of each point"), strict=False):
        of_error = (
            "" if found.error_barrier != found.error_barrier else f", of the error {found.error_barrier:.4g}"
        )
        said.append(f"barrier of the loss {found.barrier:.4g}{of_error}{whose}")
    return said


# A plane


def _plane(given: "Namespace") -> int:
    import numpy as np

    from sgdlit.foundations.progress import Progress

    kind = "runs" if len(given.run) > 1 else given.directions or "random"
    networks = _networks(given, 3 if kind == "runs" else 1)
    seen = _surroundings(given, networks[0])
    u, v, points, words = _directions(given, kind, networks, seen)
    alphas, betas = _grid(given, kind, points)
    about = {
        "networks": [one.name for one in networks],
        "axes": words,
        "alphas": [alphas[0], alphas[-1]],
        "betas": [betas[0], betas[-1]],
        **_settings(given, seen),
    } | ({"seed": given.seed} if kind == "random" else {})
    files = _files(given, "_".join(["plane", kind, *_short_names(networks)]), networks[0], about)
    losses = files.losses((given.points, given.points))
    missing = [i for i, row in enumerate(losses) if np.isnan(row).all()]
    there = given.points - len(missing)
    with Progress("rows of the plane", given.points, done=there) as progress, seen.around(networks[0]):
        for done, i in enumerate(missing):
            losses[i] = seen.row(u, v, float(alphas[i]), betas.tolist()).numpy()
            files.write_plane({"alphas": alphas, "betas": betas, "losses": losses, "points": points})
            progress.update(there + done + 1)
    from sgdlit.figures.landscape import draw_plane
    from sgdlit.figures.style import save

    save(draw_plane(alphas, betas, losses, points, about), files.folder, files.name, svg=False)
    again = f"{there} of {given.points} rows were there; " if there else ""
    found = f"loss {np.nanmin(losses):.4g} to {np.nanmax(losses):.4g} on {seen.examples} examples"
    say(f"{again}{found}; wrote {files.name}.npz and .png into {files.folder}")
    return 0


def _directions(
    given: "Namespace", kind: str, networks: Sequence["StoredNetwork"], seen: "Surroundings"
) -> tuple[Any, Any, "np.ndarray", list[str]]:
    """u and v, where networks lie, and what the axes are."""
    import numpy as np

    from sgdlit.measures.landscape import filter_normalized, random_direction
    from sgdlit.measures.plane_directions import plane_of_path, plane_through

    if kind == "random":
        with seen.around(networks[0]) as network:
            u, v = (filter_normalized(network, random_direction(network, given.seed, k)) for k in (0, 1))
        return u, v, np.zeros((1, 2)), ["random direction, norms of filters", "another one"]
    if kind == "runs":
        found = plane_through(*(seen.weights(one) for one in networks))
        words = ["towards the second network", "orthogonal, in its length; the third lies there"]
        return found.u, found.v, found.points.numpy(), words
    path = _path(networks[0])
    found = plane_of_path(seen.weights(networks[0]), [seen.weights(one) for one in path])
    words = [
        f"{name} principal direction, {100 * share:.0f} % of the squared distances"
        for name, share in zip(("first", "second"), found.shares, strict=True)
    ]
    return found.u, found.v, found.points.numpy(), words


def _path(last: "StoredNetwork") -> list["StoredNetwork"]:
    """What is stored of a run up to a network, which is the last of them."""
    from sgdlit.training.afterwards import StoredSteps
    from sgdlit.training.landscapes import stored_network

    stored = StoredSteps(last.folder)
    steps = [step for step in stored.all if step <= last.step]
    return [stored_network(stored, str(step), last.member) for step in steps]


def _grid(given: "Namespace", kind: str, points: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """α and β: around the networks, with a quarter of their distances to each side."""
    import numpy as np

    if kind == "random":
        side = np.linspace(-given.span, given.span, given.points)
        return side, side
    low, high = points.min(0), points.max(0)
    room = np.maximum(0.25 * (high - low), 0.05 * float((high - low).max()))
    low, high = low - room, high + room
    return np.linspace(low[0], high[0], given.points), np.linspace(low[1], high[1], given.points)
