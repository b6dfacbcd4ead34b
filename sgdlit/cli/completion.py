"""``python -m sgdlit completion bash|zsh|fish``: what a shell needs to complete the command ``sgdlit``.

    eval "$(sgdlit completion bash)"           in ~/.bashrc; zsh the same, in ~/.zshrc
    sgdlit completion fish | source            in ~/.config/fish/config.fish

The shell then asks ``sgdlit completion -- WORDS`` at every tabulator: commands, configs, folders of runs,
papers, data sets, options. Option names are read from the text of the files that define them, and from the
configs on the line. Nothing of them is imported, so that an answer takes a fraction of a second.
"""

import ast
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sgdlit.cli.main import COMMANDS
from sgdlit.cli.parser import CommandParser

Shell = Literal["bash", "zsh", "fish"]
_PACKAGE = Path(__file__).resolve().parents[1]
_LIGHTNINGS = ("fit", "validate", "test", "predict")
_AS_FIT = (*_LIGHTNINGS, "sweep")
_GENERAL = ("--help", "--quiet")
_SCRIPTS = {
    "bash": """_sgdlit() {
  local cur="${COMP_WORDS[COMP_CWORD]}"
  local IFS=$'\\n'
  COMPREPLY=( $(sgdlit completion -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) )
  if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=( $(compgen -f -- "$cur") ); fi
}
complete -o filenames -F _sgdlit sgdlit
""",
    "zsh": """_sgdlit() {
  local -a found
  found=( ${(f)"$(sgdlit completion -- "${(@)words[2,$CURRENT]}" 2>/dev/null)"} )
  if (( ${#found} )); then compadd -Q -- $found; else _files; fi
}
compdef _sgdlit sgdlit
""",
    "fish": """function __sgdlit_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    sgdlit completion -- $words 2>/dev/null
end
complete -c sgdlit -a '(__sgdlit_complete)'
""",
}


def main(arguments: Sequence[str]) -> int:
    """Print the script of a shell, or after ``--`` what may stand in place of the last word; 0.

    Raises:
        UserError: a shell that is not known.
    """
    if arguments and arguments[0] == "--":
        print("\n".join(completions(arguments[1:])))
        return 0
    parser = CommandParser("completion", "Print what a shell needs to complete the command sgdlit.")
    parser.add_argument("shell", type=Shell, help='bash: put eval "$(sgdlit completion bash)" into ~/.bashrc')
    print(_SCRIPTS[parser.parse(arguments).shell], end="")
    return 0


def completions(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word; nothing where it is a file, or anything.

    Args:
        words: of the line behind ``sgdlit``, the last as far as it has been written.
    """
    *before, current = words or [""]
    if not before:
        return _beginning(current, [*COMMANDS, "--help", "--version"])
    command, *rest = before
    if command not in COMMANDS:
        return []
    if current.startswith("-"):
        return _beginning(current, sorted(_options(command, rest)))
    values = _VALUES.get(rest[-1] if rest else "") or _VALUES.get(command)
    if rest and rest[-1].startswith("--") and rest[-1] not in _VALUES:
        return []
    return _beginning(current, sorted(values())) if values else []


def _beginning(current: str, words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(current)]


# Values


def _configs() -> Iterator[str]:
    from sgdlit.config.shipped import known_names

    yield from known_names()
    yield from (str(path) for path in Path().glob("*.yaml"))


def _runs() -> Iterator[str]:
    return (str(path) for path in Path("logs").glob("*/version_*"))


def _modules(room: str) -> Callable[[], Iterator[str]]:
    """The names of the files of a folder."""
    return lambda: (path.stem for path in (_PACKAGE / room).glob("[!_]*.py"))


def _papers() -> Iterator[str]:
    """Files that define ``PAPER``."""
    for path in (_PACKAGE / "papers").glob("[!_]*.py"):
        if "\nPAPER = " in path.read_text(encoding="utf-8"):
            yield path.stem


def _words(*words: str) -> Callable[[], Iterator[str]]:
    return lambda: iter(words)


_VALUES: dict[str, Callable[[], Iterator[str]]] = {
    "--config": _configs,
    "--resume": _runs,
    "--run": _runs,
    "--measures": _words("basic", "standard", "full"),
    "--figure": _words("measures", "run_curves", "sensing"),
    "configs": _words("show", "copy"),
    "show": _configs,
    "copy": _configs,
    "runs": _words("compare", "remove"),
    "compare": _runs,
    "remove": _runs,
    "data": _modules("data/finite"),
    "reproduce": _papers,
    "completion": _words("bash", "zsh", "fish"),
}
"""By the word before, or else the command."""


# Options


def _options(command: str, words: Sequence[str]) -> set[str]:
    found = {*_GENERAL, *_written_in(_file_of(command))}
    if command in _AS_FIT:
        found |= _written_in(_PACKAGE / "cli" / "run_options.py")
        found |= {"--config", "--print_config", "--ckpt_path"}
        found |= {"--seed_everything", "--resume" if command == "fit" else "--run"}
        found |= {f"--trainer.{name}" for name in _trainer_options()}
        found |= {f"--checkpoints.{name}" for name in _options_of("sgdlit.training.checkpoints.Checkpoints")}
        found |= {f"--{key}" for key in _keys(words)}
    return found - ({"--sweep"} if command in _LIGHTNINGS else set())


def _file_of(command: str) -> Path:
    module = COMMANDS[command][0].partition(":")[0]
    return _PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


def _written_in(path: Path) -> set[str]:
    """The options that a file adds to a parser."""
    return {
        str(node.args[0].value)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("--")
    }


def _keys(words: Sequence[str]) -> set[str]:
    """The keys that the configs on the line have, and the arguments of the classes that they and it name."""
    import yaml

    from sgdlit.config.keys import short_key
    from sgdlit.config.shipped import find

    given: dict[str, str] = {"model": "sgdlit.training.module.Training"}
    keys: set[str] = set()
    for option, value in itertools.pairwise(words):
        if option == "--config":
            path = Path(value) if Path(value).is_file() else find(value)
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
            except (OSError, ValueError, yaml.YAMLError):
                content = None
            for key, entry in _flat("", content if isinstance(content, dict) else {}):
                keys.add(short_key(key))
                if key.endswith("class_path"):
                    given[short_key(key)] = str(entry)
        elif option.startswith("--"):
            given[option[2:]] = value
    for key, class_path in given.items():
        if "." in class_path and not key.startswith("trainer"):
            keys |= {f"{key}.{name}" for name in _options_of(class_path)}
    return {key for key in keys if not key.startswith("sweep.grids")}


def _flat(key: str, value: object) -> Iterator[tuple[str, object]]:
    """The leaves of a nested mapping by their keys; lists are leaves."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), entry)
    else:
        yield key, value


def _options_of(class_path: str) -> list[str]:
    """The arguments of a class of the package, or of a file in the current folder, and of its bases there."""
    module, _, name = class_path.rpartition(".")
    for root in (_PACKAGE.parent, Path()):
        path = root.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), *sorted(path.glob("*.py"))):
            if file.is_file() and (found := _class_in(file, name)) is not None:
                return found
    return []


def _class_in(path: Path, name: str) -> list[str] | None:
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            own = next(
                (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None
            )
            arguments = [] if own is None else [*own.args.args[1:], *own.args.kwonlyargs]
            bases = [] if own is not None and own.args.kwarg is None else _bases(path, node)
            return [argument.arg for argument in arguments] + bases
    return None


def _bases(path: Path, node: ast.ClassDef) -> list[str]:
    """The arguments of the bases of a class, found by the imports of its file."""
    places = {
        alias.asname or alias.name: f"{line.module}.{alias.name}"
        for line in ast.walk(_tree(path))
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
    }
    found: list[str] = []
    for base in node.bases:
        if isinstance(base, ast.Name):
            there = _options_of(places[base.id]) if base.id in places else _class_in(path, base.id)
            found += there or []
    return found


def _trainer_options() -> list[str]:
    """The arguments of Lightning's Trainer, whose file is found without importing it."""
    spec = importlib.util.find_spec("lightning")
    if spec is None or spec.origin is None:
        return []
    path = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    return (_class_in(path, "Trainer") or []) if path.is_file() else []


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
