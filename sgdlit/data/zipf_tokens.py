"""Sequences of tokens with the frequencies of Zipf's law, which a Markov chain makes predictable in part."""

from typing import Any

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.streams import Split, StreamData
from sgdlit.foundations.philox import derive_key, permutation, uniform


class ZipfTokens(StreamData):
    """Each token's successors, for the loss ``next_token``: inputs and targets int64 ``[n, length]``.

    The first token of a sequence has probability ∝ 1/rank, rank = token + 1. With probability
    ``predictability`` the next one is π(token), π a fixed permutation; else it is drawn anew. Target i is the
    token after input i. Frequent and rare tokens make the gradients of an embedding's rows as different as
    those of words do.

    Args:
        vocabulary: number of tokens, at least 2.
        length: of a sequence, targets apart.
        predictability: probability that π decides.
        teacher_seed: a seed for π alone; None takes ``data_seed``.
        stream: see :class:`StreamData`.

    Raises:
        UserError: fewer than two tokens, a length below 1, a probability outside 0 … 1.
    """

    key_name = "Zipf tokens"
    small = ({"vocabulary": 40, "length": 24},)

    def __init__(
        self,
        vocabulary: int = 512,
        length: int = 16,
        predictability: float = 0.7,
        teacher_seed: int | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(vocabulary >= 2, "vocabulary", vocabulary, "2 or more")
        require(length >= 1, "length", length, "1 or more")
        require(0 <= predictability <= 1, "predictability", predictability, "0 to 1")
        self.vocabulary, self.length, self.predictability = vocabulary, length, predictability
        self.teacher_seed = self.data_seed if teacher_seed is None else teacher_seed
        key = derive_key(self.teacher_seed, f"{self.key_name} teacher")
        self.successor = permutation(key, vocabulary)
        weights = 1 / torch.arange(1, vocabulary + 1, dtype=torch.float64)
        self.frequencies = weights / weights.sum()

    @property
    def draws_per_example(self) -> int:
        return 2 * (self.length + 1)

    def describe(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "length": self.length,
            "predictability": self.predictability,
            "teacher_seed": self.teacher_seed,
        }

    def example(self) -> Batch:
        """That with the highest token among the targets of the first examples."""
        inputs, targets = self.draw("train", torch.arange(64))
        place = int(targets.amax(1).argmax())
        return inputs[place : place + 1], targets[place : place + 1]

    def draw(self, split: Split, index: Tensor) -> Batch:
        drawn = uniform(self.key(split), index, self.draws_per_example, dtype=torch.float64)
        fresh, decides = drawn.split(self.length + 1, -1)
        ends = self.frequencies.cumsum(0)[:-1].to(index.device)
        tokens = torch.searchsorted(ends, fresh.contiguous(), right=True)
        follows, successor = decides < self.predictability, self.successor.to(index.device)
        for place in range(1, self.length + 1):
            after = successor[tokens[:, place - 1]]
            tokens[:, place] = torch.where(follows[:, place], after, tokens[:, place])
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
