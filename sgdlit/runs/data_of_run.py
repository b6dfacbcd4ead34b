"""The data of a run, built anew from its config: for predictions and pictures in a notebook."""

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule

from sgdlit.config.axes import apply, namespace
from sgdlit.config.options import Option, find_class
from sgdlit.config.parsing import call_nothing_while_parsing
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError

_KEY = "data"


def data_of_run(config: dict[str, Any], point: dict[str, Any]) -> KeyedData:
    """The data that a run, or a member with its own values, was trained on; it is read already.

    Args:
        config: of the run.
        point: what distinguishes the member from the config.

    Raises:
        UserError: the config names no data of sgdlit that can be built, or its files are missing.
    """
    given = config.get(_KEY)
    if not isinstance(given, dict) or "class_path" not in given:
        raise UserError(f"{_KEY}: {given!r}; data can be built from a class path and its arguments only")
    cls = find_class(given["class_path"], [KeyedData])
    if cls is None or not issubclass(cls, KeyedData):
        raise UserError(f"{_KEY}: {given['class_path']!r} is not allowed; allowed: data of sgdlit.data")
    own = {key: value for key, value in point.items() if f"{key}.".startswith(f"{_KEY}.")}
    parsed = apply(namespace({_KEY: given}), own, {_KEY: Option(LightningDataModule)})
    init_args = parsed.data.init_args
    if init_args.get("seed") is None:
        init_args.seed = point.get("seed_everything", config.get("seed_everything"))
    call_nothing_while_parsing()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(KeyedData, _KEY)
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # its name since 4.49
    try:
        data = instantiate(parser.parse_object(parsed.as_dict())).data
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{_KEY}: {given['class_path']} cannot be built: {error}") from error
    data.setup()
    return data
