"""The pages of the site that are made from the code: config fields, measures, shipped configs, the API.

Each function returns the text of a page in Markdown. Nothing of them is written into docs/.
"""

import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sgdlit.config.options import alternatives, classes_in, is_abstract, parameters

REPOSITORY = Path(__file__).resolve().parents[2]
_KINDS = {
    "The module that trains": ("sgdlit.training.module", "lightning.pytorch.LightningModule"),
    "Data": ("sgdlit.data sgdlit.data.finite", "lightning.pytorch.LightningDataModule"),
    "Orders": ("sgdlit.data", "sgdlit.data.orders.Order"),
    "Networks": ("sgdlit.models", "torch.nn.Module"),
    "Objectives": ("sgdlit.objectives", "sgdlit.objectives.objective.Objective"),
    "Strengths of the regularizer": ("sgdlit.objectives", "sgdlit.objectives.strength.Strength"),
    "Losses": ("sgdlit.objectives", "sgdlit.objectives.losses.Loss"),
    "Optimizers": ("sgdlit.algorithms sgdlit.algorithms.rules", "torch.optim.Optimizer"),
    "Schedules": ("sgdlit.training", "torch.optim.lr_scheduler.LRScheduler"),
    "Mixing": ("sgdlit.algorithms", "sgdlit.algorithms.mixing.Mixing"),
    "Callbacks": ("sgdlit.training", "lightning.pytorch.Callback"),
}
"""Heading: the rooms in which classes of a kind lie, and their base."""
_INTERNAL = ("DivergenceGuard", "StepProgress", "MembersData")
_OF_TORCH = ("last_epoch",)  # fields that torch gives its schedules, and no config
_API = {
    "Runs and sweeps": ("sgdlit.runs.reading", "sgdlit.sweeps.reading", "sgdlit.cli.notebook"),
    "Steps": ("sgdlit.algorithms.member", "sgdlit.algorithms.engines.group", "sgdlit.objectives.penalty"),
    "Objectives and losses": ("sgdlit.objectives.objective", "sgdlit.objectives.losses"),
    "Data": ("sgdlit.data.keyed_data", "sgdlit.data.orders", "sgdlit.data.shards"),
    "Measures": ("sgdlit.measures.measure", "sgdlit.training.measuring"),
    "Theory": (
        "sgdlit.theory.modified_flow",
        "sgdlit.theory.noisy_quadratic",
        "sgdlit.theory.linear_regression",
    ),
    "Statistics": ("sgdlit.foundations.intervals", "sgdlit.sweeps.statistics"),
    "Random numbers": ("sgdlit.foundations.philox",),
}


# Config fields


def config_fields() -> str:
    """Every option of a run, and of every class that a config may name."""
    parts = [
        "# Config fields",
        "",
        "What may stand in a config, from the classes themselves. A class goes by its path, or if it is one "
        "of these by its name; its fields stand below `init_args`, which keys on the command line leave out: "
        "`--model.optimizer.lr 0.05`. [The reference config](configs/reference.md) shows them in place, and "
        "`python -m sgdlit fit --help all` has those of Lightning's Trainer.",
        "",
    ]
    for heading, (rooms, base) in _KINDS.items():
        classes = list(_classes(rooms.split(), base))
        if classes:
            parts += [f"## {heading}", ""]
            for cls in classes:
                parts += _class(cls)
    parts += ["## Sweeps", "", "The section `sweep:` of a sweep file, see [sweeps](../sweeps.md).", ""]
    from sgdlit.sweeps import options

    for cls in (options.SweepOptions, options.Metric, options.Statistic, options.Figure, options.Panel,
                options.Curve, options.Line):  # fmt: skip
        parts += _class(cls)
    return "\n".join(parts)


def _classes(rooms: Sequence[str], base: str) -> Iterator[type]:
    """The public classes of a kind that the modules of some rooms define, by name."""
    kind = pkgutil.resolve_name(base)
    found: dict[str, type] = {}
    for room in rooms:
        where = importlib.import_module(room)
        modules = [where]
        if hasattr(where, "__path__"):
            modules = [
                importlib.import_module(f"{room}.{m.name}") for m in pkgutil.iter_modules(where.__path__)
            ]
        for module in modules:
            for name, cls in vars(module).items():
                own = inspect.isclass(cls) and cls.__module__ == module.__name__ and issubclass(cls, kind)
                if own and not name.startswith("_") and name not in _INTERNAL and not is_abstract(cls):
                    found[name] = cls
    public = set(getattr(importlib.import_module(rooms[0]), "__all__", ()))
    listed = public if rooms[0] == "sgdlit.models" else set(found)
    return (found[name] for name in sorted(found) if name in listed)


def _class(cls: type) -> list[str]:
    """A heading with the class path, what the class says, and a table of its fields."""
    about, _ = _said(cls)
    described: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("sgdlit"):
            described = _said(base)[1] | described
    lines = [f"### {cls.__name__}", "", f"`{cls.__module__}.{cls.__name__}`", "", _prose(about), ""]
    fields = {name: option for name, option in parameters(cls).items() if name not in _OF_TORCH}
    if fields:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        for name, option in fields.items():
            default = "" if option.required else f"`{_short(option.default)}`"
            text = _prose(described.get(name, "")).replace("\n", " ").replace("|", "\\|")
            lines.append(f"| `{name}` | {_type(option.hint)} | {default} | {text} |")
        lines.append("")
    return lines


def _said(cls: type) -> tuple[str, dict[str, str]]:
    """What a docstring says before its sections, and of each argument."""
    about, *sections = re.split(r"^(\w+):$", inspect.getdoc(cls) or "", flags=re.MULTILINE)
    blocks = dict(zip(sections[::2], sections[1::2], strict=True))
    entries = re.split(r"^    (?=\S)", blocks.get("Args", ""), flags=re.MULTILINE)[1:]
    named = (entry.partition(":") for entry in entries)
    return about.strip(), {name.strip(): " ".join(text.split()) for name, _, text in named}


def _short(value: Any) -> str:
    if inspect.isclass(value):
        return value.__name__
    text = repr(value)
    return (text if len(text) < 40 and " object at " not in text else type(value).__name__).replace(
        "|", "\\|"
    )


def _type(hint: Any) -> str:
    """An annotation in short: the names of classes, and the values of literals."""
    if hint is None:
        return ""
    parts = []
    for part in alternatives(hint):
        if typing.get_origin(part) is typing.Literal:
            parts += [repr(value) for value in typing.get_args(part)]
        elif part is type(None):
            parts.append("null")
        elif typing.get_origin(part) is Callable:
            parts += [cls.__name__ for cls in classes_in(part)] or ["function"]
        else:
            parts.append(
                part.__name__ if inspect.isclass(part) and not typing.get_args(part) else _bare(part)
            )
    return f"`{' or '.join(dict.fromkeys(parts))}`".replace("|", "\\|")


def _bare(hint: Any) -> str:
    """An annotation without the modules of its names."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(hint))


def _prose(text: str) -> str:
    """reStructuredText's marks as Markdown's."""
    text = re.sub(r":(?:class|func|mod|attr|meth):`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


# Measures


def measures() -> str:
    """All measures with formula, question, price and the names under which they are logged."""
    from sgdlit.measures.catalogue import entries
    from sgdlit.measures.presets import PRESETS

    lines = [
        "# All measures",
        "",
        "What `python -m sgdlit measures` lists; [measures](../measures.md) tells how they are taken. Prices "
        "are in gradients of one example, for n examples of N.",
        "",
        "| preset | measures |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {', '.join(f'`{own}`' for own in kinds)} |" for name, kinds in PRESETS.items()]
    for entry in entries():
        logged = ", ".join(f"`{name}`" for name in entry.logged)
        arrays = ", ".join(f"`{name}` {what}" for name, what in entry.arrays.items())
        lines += ["", f"## {entry.name}", "", f"{entry.answers[:1].upper()}{entry.answers[1:]}?", ""]
        lines += ["| | |", "|---|---|"]
        rows = {"formula": entry.formula, "price": entry.price, "needs": ", ".join(entry.needs),
                "logged": logged, "arrays": arrays, "file": f"`sgdlit/measures/{entry.file}.py`"}  # fmt: skip
        lines += [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows.items() if text]
    return "\n".join(lines) + "\n"


# Shipped configs


def configs() -> dict[str, str]:
    """A page for each shipped config, by name, and ``index`` with a line for each."""
    from sgdlit.config.shipped import about, shipped

    pages = {
        "index": "# Shipped configs\n\n`--config NAME` finds them wherever sgdlit is installed; "
        "`python -m sgdlit configs copy NAME` makes one yours.\n\n| | |\n|---|---|\n"
    }
    for name, path in shipped().items():
        words = about(path).replace("|", "\\|")
        pages["index"] += f"| [{name}]({name}.md) | {words} |\n"
        text = path.read_text(encoding="utf-8")
        pages[name] = (
            f"# {name}\n\n```\npython -m sgdlit {_command(text)} --config {name}\n```\n\n```yaml\n{text}```\n"
        )
    return pages


def _command(config: str) -> str:
    return "sweep" if re.search(r"^sweep:", config, re.MULTILINE) else "fit"


# The API


def api() -> str:
    """What scripts and notebooks use, from the docstrings."""
    lines = [
        "# API",
        "",
        "What a script or a notebook uses, from its docstrings: `sgdlit.fit`, `sgdlit.load_run` and "
        "`sgdlit.load_sweep` at the front, and the parts that they stand on. [script](../script.md) shows "
        "some of them together.",
        "",
    ]
    for heading, modules in _API.items():
        lines += [f"## {heading}", ""]
        for module in modules:
            lines += [f"::: {module}", ""]
    return "\n".join(lines)
