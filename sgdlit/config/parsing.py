"""How configs are parsed: nothing that a value names is called meanwhile."""

from functools import cache

from jsonargparse import set_parsing_settings


@cache
def call_nothing_while_parsing() -> None:
    """A class path under a key of any type stays plain data; what runs commands may not be named at all."""
    set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=["subprocess"])
