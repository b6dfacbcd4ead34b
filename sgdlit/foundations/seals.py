"""A digest inside a JSON file: whatever has changed since the program wrote it is noticed when it is read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "seal"


class BrokenSeal(ValueError):
    """The content is another than that which was sealed."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content, and last its digest."""
    return {**content, _SEAL: _digest(content)}


def unsealed(content: Any, by_hand: bool = False) -> dict[str, Any]:
    """The content without its seal.

    Args:
        content: what was read.
        by_hand: whether one without a seal is taken as it is: somebody wrote it.

    Raises:
        BrokenSeal: it is no mapping, the seal is missing, or that of other content.
    """
    if not isinstance(content, dict):
        raise BrokenSeal("is no mapping")
    own = {name: value for name, value in content.items() if name != _SEAL}
    if by_hand and _SEAL not in content:
        return own
    if _SEAL not in content:
        raise BrokenSeal("has no seal: something else, or an earlier version, wrote it")
    if content[_SEAL] != _digest(own):
        raise BrokenSeal("has changed since it was written")
    return own


def _digest(content: Mapping[str, Any]) -> str:
    """Of what a JSON file holds of the content, whatever the order of its keys."""
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
