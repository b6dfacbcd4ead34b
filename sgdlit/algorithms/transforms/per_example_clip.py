"""Clipping of the gradient of every example, with error feedback and noise."""

import torch
from torch import Tensor

from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal


def clipped(vectors: Tensor, threshold: float) -> Tensor:
    """v·min(1, C/‖v‖) of vectors ``[..., P]``."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (threshold / lengths.clamp_min(threshold))


def standard_noise(seed: int, step: int, like: Tensor) -> Tensor:
    """n ~ N(0, I) of a step, of the shape of ``like``."""
    key = derive_key(seed, "gradient transform noise")
    place = torch.tensor([step], device=like.device)
    return normal(key, place, like.numel(), dtype=like.dtype).reshape(like.shape)


class PerExampleClip(GradientTransform):
    """v = mean_i clip(g_i, C₁) + clip(e, C₂), e ← e + mean_i g_i − v; the optimizer receives v + σC₁/B·n, n
    ~ N(0, I).

    Without the feedback e it is that of DP-SGD (Abadi et al. 2016, 1607.00133), whose stationary point is
    not that of the loss; e repairs that (Zhang et al. 2023, 2311.14632). No privacy is
    accounted for
    here: ``sgdlit.theory.privacy`` does that for the first.

    Args:
        threshold: C₁.
        feedback_threshold: C₂, at least C₁, or e would grow without bound; None for no feedback.
        noise: σ.
        batch_size: B, by which sums over examples are divided; None divides by their number, which a Poisson
            order lets vary.
        seed: of the noise; None takes the run's ``seed_everything``.

    Raises:
        UserError: a threshold that is not above 0, C₂ below C₁, a negative σ, B below 1.
    """

    needs_each = True
    small = (
        {"threshold": 0.3},
        {"threshold": 0.3, "feedback_threshold": 0.9, "noise": 1.0, "seed": 3},
        {"threshold": 0.3, "batch_size": 4},
    )

    def __init__(
        self,
        threshold: float,
        feedback_threshold: float | None = None,
        noise: float = 0.0,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        if not 0 < threshold < float("inf"):
            raise UserError(
                f"model.transform.threshold: {threshold} is not possible; allowed: a number above 0"
            )
        if feedback_threshold is not None and not threshold <= feedback_threshold < float("inf"):
            raise UserError(
                f"model.transform.feedback_threshold: {feedback_threshold} is below threshold: "
                f"{threshold}, so that "
                "the error would grow without bound; allowed: threshold or more, or null"
            )
        if not 0 <= noise < float("inf"):
            raise UserError(
                f"model.transform.noise: {noise} is not possible; allowed: a number from 0 upwards"
            )
        if batch_size is not None and batch_size < 1:
            raise UserError(f"model.transform.batch_size: {batch_size} is not possible; allowed: 1 or more")
        self.threshold, self.feedback_threshold, self.noise = threshold, feedback_threshold, noise
        self.batch_size, self.seed = batch_size, 0 if seed is None else seed

    def start(self, parameters: Tensor) -> State:
        return {} if self.feedback_threshold is None else {"error": torch.zeros_like(parameters)}

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        gradients, divisor = examples.each(), self.batch_size or examples.count
        sent = clipped(gradients, self.threshold).sum(-2) / divisor
        if self.feedback_threshold is not None:
            sent = sent + clipped(state["error"], self.feedback_threshold)
            state = {"error": state["error"] + gradients.sum(-2) / divisor - sent}
        if self.noise:
            sent = sent + self.noise * self.threshold / divisor * standard_noise(self.seed, step, sent)
        return sent, state
