"""Planes through networks: coordinates and directions against geometry that is known."""

import pytest
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.measures import plane_of_path, plane_through

ORIGIN = {"w": torch.tensor([[1.0, 2.0]]).double(), "b": torch.tensor([3.0]).double()}


def moved(*by: float) -> dict[str, torch.Tensor]:
    step = torch.tensor(by).double()
    return {"w": ORIGIN["w"] + step[:2].view(1, 2), "b": ORIGIN["b"] + step[2:]}


def at(plane, point: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: p + point[0] * plane.u[name] + point[1] * plane.v[name] for name, p in ORIGIN.items()}


def test_three_networks_lie_in_their_plane():
    others = [moved(2, 0, 0), moved(1, 0, 3)]
    found = plane_through(ORIGIN, *others)
    torch.testing.assert_close(found.points, torch.tensor([[0, 0], [1, 0], [0.5, 1.5]]).double())
    for point, network in zip(found.points, (ORIGIN, *others), strict=True):
        torch.testing.assert_close(at(found, point), network)
    assert sum(found.shares) == pytest.approx(1)


def test_the_plane_of_a_path_is_that_of_its_largest_deviations():
    path = [moved(3, 4, 1e-3), moved(4, -3, 0), moved(1, 1, 0), moved(0, 0, 0)]
    found = plane_of_path(ORIGIN, path)
    directions = torch.stack([torch.cat([part.flatten() for part in w.values()]) for w in (found.u, found.v)])
    torch.testing.assert_close(directions @ directions.T, torch.eye(2).double())
    apart = torch.tensor([[3, 4, 1e-3], [4, -3, 0], [1, 1, 0], [0, 0, 0]]).double()
    _, values, vectors = torch.linalg.svd(apart)
    torch.testing.assert_close(directions.abs(), vectors[:2].abs(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.points, apart @ directions.T)
    assert found.shares == pytest.approx(tuple((values**2 / (values**2).sum())[:2].tolist()))
    assert (found.points[0] >= 0).all()


def test_what_spans_no_plane_is_refused():
    with pytest.raises(UserError, match="lie on a line"):
        plane_through(ORIGIN, moved(1, 0, 0), moved(2, 0, 0))
    with pytest.raises(UserError, match="lie on a line"):
        plane_through(ORIGIN, ORIGIN, moved(2, 0, 0))
    for path in ([moved(1, 0, 0), ORIGIN], [moved(1, 0, 0), moved(2, 0, 0), ORIGIN]):
        with pytest.raises(UserError, match="span no plane"):
            plane_of_path(ORIGIN, path)
