"""What keys of the config, and logged numbers, are called on axes, in legends and in captions."""

SYMBOLS = {
    "lr": "ε",
    "reg_strength": "λ",
    "batch_size": "B",
    "repeats": "n",
    "train_size": "N",
    "shard_size": "N",
    "gamma": "γ",
    "momentum": "β",
}
"""The symbol of a key, by its last part."""
_KEYS = {
    "model.optimizer.lr": "learning rate ε",
    "model.reg_strength": "regularization strength λ",
    "data.batch_size": "batch size B (examples)",
    "data.repeats": "steps per minibatch n",
    "data.gamma": "target scale γ",
    "seed_everything": "seed",
}
_SPLITS = {"train": "training", "val": "validation", "test": "test", "measure": ""}
_METRICS = {
    "train/C_reg": "C_reg of the minibatch",
    "train/lr": "learning rate ε",
    "train/reg_strength": "regularization strength λ",
}


def key_in_words(key: str) -> str:
    """The name of an axis that shows a key: ``learning rate ε``, or its last part, ``label noise``."""
    return _KEYS.get(key, key.rpartition(".")[2].replace("_", " "))


def symbol(key: str) -> str:
    """``ε`` for ``model.optimizer.lr``; the last part of a key that has no symbol."""
    last = key.rpartition(".")[2]
    return SYMBOLS.get(last, last.replace("_", " "))


def metric_in_words(name: str) -> str:
    """``test accuracy`` for ``test/accuracy``; a name of another form as it is, without strokes."""
    split, slash, rest = name.partition("/")
    if name in _METRICS or not slash:
        return _METRICS.get(name, name.replace("_", " "))
    rest = rest.replace("_", " ").replace("/", " ").replace("C reg", "C_reg")
    return " ".join(filter(None, (_SPLITS.get(split, split), rest)))
