"""The documentation as a site: its pages made from the code and, where mkdocs is installed, the site."""

import importlib.util
import re
import subprocess
import sys
from types import ModuleType

import pytest
import yaml
from conftest import REPOSITORY

SITE = REPOSITORY / "scripts" / "site"
_TOOLS = ("mkdocs", "material", "mkdocstrings")


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_every_field_of_a_config_has_its_words():
    """Of modules, data, orders, networks, callbacks …: a row for each field that says what it is."""
    page = module("reference").config_fields()
    classes = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    names = [part.split("\n")[0] for part in classes]
    assert {"Training", "FashionMNIST", "Arrays", "RandomReshuffling", "MLP", "Measures", "Statistic"} <= {
        *names
    }
    rows = [
        (name, row)
        for name, part in zip(names, classes, strict=True)
        for row in re.findall(r"^\| `.*$", part, re.M)
    ]
    assert len(rows) > 300
    silent = [
        (name, row)
        for name, row in rows
        if row.rstrip("| ").count("|") < 4 and not row.rstrip().endswith(". |")
    ]
    assert silent == []
    assert "``" not in page.replace("```", "")


def test_every_measure_and_every_shipped_config_has_its_place():
    from sgdlit.config.shipped import shipped
    from sgdlit.measures.catalogue import entries

    reference = module("reference")
    headings = re.findall(r"^## (\w+)$", reference.measures(), re.MULTILINE)
    assert headings == [entry.name for entry in entries()]
    pages = reference.configs()
    assert pages.keys() - {"index"} == shipped().keys()
    assert "--config xor" not in pages["index"]
    assert "python -m sgdlit sweep --config sweeps/reference" in pages["sweeps/reference"]


def test_the_api_names_modules_that_there_are():
    for name in re.findall(r"^::: (\S+)$", module("reference").api(), re.MULTILINE):
        assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize(
    ("target", "at_root", "there"),
    [
        ("sweeps.md#statistics", False, "sweeps.md#statistics"),
        ("../configs/sweeps/reference.yaml", False, "reference/configs/sweeps/reference.md"),
        ("../README.md", False, "start.md"),
        ("../scripts/fit_ddp.sbatch", False, None),
        ("docs/paper_pairs.png", True, "paper_pairs.png"),
        ("CONTRIBUTING.md", True, "contributing.md"),
        ("docs/", True, "README.md"),
        ("LICENSE", True, None),
    ],
)
def test_links_that_leave_the_docs(target, at_root, there):
    assert module("hooks")._target(target, at_root) == there


def test_the_navigation_names_pages_that_there_are():
    listed = re.findall(r"[\w/]+\.md", (SITE / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2])
    made = {"start.md", "contributing.md", "changelog.md"}
    docs = {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    assert {page for page in listed if not page.startswith("reference/")} <= docs | made
    assert yaml.safe_load((SITE / "mkdocs.yml").read_text(encoding="utf-8"))["theme"]["font"] is False


@pytest.mark.skipif(
    any(importlib.util.find_spec(tool) is None for tool in _TOOLS),
    reason="mkdocs-material and mkdocstrings are not installed: pip install sgdlit[docs]",
)
def test_the_site_is_built_without_warnings_and_reads_nothing_from_the_net(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(SITE / "mkdocs.yml")]
    built = subprocess.run([*command, "-d", str(tmp_path)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    for page in ("index", "start", "concepts", "reference/config", "reference/api", "gallery"):
        text = (tmp_path / f"{page}.html").read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:link|script|img)\b[^>]*?(?:href|src)=[\"']?(https?://[^\"' >]+)", text)
        assert [url for url in loaded if "canonical" not in url] == []
    assert "sgdlit.sweeps.statistics.summarise" in (tmp_path / "reference/api.html").read_text(
        encoding="utf-8"
    )
    xor = (tmp_path / "reference/configs/teachers/xor.html").read_text(encoding="utf-8")
    assert "--config teachers/xor" in xor
