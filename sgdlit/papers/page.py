"""``index.html``: every claim, how it stands, and what carries that, on one page that needs no other file.

It is made from the catalogue and from what :mod:`sgdlit.papers.record` keeps; nothing is computed. Pictures
are inside it, so that it can be read without a network and handed on as one file.
"""

import base64
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from sgdlit.foundations.files import write_atomically
from sgdlit.papers import catalogue, record
from sgdlit.papers.claim import Claim
from sgdlit.papers.paper import Experiment, Paper
from sgdlit.papers.record import Entry

_TEMPLATE = Path(__file__).with_name("page.html")
_SIGNS = {
    record.HOLDS: ("✓", "holds"),
    record.DOES_NOT_SHOW: ("✗", "not"),
    record.NO_VERDICT: ("–", "none"),
    record.NOT_RUN: ("○", "unrun"),
}
_ARXIV = re.compile(r"(?<![\d/.])(\d{4}\.\d{4,5})(?!\d)")
_OWN, _READABLE = 0.64, 0.5  # of its pixels: how wide it is; below which it is not shrunk, but scrolled
_COLORS = 128  # of a picture: figures have few
_INTRODUCTION = """
<h1>Claims about SGD, and what was found</h1>
<p>Each claim is a statement of a paper, checked by a program: what was predicted, what was found with its
interval, and whether it lies in its band. The bands of the L claims and those of theory were there before the
check; margins of the others are ours, and were set with runs of other seeds. Where a claim <em>does not
show</em> at the scale of its protocol, that is a result like any other, with its numbers and the reason as
far as it is known. At quick scale everything runs on two cores.</p>
"""


def write(papers: Mapping[str, Paper], out: Path) -> Path:
    """Write ``index.html`` into the folder in which each paper has its own; returns its path."""
    kept = {name: record.read(out / name) for name in papers}
    body = "".join(_body(papers, kept, out))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    write_atomically(path, Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(body=body))
    return path


def _body(papers: Mapping[str, Paper], kept: Mapping[str, Mapping[str, Entry]], out: Path) -> Iterator[str]:
    states = {
        (name, claim.id): _state(kept[name].get(claim.id)) for name, p in papers.items() for claim in p.claims
    }
    yield _INTRODUCTION
    yield _filter(Counter(states.values()))
    yield '<nav class="contents">'
    for name, paper in papers.items():
        chips = "".join(_chip(name, claim, states[name, claim.id]) for claim in paper.claims)
        yield f'<a href="#{name}">{name}</a><div class="chips">{chips}</div>\n'
    yield "</nav>\n"
    for name, paper in papers.items():
        yield f'<section class="paper" id="{name}">\n<h2>{_linked(paper.reference)}</h2>\n'
        for experiment in paper.experiments:
            yield from _experiment(paper, experiment, kept[name], out / name)
        yield "</section>\n"


def _state(entry: Entry | None) -> str:
    return record.NOT_RUN if entry is None else entry["state"]


def _filter(counts: Counter[str]) -> str:
    """Buttons that show the claims of one state."""
    choices = [("", f"all {counts.total()} claims")]
    choices += [
        (state, f"{_SIGNS[state][0]} {counts[state]} {state}") for state in record.STATES if counts[state]
    ]
    buttons = "".join(
        f'<label class="{_SIGNS[state][1] if state else ""}"><input type="radio" name="state" value="{state}"'
        f"{' checked' if not state else ''}>{text}</label>"
        for state, text in choices
    )
    return f'<div class="states" role="radiogroup" aria-label="claims that are shown">{buttons}</div>\n'


def _chip(name: str, claim: Claim, state: str) -> str:
    sign, kind = _SIGNS[state]
    title = escape(f"{claim.statement} ({state})", quote=True)
    return (
        f'<a class="chip {kind}" href="#{name}-{claim.id}" data-state="{state}" title="{title}">'
        f"{escape(claim.id)} {sign}</a>"
    )


def _experiment(
    paper: Paper, experiment: Experiment, kept: Mapping[str, Entry], folder: Path
) -> Iterator[str]:
    """The claims of one computation, its pictures, and how it was made."""
    yield '<div class="experiment">\n'
    for claim in experiment.claims:
        yield from _claim(paper.name, claim, kept.get(claim.id))
    entries = [kept[claim.id] for claim in experiment.claims if claim.id in kept]
    notes = dict.fromkeys(note for entry in entries for note in entry["notes"])
    yield from (f'<p class="soft">Note: {escape(note)}</p>\n' for note in notes)
    for picture in dict.fromkeys(name for entry in entries for name in entry["pictures"]):
        path = folder / picture
        if path.is_file():
            yield _picture(path, " / ".join(claim.statement for claim in experiment.claims))
    named = paper.name if len(paper.experiments) == 1 else f"{paper.name}:{experiment.claims[0].id}"
    yield _how(named, experiment.claims, entries[0] if entries else None)
    yield "</div>\n"


def _claim(paper: str, claim: Claim, entry: Entry | None) -> Iterator[str]:
    state = _state(entry)
    sign, kind = _SIGNS[state]
    yield f'<article id="{paper}-{escape(claim.id)}" data-state="{state}">\n'
    yield (
        f'<h3><span class="verdict {kind}">{sign} {state}</span> <span class="id">{escape(claim.id)}</span> '
        f"{escape(claim.statement)}</h3>\n"
    )
    turned = (
        f" With other seeds the verdict turned: {escape(claim.other_seeds)}." if claim.other_seeds else ""
    )
    predicted = f"Predicted: {escape(claim.prediction)}.{turned}"
    yield f'<p class="soft">{_linked(claim.source)}. {predicted}</p>\n'
    if entry is not None and entry["findings"]:
        yield _findings(entry["findings"])
    yield "</article>\n"


def _findings(findings: Sequence[Mapping[str, str]]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("compared", "predicted", "found", "interval", "holds"))
    rows = []
    for finding in findings:
        sign, kind = _SIGNS[record.HOLDS if finding["holds"] else record.DOES_NOT_SHOW]
        cells = "".join(
            f'<td data-is="{name}">{escape(finding[name])}</td>'
            for name in ("predicted", "found", "interval")
        )
        mark = f'<td class="mark {kind}">{sign} {"yes" if finding["holds"] else "no"}</td>'
        note = f'<br><span class="soft">Note: {escape(finding["note"])}</span>' if finding["note"] else ""
        rows.append(f"<tr><td>{escape(finding['statement'])}{note}</td>{cells}{mark}</tr>\n")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n{''.join(rows)}</tbody></table>\n"


def _picture(path: Path, alternative: str) -> str:
    """A picture as part of the page, with as many colours as a figure needs."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        data = io.BytesIO()
        image.convert("RGB").quantize(_COLORS).save(data, "PNG", optimize=True)
    text = base64.b64encode(data.getvalue()).decode()
    widths = f"--own: {round(_OWN * width)}px; --least: {round(_READABLE * width)}px"
    return (
        f'<figure><img src="data:image/png;base64,{text}" width="{width}" height="{height}" '
        f'style="{widths}" alt="{escape(alternative, quote=True)}"></figure>\n'
    )


def _how(named: str, claims: Sequence[Claim], entry: Entry | None) -> str:
    """What is known of the check of some claims, and the commands that repeat it."""
    quick = "; ".join(dict.fromkeys(claim.quick for claim in claims))
    full = "; ".join(dict.fromkeys(claim.full for claim in claims))
    facts, brief = {"quick scale": quick, "full scale": full}, ""
    command = f"python -m sgdlit reproduce {named}"
    if entry is not None:
        scale, seeds = entry["protocol"]["scale"], entry["seeds"] or "as in the protocol"
        named_seeds = seeds if "=" in seeds else f"seeds {seeds}"
        brief = f": {scale} scale, {_time(entry)}, {named_seeds}"
        facts |= {
            "seeds": seeds,
            "time": f"{_time(entry)}, on {entry['when']}",
            "machine": entry["machine"],
            "versions": ", ".join(f"{name} {number}" for name, number in entry["versions"].items()),
        }
        command += "" if scale == "quick" else f" --scale {scale}"
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f"<details><summary>How it was checked{escape(brief)}</summary><dl>{listed}</dl></details>\n"
        f"<pre>{escape(command)}</pre><details><summary>At full scale</summary>"
        f"<pre>{escape(_at_full_scale(named, claims))}</pre></details>\n"
    )


def _at_full_scale(named: str, claims: Sequence[Claim]) -> str:
    lines = [f"python -m sgdlit reproduce {named} --scale full"]
    for config in dict.fromkeys(claim.config for claim in claims if claim.config):
        lines.append(f"python -m sgdlit {catalogue.command_of(config)} --config configs/{config}")
    return "\n".join(lines)


def _time(entry: Entry) -> str:
    """The processors' time, which depends little on what else a machine does; else the time."""
    of_processors: float | None = entry.get("cpu_seconds")
    seconds: float = entry["seconds"] if of_processors is None else of_processors
    text = (
        f"{seconds:.1f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
    )
    return text if of_processors is None else f"{text} of a processor"


def _linked(text: str) -> str:
    """Text with its arXiv numbers as links."""
    return _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">\1</a>', escape(text))
