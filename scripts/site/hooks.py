"""What mkdocs asks while it builds the site: pages made from the code, and links that leave docs/."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[1]
sys.path.insert(0, str(_REPOSITORY))  # the package of this tree is what is told about
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def _reference() -> ModuleType:
    """``reference.py`` beside this file, which is no package."""
    spec = importlib.util.spec_from_file_location("reference", _HERE / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_config(config: Any) -> Any:
    """List the pages of docs/ that the navigation leaves out among the how-tos."""
    text = str(config.nav)
    how_tos = next(part["How-tos"] for part in config.nav if "How-tos" in part)
    pages = sorted(path.name for path in (_REPOSITORY / "docs").glob("*.md"))
    how_tos.extend(name for name in pages if name not in text)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no files of docs/."""
    from mkdocs.structure.files import File

    reference = _reference()
    made = {
        "start.md": (_REPOSITORY / "README.md").read_text(encoding="utf-8"),
        "contributing.md": (_REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (_REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"),
        "reference/config.md": reference.config_fields(),
        "reference/measures.md": reference.measures(),
        "reference/api.md": reference.api(),
    }
    made |= {f"reference/configs/{name}.md": text for name, text in reference.configs().items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to configs, and to files beside docs/, where the site has them."""
    at_root = page.file.src_uri in ("start.md", "contributing.md", "changelog.md")

    def changed(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if re.match(r"https?:|#|mailto:", target):
            return found[0]
        new = _target(target, at_root)
        return f"{label}({new})" if new else label.strip("![]")

    outside = re.split(r"(```.*?```)", markdown, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(changed, part) for part in outside)


def _target(target: str, at_root: bool) -> str | None:
    """Where a link of a page leads on the site; None where the site has nothing of it."""
    path, hash_, place = target.partition("#")
    if at_root:
        path = path.removeprefix("docs/") if path.startswith("docs") else f"../{path}"
        path = path or "README.md"
    if not path.startswith("../"):
        return path + hash_ + place
    beyond = path.removeprefix("../")
    known = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    if beyond in known:
        return known[beyond] + hash_ + place
    config = re.fullmatch(r"configs/(.+)\.yaml", beyond)
    if config and (_REPOSITORY / beyond).is_file():
        return f"reference/configs/{config[1]}.md"
    return None
