"""A person's own arrays: what the network is given, how they are split, and every way to get a file wrong."""

import numpy as np
import pytest
import torch
from fake_trainer import attach

import sgdlit
from sgdlit.data.arrays import Arrays
from sgdlit.data.batches import Block
from sgdlit.foundations.errors import UserError

DRAWS = np.random.default_rng(0)
X, Y = DRAWS.normal(5, 3, (40, 4)), np.arange(40) % 4


@pytest.fixture
def write(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return str(tmp_path / "own.npz")

    return write


def ready(path, **given) -> Arrays:
    data = attach(Arrays(path, **{"batch_size": 2, **given}))
    data.setup()
    return data


def test_the_network_is_given_the_numbers_of_the_file(tmp_path):
    path = sgdlit.save_arrays(tmp_path / "own.npz", X, Y, X[:8] + 1, Y[:8])
    data = ready(str(path), order_seed=0)
    inputs, targets = data.tensors("test")
    assert torch.equal(inputs, torch.from_numpy(X[:8] + 1).float())
    assert torch.equal(targets, torch.from_numpy(Y[:8]))
    inputs, targets = data.tensors("train_set")
    rows = torch.from_numpy(X).float()
    assert all((rows[targets == c].unsqueeze(1) == inputs).all(-1).any(1).all() for c in range(4))
    assert ready(str(path), dtype="float64").tensors()[0].equal(torch.from_numpy(X[:8] + 1))


def test_bytes_are_pixels_and_whole_numbers_are_tokens(write):
    pixels = DRAWS.integers(0, 256, (40, 1, 3, 3), dtype=np.uint8)
    inputs, _ = ready(write(inputs=pixels, targets=Y, test_inputs=pixels, test_targets=Y)).tensors()
    assert torch.equal(inputs, torch.from_numpy(pixels).float() / 255)
    tokens = pixels.reshape(40, 9).astype(np.int32)
    inputs, _ = ready(write(inputs=tokens, targets=Y, test_inputs=tokens, test_targets=Y)).tensors()
    assert torch.equal(inputs, torch.from_numpy(tokens).long())


def test_standardised_against_numpy(write):
    x = np.concatenate([X, np.full((40, 1), 7.0)], 1)
    data = ready(write(inputs=x, targets=Y), test_size=10, standardised=True, dtype="float64")
    inputs, _ = data.tensors("train_set")
    assert torch.allclose(inputs.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(inputs.std(0, correction=0)[:4], torch.ones(4, dtype=torch.float64))
    assert torch.equal(inputs[:, 4], torch.zeros(30, dtype=torch.float64))
    as_stored = ready(write(inputs=x, targets=Y), test_size=10, dtype="float64")
    plain, test = (as_stored.tensors(split)[0].numpy() for split in ("train_set", "test"))
    std = np.where(plain.std(0) > 1e-9, plain.std(0), 1.0)
    np.testing.assert_allclose(data.tensors("test")[0].numpy(), (test - plain.mean(0)) / std, atol=1e-12)


def test_an_example_of_several_targets_is_one_of_the_set(write):
    """The largest number of all may stand anywhere in its row."""
    data = ready(write(inputs=X, targets=np.arange(120.0).reshape(40, 3)), test_size=8)
    inputs, targets = data.example()
    assert inputs.shape == (1, 4)
    assert targets.shape == (1, 3)


def test_test_examples_that_are_taken_from_the_pool_stay_the_same(write):
    path = write(inputs=X, targets=Y)
    first, second = ready(path, test_size=10, val_size=6), ready(path, test_size=10, train_size=8)
    assert torch.equal(first.tensors("test")[0], second.tensors("test")[0])
    everything = torch.cat([first.tensors(split)[0] for split in ("train_set", "val", "test")])
    assert torch.equal(everything.sort(0).values, torch.from_numpy(X).float().sort(0).values)


def test_tensors_from_python_are_what_a_file_would_be(write):
    path = write(inputs=X, targets=Y, test_inputs=X, test_targets=Y)
    memory = attach(Arrays.of(torch.from_numpy(X), torch.from_numpy(Y), X, Y, batch_size=2))
    memory.setup()
    for here, there in zip(memory.tensors("train_set"), ready(path).tensors("train_set"), strict=True):
        assert torch.equal(here, there)
    assert memory.state_dict()["arrays"] == ready(path).state_dict()["arrays"]
    assert memory.source != attach(Arrays.of(X, Y, X, Y[::-1].copy(), batch_size=2)).source


def test_a_run_does_not_go_on_with_other_arrays(write):
    state = ready(write(inputs=X, targets=Y), test_size=10).state_dict()
    with pytest.raises(UserError, match="other data"):
        ready(write(inputs=X + 1, targets=Y), test_size=10).load_state_dict(state)


def test_a_step_lies_in_memory_where_it_would_lie_in_a_block_of_its_own(write):
    """Products of matrices round by where they lie, and a resumed run ends with the same bits."""
    batches = ready(write(inputs=X[:, :3], targets=Y), test_size=10).batches(torch.device("cpu"))
    for start in range(4):
        for inputs, _ in Block(start, 5, [batches]).steps(slice(0, 1)):
            assert inputs.data_ptr() % 64 == 0


WRONG = {
    "inputs": ({"input": X, "targets": Y}, "no array 'inputs'; did you mean input"),
    "names": ({"x_train": X, "y_train": Y}, r"there are: x_train, y_train.*data\.names"),
    "length": ({"inputs": X, "targets": Y[:5]}, "inputs has 40 examples and targets has 5"),
    "objects": ({"inputs": X, "targets": np.array(["cat"] * 40, dtype=object)}, "it holds Python objects"),
    "words": ({"inputs": X, "targets": np.array(["cat"] * 40)}, "targets is of type <U3; allowed: numbers"),
    "nan": ({"inputs": np.where(X[3, 0] == X, np.nan, X), "targets": Y}, "inputs is not finite in example 3"),
    "flat": ({"inputs": X[:, 0], "targets": Y}, r"inputs has shape \[40\]; allowed: \[N, \.\.\.\]"),
    "empty": ({"inputs": X[:0], "targets": Y[:0]}, "none of them empty"),
    "signs": ({"inputs": X, "targets": Y - 1}, "the label -1; allowed: classes from 0 on"),
    "half a test": ({"inputs": X, "targets": Y, "test_inputs": X}, "test_inputs without test_targets"),
    "another test": (
        {"inputs": X, "targets": Y, "test_inputs": X[:, :3], "test_targets": Y},
        "test_inputs are float64 of shape 3, but inputs are float64 of shape 4",
    ),
    "no test": ({"inputs": X, "targets": Y}, r"has no test_inputs; allowed: data\.test_size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_a_sentence(name, write):
    arrays, words = WRONG[name]
    with pytest.raises(UserError, match=words):
        ready(write(**arrays))


def test_what_does_not_go_with_the_arrays_is_refused(write, tmp_path):
    path = write(inputs=X, targets=Y, test_inputs=X, test_targets=Y)
    for given, words in (
        ({"test_size": 5}, "has test examples; allowed: null"),
        ({"augment": True}, r"images \[N, C, H, W\]"),
        ({"classes": [0, 4]}, "there is no class 4; allowed: 0 to 3"),
        ({"names": {"input": "x"}}, "did you mean inputs"),
    ):
        with pytest.raises(UserError, match=words):
            ready(path, **given)
    with pytest.raises(UserError, match="the targets are no classes"):
        ready(write(inputs=X, targets=X), test_size=5, classes=[0, 1])
    (tmp_path / "own.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(UserError, match="cannot be read"):
        ready(str(tmp_path / "own.npz"))
    with pytest.raises(UserError, match=r"does not exist; did you mean .*own\.npz"):
        ready(str(tmp_path / "onw.npz"))
    with pytest.raises(UserError, match=r"ends in \.npz"):
        sgdlit.save_arrays(tmp_path / "own.csv", X, Y)
