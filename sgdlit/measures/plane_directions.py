"""Planes through networks that there are: three of them, or the path that training takes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations.arguments import require_some
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Parameters


class Plane(NamedTuple):
    """θ + αu + βv, and where some networks lie in it.

    Attributes:
        u: by the name of a parameter.
        v: by the name of a parameter, orthogonal to u.
        points: α and β of each network, or of its projection onto the plane, float64 ``[k, 2]``.
        shares: of the squared distances of the networks from θ, how much lies along u, and along v.
    """

    u: dict[str, Tensor]
    v: dict[str, Tensor]
    points: Tensor
    shares: tuple[float, float]


def plane_through(origin: Parameters, second: Parameters, third: Parameters) -> Plane:
    """The plane of three networks: u = θ₂ − θ₁, v orthogonal to it and of its length (Garipov et al. 2018,
    1802.10026, appendix). The networks have the coordinates (0, 0), (1, 0) and (a, b).

    Args:
        origin: θ₁, by name.
        second: θ₂.
        third: θ₃.

    Raises:
        UserError: three that lie on a line.
    """
    apart = _apart(origin, [second, third])
    length = float(apart[0].norm())
    along = float(apart[0] @ apart[1]) / length**2 if length else 0.0
    left = apart[1] - along * apart[0]
    if not length or float(left.norm()) <= 1e-6 * float(apart[1].norm()):
        raise UserError("plane: the three networks lie on a line; allowed: three that span a plane")
    v = left * (length / float(left.norm()))
    return _plane(origin, apart[0], v, torch.cat((torch.zeros_like(apart[:1]), apart)))


def plane_of_path(origin: Parameters, path: Sequence[Parameters]) -> Plane:
    """The plane through θ in which networks lie as far from it as in any: u and v are unit vectors along the
    first two principal directions of θ_t − θ (Li et al. 2018, 1712.09913, section 7.2).

    Args:
        origin: θ, by name: the end of training.
        path: θ_t, three or more with that of θ.

    Raises:
        UserError: too few, or all on a line.
    """
    require_some("path", path)
    apart = _apart(origin, path)
    values, vectors = torch.linalg.eigh(apart @ apart.T)  # few networks, many parameters
    if len(path) < 3 or not float(values[-2]) > 1e-12 * float(values[-1]):
        raise UserError(
            f"plane: {len(path)} networks of the path span no plane; allowed: three or more that do not lie "
            "on a line"
        )
    signs = torch.where(vectors[0] < 0, -1.0, 1.0).double()  # the first network has positive coordinates
    u, v = (signs[-k] * vectors[:, -k] @ apart / values[-k].sqrt() for k in (1, 2))
    return _plane(origin, u, v, apart)


def _apart(origin: Parameters, others: Sequence[Parameters]) -> Tensor:
    """θ_t − θ in one vector each, float64 ``[k, P]``."""
    return torch.stack(
        [torch.cat([(one[n].double() - p.double()).flatten() for n, p in origin.items()]) for one in others]
    )


def _plane(origin: Parameters, u: Tensor, v: Tensor, apart: Tensor) -> Plane:
    points = torch.stack((apart @ u / (u @ u), apart @ v / (v @ v)), 1)
    whole = float(apart.square().sum())
    shares = [float((points[:, k].square() * (w @ w)).sum()) / whole for k, w in enumerate((u, v))]
    return Plane(_named(origin, u), _named(origin, v), points, (shares[0], shares[1]))


def _named(like: Parameters, vector: Tensor) -> dict[str, Tensor]:
    parts = vector.split([p.numel() for p in like.values()])
    return {name: part.view_as(p).to(p) for (name, p), part in zip(like.items(), parts, strict=True)}
