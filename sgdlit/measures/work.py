"""What a measure costs, counted before it is taken: passes of single examples through the network.

The unit of a price is one gradient of one example, forwards and backwards. A step of plain SGD costs B of
them. Of several measures that need the same pass, at the same step and on the same examples, one pays.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sgdlit.objectives.layer_factors import WEIGHTS
from sgdlit.objectives.step_shown import Kind


class Work(NamedTuple):
    """Numbers of passes, each of one example.

    Attributes:
        forwards: without a gradient.
        gradients: of the mean over a batch; also those whose graph is kept for products.
        example_gradients: of which the norm of each example's own is found.
        products: with a second derivative, whose graph is there.
        together: examples in each pass; 0 for as many as there are in a chunk.
        vectors: of the size of all parameters, that are read or written in memory beside these passes.
        calls: of Python beside them, each in the time in which a network is looked at without a trace.
        example_products: of the gradients of examples, those whose product with a vector is found too.
    """

    forwards: float = 0.0
    gradients: float = 0.0
    example_gradients: float = 0.0
    products: float = 0.0
    together: int = 0
    vectors: float = 0.0
    calls: float = 0.0
    example_products: float = 0.0


ALONE = 2
"""Examples each of which is looked at alone."""

DRAWN = 40
"""Vectors that are read or written in the time in which one is drawn, number by number."""

Works = dict[Hashable, Work]
"""Work by what it finds. What two measures name alike is found once for both."""


@dataclass(frozen=True)
class Sizes:
    """What the work of a measure depends on, at some step of a run.

    Attributes:
        step: updates made.
        examples: n, of the training set, that are looked at.
        chunk_size: examples that are looked at together.
        batch_size: B, of a step.
        training: N, the size of the training set; None for a stream.
        test: number of test examples.
        parameters: P, those that are trained.
        matrices: how many of the trained tensors are matrices or convolutions.
        normalized: whether there is BatchNorm.
        linear: whether linear layers hold all trained parameters.
        outputs: C, of one example.
        shown: what a step shows by itself, so that it costs no pass; None for nothing.
    """

    step: int
    examples: int
    chunk_size: int
    batch_size: int
    training: int | None
    test: int
    parameters: int
    matrices: int = 0
    normalized: bool = False
    linear: bool = False
    outputs: int = 1
    shown: Kind | None = None


def work_of_needs(needs: Iterable[str], sizes: Sizes) -> Works:
    """The work for properties of a :class:`sgdlit.measures.measure.RunAtStep`; most are free."""
    needs, n = frozenset(needs), sizes.examples
    found: Works = {}
    if "cost" in needs:
        found["cost"] = Work(forwards=n)
    if needs & {"gradient", "example_products"}:
        found["gradient"] = Work(gradients=n)
    if needs & {"example_norms", "example_products"}:
        multiplied = n if "example_products" in needs else 0
        found["example gradients"] = work_of_company(n, sizes.linear)._replace(
            example_gradients=n, example_products=multiplied
        )
    return found


def work_of_company(examples: int, linear: bool = False) -> Work:
    """Passes of examples alone, and of some, which show whether examples are coupled; their gradient is
    compared where it is linear layers that show those of examples."""
    alone, some = min(examples, ALONE), min(examples, len(WEIGHTS))
    return Work(forwards=alone, gradients=some) if linear else Work(forwards=alone + some)


def not_yet_done(works: Mapping[Hashable, Work], done: set[Hashable]) -> Works:
    """The part of some work that is not done; it is afterwards. A pass for the gradient gives the cost."""
    new = {what: work for what, work in works.items() if what not in done}
    done.update(works)
    if "gradient" in done:
        new.pop("cost", None)
        done.add("cost")
    return new
