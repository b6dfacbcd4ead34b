"""APOLLO against the numpy of its study, and where it has to be Adam."""

import numpy as np
import pytest
import torch

from sgdlit.algorithms.projected_adam import ProjectedAdam
from sgdlit.foundations.errors import UserError
from sgdlit.theory.gradient_scaling import AdamMoments, column_factors, tensor_factor

STEPS = 8


def gradient(step: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def steps_of(optimizer: torch.optim.Optimizer, p: torch.Tensor, steps: range) -> list[np.ndarray]:
    found = []
    for step in steps:
        p.grad = gradient(step, *p.shape)
        optimizer.step()
        found.append(p.detach().numpy().copy())
    return found


def matrix() -> torch.nn.Parameter:
    return torch.nn.Parameter(gradient(99, 12, 5))


@pytest.mark.parametrize("per_tensor", [False, True])
def test_steps_are_those_of_the_study(per_tensor):
    p, rank = matrix(), 1 if per_tensor else 3
    w, moments = p.detach().numpy().copy(), AdamMoments()
    optimizer = ProjectedAdam([p], lr=0.05, rank=rank, per_tensor=per_tensor, weight_decay=0.1, seed=7)
    projection = optimizer._projection(gradient(0, 12, 5), rank, 7, 0).numpy()
    factors = tensor_factor if per_tensor else column_factors
    for step, found in enumerate(steps_of(optimizer, p, range(STEPS))):
        g = gradient(step, 12, 5).numpy()
        seen = projection @ g
        w = (1 - 0.05 * 0.1) * w - 0.05 * g * factors(moments.adapted(seen), seen)
        np.testing.assert_allclose(found, w, rtol=1e-12)
    assert optimizer.state[p]["exp_avg"].shape == (rank, 5)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 2, 3)])
def test_what_is_not_projected_is_adam(shape):
    """Vectors, matrices with no more rows than the rank, and tensors of more dimensions."""
    p, q = (torch.nn.Parameter(gradient(99, *shape)) for _ in range(2))
    found = steps_of(ProjectedAdam([p], lr=0.01, rank=3), p, range(STEPS))
    expected = steps_of(torch.optim.Adam([q], lr=0.01), q, range(STEPS))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_projections_are_of_seed_and_place_and_have_the_variance_of_the_paper():
    one, other = ProjectedAdam([matrix()], seed=0), ProjectedAdam([matrix()], seed=1)
    many = torch.zeros(2000, 1, dtype=torch.float64)
    drawn = one._projection(many, 16, 0, 0)
    assert float(drawn.var()) == pytest.approx(1 / 16, rel=5 * (2 / drawn.numel()) ** 0.5)
    assert not torch.equal(drawn, other._projection(many, 16, 1, 0))
    assert not torch.equal(drawn, one._projection(many, 16, 0, 1))


def test_a_state_that_is_loaded_goes_on_alike():
    p, q = matrix(), matrix()
    whole = steps_of(ProjectedAdam([p]), p, range(STEPS))
    first = ProjectedAdam([q])
    steps_of(first, q, range(3))
    second = ProjectedAdam([q])
    second.load_state_dict(first.state_dict())
    assert np.array_equal(steps_of(second, q, range(3, STEPS))[-1], whole[-1])


def test_what_it_cannot_do_is_refused():
    for settings, words in (
        ({"rank": 0}, "rank: 0"),
        ({"lr": -1.0}, "lr: -1.0"),
        ({"betas": (0.9, 1.0)}, "betas"),
    ):
        with pytest.raises(UserError, match=f"optimizer.{words}"):
            ProjectedAdam([matrix()], **settings)
