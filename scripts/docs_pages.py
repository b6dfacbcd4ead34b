"""The pages of docs/ that follow from the claims: README.md, gallery.md and ids.md.

    python scripts/docs_pages.py               # write them
    python scripts/docs_pages.py reproduce     # and docs/claims.html, from what was found in that folder

What a picture shows is what its claims say, so that the pages cannot go stale: tests/unit/test_docs_pages.py
holds those that are committed against what this writes.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgdlit.papers import catalogue, page
from sgdlit.papers.claim import Claim
from sgdlit.papers.paper import Paper

DOCS = Path(__file__).resolve().parent.parent / "docs"
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_LECTURE = "https://www.cs.toronto.edu/~rgrosse/courses/csc2541_2022/"
_SWEEP = "python -m sgdlit sweep --config {0} && python -m sgdlit figure --config {0}"


# The front

PAGES = {
    "howto.md": "jobs by config alone: rates with error bars, wrong labels, own data, fine-tuning",
    "notebook.md": "runs, predictions, weights and tables in Python",
    "concepts.md": "steps, runs, members, cells; what is logged of which examples, at which parameters",
    "glossary.md": "the words",
    "reproduce.md": "how to check claims, and how to read the page that shows them",
    "gallery.md": "every picture, what it shows, and the command that makes it",
    "ids.md": "every claim by its id, with its source",
    "paper.md": "the figures of Smith et al. 2021, with and without the explicit regularizer",
    "theory.md": "the noisy quadratic model, steps to a target, the deep bootstrap, a drop of the rate",
    "sweeps.md": "from one config to a table and a figure",
    "cluster.md": "job arrays, and one run over several nodes: from the login node to a figure",
    "measures.md": "what can be measured along a run, afterwards, or in a script",
    "logging.md": "TensorBoard, W&B, MLflow, and numbers of your own",
    "data.md": "streams, finite sets, own arrays, and the built-in images",
    "regularizer.md": "λ/4·‖∇Ĉ‖² in its forms, and what it costs",
    "transforms.md": "what becomes of a gradient: clipping, noise, normalisation, selection",
    "script.md": "runs in a loop of one's own, without Lightning",
    "speed.md": "many runs in one, and what limits each kind",
    "lightning.md": "callbacks and options of Lightning: many steps per call, one, or refused",
    "architecture.md": "the rooms of the package, and the path of a step",
    "adding.md": "a measure, a claim, an optimizer, data, an order, a network: one file each",
}
"""In the order in which a visitor may want them."""


def front(claims_page: bool) -> str:
    """README.md; with the page of all claims where it is there."""
    count = sum(len(paper.claims) for paper in catalogue.papers().values())
    papers = len(catalogue.papers())
    where = "**[claims.html](claims.html)** shows" if claims_page else "The page of claims shows"
    lines = [
        "# What was found, and how to find more",
        "",
        *_wrapped(
            f"{where} {count} claims of {papers} papers, lectures and posts about SGD: what was predicted, "
            "what was found with its interval, the picture that carries it, and the command that repeats it. "
            "What does not show at the scale of two cores is said, with numbers and the reason. It is one "
            "file, which works offline:"
        ),
        "",
        "```",
        "python -m sgdlit reproduce --all --jobs 2 --page  # checks what is missing; reproduce/index.html",
        "python -m sgdlit reproduce --page                 # the page of what is there",
        "```",
        "",
        "[![Accuracies over ε and λ, and within pairs](paper_pairs.png)](gallery.md)",
        "",
        "| page | |",
        "|---|---|",
        *(f"| [{name.removesuffix('.md')}]({name}) | {words} |" for name, words in PAGES.items()),
    ]
    return "\n".join(lines) + "\n"


# The gallery


@dataclass(frozen=True)
class Picture:
    """A picture of docs/.

    Attributes:
        name: of its file.
        claims: that it carries, as PAPER:ID.
        command: that makes it; by default that which checks the first claim.
        says: what it shows, where no claim does.
    """

    name: str
    claims: tuple[str, ...] = ()
    command: str = ""
    says: str = ""


_DIAGONAL = _SWEEP.format("configs/sweeps/quick/diagonal.yaml")
_WITH_DATA = "python -m sgdlit reproduce {} --data FOLDER"
PICTURES = {
    "An explicit regularizer, and what a finite learning rate does": (
        Picture(
            "paper_pairs.png", ("smith2021:F6a", "smith2021:F6b", "smith2021:F6c", "smith2021:F7a"),
            _WITH_DATA.format("smith2021:F6a"),
        ),
        Picture("paper_training.png", ("smith2021:F1c", "smith2021:F5"), _WITH_DATA.format("smith2021:F5")),
        Picture("paper_f1b.png", ("smith2021:F1b", "smith2021:F1a"), _DIAGONAL),
        Picture("paper_f3.png", ("smith2021:F3",), _DIAGONAL),
        Picture("paper_f4.png", ("smith2021:F4",), _DIAGONAL),
        Picture("paper_f7.png", ("smith2021:F7",), _DIAGONAL),
        Picture("c_reg_over_batch_size.png", ("smith2021:M5b",)),
        Picture(
            "quick.png", says="the regularizer keeps the gradients of minibatches smaller, on easy images",
            command="python -m sgdlit fit --config configs/wrn_modified_loss.yaml "
            "--config configs/quick.yaml",
        ),
    ),
    "The batch size, and noise": (
        Picture(
            "noisy_quadratic.png", ("zhang2019:G2", "zhang2019:G8", "zhang2019:G9", "zhang2019:G10"),
            "python -m sgdlit reproduce zhang2019:G2 --scale full",
        ),
        Picture(
            "noisy_quadratic_runs.png", ("zhang2019:F5",),
            "python -m sgdlit reproduce zhang2019:F5 --runs logs/noisy_quadratic_sgd",
        ),
        Picture(
            "steps_to_target.png", ("shallue2018:G4", "shallue2018:G5"),
            _SWEEP.format("configs/sweeps/quick/steps_to_target.yaml"),
        ),
        Picture("second_order.png", ("shallue2018:G5b",), _WITH_DATA.format("shallue2018:G5b")),
        Picture("noise_scale.png", ("mccandlish2018:NS1",)),
        Picture(
            "rate_drop.png", ("grosse2021:G3",),
            "python -m sgdlit reproduce grosse2021:G3 --scale full --drop.runs logs/fashion_rate_drop",
        ),
    ),
    "The edge of stability": (
        Picture("edge_gradient_descent.png", ("cohen2021:ES1", "cohen2021:ES2")),
        Picture("edge_sgd.png", ("andreyev2024:AB1", "andreyev2024:AB2")),
        Picture("edge_adam.png", ("cohen2022:AE1", "cohen2022:AE3")),
    ),
    "One pass, and many": (
        Picture(
            "matrix_sensing.png", ("blog:B1", "blog:B2"),
            "python -m sgdlit fit --config configs/matrix_sensing/simple.yaml",
        ),
        Picture(
            "blog_sweeps.png", ("blog:B3", "blog:B4", "blog:B5"),
            _SWEEP.format("configs/sweeps/quick/matrix_sensing.yaml"),
        ),
        Picture(
            "sensing_targets.png",
            says="at fixed lr · γ a small scale γ of the target diverges, and a large one waits for longer",
            command="python -m sgdlit fit --config configs/ensembles/sensing_targets.yaml",
        ),
        Picture(
            "deep_bootstrap.png", ("nakkiran2020:DB1", "nakkiran2020:DB2", "nakkiran2020:DB3"),
            "python -m sgdlit fit --config configs/deep_bootstrap/teacher.yaml",
        ),
        Picture("deep_bootstrap_images.png", ("nakkiran2020:G16",)),
    ),
    "The program": (
        Picture(
            "measures_page.png", says="a page of all measures of a run",
            command="python -m sgdlit fit --config configs/teachers/mlp_classification.yaml --measures full"
            " && python -m sgdlit figure --run logs/mlp_classification/version_0",
        ),
        Picture(
            "paired_reference.png", says="differences at equal seeds, with λ = 0 on a logarithmic axis",
            command=_SWEEP.format("configs/sweeps/reference.yaml"),
        ),
        Picture(
            "shapes.png", says="the built-in images: ten classes, ten pictures of each",
            command="python scripts/contact_sheet.py docs/shapes.png",
        ),
        Picture(
            "architecture.png", says="each room of the package imports only from those below it",
            command="python scripts/architecture.py",
        ),
    ),
}  # fmt: skip


def gallery() -> str:
    """gallery.md: each picture with its claims and its command."""
    lines = [
        "# Gallery",
        "",
        *_wrapped(
            "Each picture of these pages, what it shows, and the command that makes it. Claims link to "
            "[ids.md](ids.md); what does not show at this size is marked, and the page of its picture says "
            "why."
        ),
    ]
    for heading, pictures in PICTURES.items():
        lines += ["", f"## {heading}"]
        for picture in pictures:
            lines += ["", *_shown(picture)]
    return "\n".join(lines) + "\n"


def _shown(picture: Picture) -> Iterator[str]:
    found = [claim_of(name) for name in picture.claims]
    says = picture.says or "; ".join(claim.statement for claim in found)
    yield f"![{says}]({picture.name})"
    yield ""
    if picture.says:
        yield f"{picture.says[0].upper()}{picture.says[1:]}."
    for name, claim in zip(picture.claims, found, strict=True):
        end = "" if claim.shows else " *(does not show at this size)*"
        yield f"- [**{claim.id}**](ids.md#{anchor(name)}) {claim.statement}{end}"
    yield ""
    yield "```"
    yield picture.command or f"python -m sgdlit reproduce {picture.claims[0]}"
    yield "```"


def claim_of(name: str) -> Claim:
    """The claim PAPER:ID."""
    paper, _, identity = name.partition(":")
    return next(claim for claim in catalogue.find(paper).claims if claim.id == identity)


def anchor(name: str) -> str:
    """Of a claim PAPER:ID in ids.md."""
    return name.replace(":", "-").lower()


# The glossary of ids

_OTHER = "Other letters"
SOURCES = {
    "B": ("B: matrix sensing", "A blog post, *Implicit bias in single epoch SGD*: matrix sensing by deep "
          "linear networks, from d²/2 measurements that are each seen once."),
    "G": ("G: stochasticity and parallelism", "Roger Grosse, "
          f"[CSC 2541 Neural net training dynamics]({_LECTURE}), lecture 7, *Stochasticity and parallelism*, "
          "and the papers that it draws on."),
    "M": ("M: the modified loss", "Equations of Smith, Dherin, Barrett & De 2021, *On the origin of implicit "
          "regularization in stochastic gradient descent*, [arXiv 2101.12176](https://arxiv.org/abs/2101.12176)."),
    "F": ("F: its figures", "Figures of the same paper. F5 and F8 of `zhang2019` are formulas of the noisy "
          "quadratic model."),
    "L": ("L: a list of forty abstracts", "Abstracts about SGD, numbered as a list has them; letters tell "
          "the claims of one abstract apart."),
    _OTHER: (_OTHER, "Claims of single papers: AB, AE and ES the edge of stability, DB the deep bootstrap, "
             "IGR implicit gradient regularization, NS the noise scale, SI SkipInit, X the XOR problem."),
}  # fmt: skip
"""By the letter of an id: heading, and who numbers the claims."""

OUTSIDE = {
    "L5": ("SGD-X", "2110.06800"),
    "L6": ("SGD-QA", "2105.08049"),
    "L14": ("DP-SGD vs PATE", "2106.12576"),
    "L18": ("Closed-form bounds for DP-SGD", "2402.14397"),
    "L30": ("Scaling laws for local SGD in LLM", "2409.13198"),
}
"""Abstracts of the list without a claim: other meanings of SGD, or a scale that nothing here reaches."""


def ids() -> str:
    """ids.md: every claim by the letter of its id."""
    lines = [
        "# Claims by their ids",
        "",
        *_wrapped(
            "The letter of an id says which source numbers the claim. `python -m sgdlit reproduce PAPER:ID` "
            "checks one: by exact numbers, by simulation, or by training networks. Those marked † do not "
            "show at quick scale, which is a result: the findings say so with numbers and the reason. "
            "[reproduce.md](reproduce.md) tells how to read them."
        ),
    ]
    for letter, (heading, about) in SOURCES.items():
        own = [(paper, claim) for paper, claim in _claims() if _letter(claim.id) == letter]
        lines += ["", f"## {heading}", "", *_wrapped(about), ""]
        lines += ["| id | claim | source | check |", "|---|---|---|---|"]
        lines += [_row(paper, claim) for paper, claim in sorted(own, key=lambda one: _number(one[1].id))]
        if letter == "L":
            lines += ["", *_wrapped(_without_claim())]
    return "\n".join(lines) + "\n"


def _claims() -> Iterator[tuple[Paper, Claim]]:
    return ((paper, claim) for paper in catalogue.papers().values() for claim in paper.claims)


def _letter(identity: str) -> str:
    found = re.fullmatch(r"([BGMFL])\d+[a-z]?", identity)
    return found[1] if found else _OTHER


def _number(identity: str) -> tuple[str, int, str]:
    """By which ids are ordered: letters, number, letters."""
    found = re.fullmatch(r"([A-Z]+)(\d*)([a-z]*)", identity)
    assert found is not None, identity
    return found[1], int(found[2] or 0), found[3]


def _row(paper: Paper, claim: Claim) -> str:
    name = f"{paper.name}:{claim.id}"
    mark = "" if claim.shows else "†"
    cells = (
        f'<a id="{anchor(name)}"></a>{claim.id}{mark}', claim.statement, _linked(claim.source),
        f"{claim.kind}, `{name}`",
    )  # fmt: skip
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _linked(source: str) -> str:
    linked = _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", source)
    return linked.replace("CSC 2541 lecture 7", f"[CSC 2541 lecture 7]({_LECTURE})")


def _without_claim() -> str:
    listed = ", ".join(
        f"{identity} {title} ([{number}](https://arxiv.org/abs/{number}))"
        for identity, (title, number) in OUTSIDE.items()
    )
    return f"Without a claim, as they are about something else or need a scale out of reach here: {listed}."


def _wrapped(text: str) -> Sequence[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


# Writing


def pages() -> dict[str, str]:
    """The text of each page by its name in docs/."""
    return {"README.md": front((DOCS / "claims.html").exists()), "gallery.md": gallery(), "ids.md": ids()}


def main(arguments: Iterable[str]) -> None:
    """Write the pages, and the page of claims of a folder where one is named."""
    for folder in arguments:
        shutil.copyfile(page.write(catalogue.papers(), Path(folder)), DOCS / "claims.html")
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    print(f"wrote {', '.join(pages())} into {DOCS.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
