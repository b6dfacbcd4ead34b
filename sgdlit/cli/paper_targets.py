"""What is to be checked: a word of the command line names a paper, a claim, or a collection of papers."""

from dataclasses import dataclass

from sgdlit.papers import catalogue
from sgdlit.papers.paper import Experiment, Paper


@dataclass(frozen=True)
class Target:
    """A paper, or one claim of it."""

    paper: Paper
    claim: str | None = None
    text: str = ""

    @property
    def experiments(self) -> list[Experiment]:
        """What has to be run."""
        return catalogue.experiments(self.paper, self.claim)

    @property
    def seconds(self) -> float:
        """About how long that takes; what nobody has timed counts as a minute."""
        known = catalogue.seconds().get(self.paper.name, {})
        return sum(known.get(experiment.name, 60.0) for experiment in self.experiments)

    def holds_for(self, claim: str) -> bool:
        """Whether the claim was asked for."""
        return self.claim in (None, claim)


def targets_of(text: str) -> list[Target]:
    """What a word of the command line names: a paper, a claim of it, or a collection of papers."""
    name, colon, claim = text.partition(":")
    if name in catalogue.COLLECTIONS and not colon:
        return [Target(catalogue.find(paper), None, paper) for paper in catalogue.COLLECTIONS[name]]
    target = Target(catalogue.find(name), claim if colon else None, text)
    assert target.experiments  # an unknown claim, or an empty one, is refused here
    return [target]
