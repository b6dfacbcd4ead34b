"""What tests run over, found by itself: a stream, a finite set or an order that is put into ``sgdlit/data``
is tested without being listed anywhere.

Each class tells the arguments of some small ones of its kind (``small``). A finite set that is read from
files gets small files in its official format.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from official_formats import write_official

import sgdlit.data
from sgdlit.config.options import is_abstract
from sgdlit.data.image_shards import ImagesFromFiles, ImageShards
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.orders import Order
from sgdlit.data.streams import StreamData

T = TypeVar("T")

for module in pkgutil.walk_packages(sgdlit.data.__path__, "sgdlit.data."):
    importlib.import_module(module.name)


def found(base: type[T]) -> Iterator[type[T]]:
    """The concrete subclasses that the package itself has."""
    for cls in base.__subclasses__():
        if not is_abstract(cls) and cls.__module__.startswith("sgdlit."):
            yield cls
        yield from found(cls)


def named(cls: type, given: dict[str, Any]) -> str:
    return " ".join([cls.__name__, *(f"{name}={value}" for name, value in given.items())])


def small_ones(base: type[T]) -> dict[str, Callable[..., T]]:
    """By name, what makes each of the small ones of every class; takes further arguments."""

    def maker(cls: type[T], small: dict[str, Any]) -> Callable[..., T]:
        return lambda **given: cls(**{**small, **given})

    return {named(cls, small): maker(cls, small) for cls in found(base) for small in cls.small}


ORDERS: dict[str, Callable[[], Order]] = small_ones(Order)
SIZES = {"steps": 12, "batch_size": 8, "val_size": 12, "test_size": 20, "seed": 3}
STREAMS = {
    name: lambda make=make, **given: make(**{**SIZES, **given})
    for name, make in small_ones(StreamData).items()
}


def finite_set(cls: type[ImageShards], small: dict[str, Any], folder: Path, **given: Any) -> ImageShards:
    """A small finite set of 20 training examples, whose files, where it has any, are made in ``folder``."""
    sizes = {"batch_size": 8, "val_size": 12, "train_size": 20, "seed": 3, "last_batch": "short"}
    if issubclass(cls, ImagesFromFiles):
        small = {"root": str(write_official(cls.files, folder / cls.__name__)), **small}
    return cls(**{**small, **sizes, **given})


FINITE_SETS = {
    named(cls, small): lambda folder, cls=cls, small=small, **given: finite_set(cls, small, folder, **given)
    for cls in found(ImageShards)
    for small in cls.small
}


def _data() -> Iterator[tuple[str, Callable[..., KeyedData]]]:
    for name, make in STREAMS.items():
        yield name, lambda folder, make=make, **given: make(**given)
        shard = {"shard_size": 20, "last_batch": "short"}
        yield f"shard of {name}", lambda folder, make=make, shard=shard, **given: make(**{**shard, **given})
    yield from FINITE_SETS.items()
    *_, (name, make) = FINITE_SETS.items()
    for order, order_of in ORDERS.items():
        ordered = {"batch_size": 4, "repeats": 2}
        yield (
            f"{name} in {order}",
            lambda folder, make=make, order_of=order_of, ordered=ordered, **given: make(
                folder, **{**ordered, "order": order_of(), **given}
            ),
        )


DATA: dict[str, Callable[..., KeyedData]] = dict(_data())
"""By name, what makes data of every kind: takes a folder for files, and arguments of :class:`KeyedData`."""
