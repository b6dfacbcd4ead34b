"""No bit of what is sealed can change without being noticed, and changes nothing where it is not."""

import json

import numpy as np
import pytest

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.seals import BrokenSeal, sealed, unsealed
from sgdlit.measures.array_files import load, write_about, write_array

CONTENT = {
    "state": "finished",
    "step": 20,
    "test/loss": 0.1,
    "members": [{"point": {"lr": 0.5}, "bad": None}],
}


def flips(content: bytes):
    """Every content that differs in one bit."""
    for k in range(8 * len(content)):
        changed = bytearray(content)
        changed[k // 8] ^= 1 << k % 8
        yield bytes(changed)


def test_every_bit_of_a_sealed_file_counts():
    text = json.dumps(sealed(CONTENT)).encode()
    assert unsealed(json.loads(text)) == CONTENT
    for changed in flips(text):
        try:
            found = unsealed(json.loads(changed))
        except ValueError:  # of JSON, of the encoding, or of the seal
            continue
        assert found == CONTENT


def test_without_a_seal_it_is_somebodys_own_or_none():
    assert unsealed(CONTENT, by_hand=True) == CONTENT
    for content in (CONTENT, [], None, {**sealed(CONTENT), "step": 21}):
        with pytest.raises(BrokenSeal):
            unsealed(content)
    with pytest.raises(BrokenSeal):
        unsealed({**sealed(CONTENT), "step": 21}, by_hand=True)


def test_every_bit_of_an_array_counts_and_numpy_reads_it(tmp_path):
    write_about(tmp_path, "norms", {"formula": "x"})
    array = np.arange(3.0)
    write_array(tmp_path, "norms", 5, None, array)
    path = tmp_path / "measures" / "norms" / "step_000000005.npy"
    assert (np.load(path) == array).all()
    assert (load(tmp_path)["norms"].values == array).all()
    whole = path.read_bytes()
    for changed in [*flips(whole), whole[:-1], whole[:-16], b""]:
        path.write_bytes(changed)
        with pytest.raises(UserError, match="cut off, or changed"):
            load(tmp_path)
    path.write_bytes(whole)
    about = path.with_name("about.json")
    about.write_text(about.read_text().replace('"x"', '"y"'))
    with pytest.raises(UserError, match="not what a measure wrote"):
        load(tmp_path)
