"""The commands that README, docs and configs show are there, and train as many runs as they say."""

import re

import pytest
import yaml
from docs_blocks import PAGES, REPOSITORY, commands, configs_of, runs_said

from sgdlit.cli.main import COMMANDS
from sgdlit.config.axes import expand
from sgdlit.config.shipped import find
from sgdlit.papers import catalogue

OWN = {"FILE", "this", "mine.yaml", "base.yaml"}
"""Configs of the reader's own; what a page shows as ``# NAME.yaml`` is one, too."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_name_what_there_is(page):
    own = OWN | set(re.findall(r"^# (\w+\.yaml)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    for words, _ in commands(page):
        command, *arguments = words
        assert command in COMMANDS, words
        for config in configs_of(arguments):
            assert config in own or "$" in config or find(config) is not None, words
        if command == "reproduce":
            for target in arguments[: next((k for k, w in enumerate(arguments) if w[0] == "-"), None)]:
                paper, _, claim = target.partition(":")
                known = paper in catalogue.COLLECTIONS or page.name == "adding.md"  # which adds one
                assert known or catalogue.experiments(catalogue.find(paper), claim or None), words


def test_pages_have_commands():
    assert len([command for page in PAGES for command in commands(page)]) > 150


def test_ensembles_have_as_many_members_as_is_said():
    """Of sweeps: tests/integration/test_configs.py."""
    checked = []
    for config, count in runs_said().items():
        sections = yaml.safe_load(find(config).read_text(encoding="utf-8"))
        if "sweep" not in sections:
            assert len(expand(sections["ensemble"], "ensemble")) == count, config
            checked.append(config)
    assert checked
