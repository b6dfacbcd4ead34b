"""Groups of parameters: every optimizer moves each as one that was given these groups by hand."""

import copy

import pytest
import torch
from cases import RULES
from torch import nn

from sgdlit.algorithms import Member
from sgdlit.algorithms.parameter_groups import ParameterGroup, assigned, matching
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP
from sgdlit.objectives import CrossEntropy

NAMES = ["layers.1.weight", "layers.1.bias", "layers.3.weight", "layers.3.bias", "head.weight"]
GROUPS = {
    "still": ParameterGroup("layers.1.weight", frozen=True),
    "biases": ParameterGroup("*.bias", rate=3.0),
}


def test_a_pattern_is_a_name_a_beginning_or_has_stars():
    assert matching(["layers.1"], NAMES, "key") == NAMES[:2]
    assert matching(["*.bias", "head"], NAMES, "key") == [NAMES[1], NAMES[3], NAMES[4]]
    assert matching(["layers.[12].*"], NAMES, "key") == NAMES[:2]
    assert matching(["layers"], NAMES, "key") == NAMES[:4]
    for wrong in ("layer.1", "lay", "layers.1.", "bias"):
        with pytest.raises(UserError, match=rf"key: '{wrong}' matches no parameter"):
            matching([wrong], NAMES, "key")


def gradients(network: nn.Module, step: int) -> None:
    draws = torch.Generator().manual_seed(step)
    for p in network.parameters():
        drawn = torch.randn(p.shape, generator=draws, dtype=p.dtype)
        p.grad = drawn if p.requires_grad else None


def foreign() -> list[type[torch.optim.Optimizer]]:
    return [torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.Adafactor]


@pytest.mark.parametrize("kind", [*RULES, *foreign()], ids=lambda kind: kind.__name__)
def test_each_group_moves_as_in_an_optimizer_that_was_given_it(kind):
    torch.manual_seed(0)
    network = MLP([4, 5, 3]).double()
    other = copy.deepcopy(network)
    member = Member(network, CrossEntropy(), lambda ps: kind(ps, lr=0.01), groups=GROUPS)
    rest, biases = [[p for n, p in other.named_parameters() if n in names]
                    for names in (("layers.3.weight",), ("layers.1.bias", "layers.3.bias"))]  # fmt: skip
    by_hand = kind([{"params": rest}, {"params": biases, "lr": 0.03}], lr=0.01)
    for step in range(4):
        gradients(network, step)
        gradients(other, step)
        member.optimizer.step()
        by_hand.step()
    for (name, p), q in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert not network.layers[1].weight.requires_grad
    assert member.lr == 0.01


def test_decay_is_that_of_the_group():
    network = MLP([4, 5, 3])
    groups = {"biases": ParameterGroup("*.bias", decay=0.0)}
    make = lambda ps: torch.optim.SGD(ps, lr=0.1, weight_decay=0.5)  # noqa: E731
    member = Member(network, CrossEntropy(), make, groups=groups)
    before = [p.detach().clone() for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    member.optimizer.step()
    for (name, p), old in zip(network.named_parameters(), before, strict=True):
        assert torch.allclose(p, old if name.endswith("bias") else (1 - 0.1 * 0.5) * old)


def test_the_first_group_that_matches_has_the_parameter():
    groups = {"one": ParameterGroup("layers.1"), "all": ParameterGroup("*", rate=2.0)}
    found = assigned(MLP([4, 5, 3]), groups)
    assert found == {None: [], "one": NAMES[:2], "all": NAMES[2:4]}
    schedule = lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5)  # noqa: E731
    member = Member(
        MLP([4, 5, 3]), CrossEntropy(), lambda ps: torch.optim.SGD(ps, lr=0.1), schedule,
        groups={"all": ParameterGroup("*", rate=2.0)},
    )  # fmt: skip
    assert member.scheduler is not None
    assert member.optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    assert member.lr == pytest.approx(0.1)
    member.advance_schedule()
    assert member.lr == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"a": ParameterGroup("*", frozen=True)}, "all parameters are frozen"),
        (
            {"a": ParameterGroup("*"), "b": ParameterGroup("layers.1")},
            r"model\.groups\.b\.match: 'layers\.1'",
        ),
        ({"a": ParameterGroup("*", rate=-1.0)}, r"model\.groups\.a\.rate: -1\.0"),
        ({"a": ParameterGroup("*", rate=float("nan"))}, r"model\.groups\.a\.rate: nan"),
        (
            {"a": ParameterGroup("layers.1", frozen=True, rate=2.0)},
            r"model\.groups\.a\.frozen: true with a rate",
        ),
        ({"a": ParameterGroup("layer.1")}, r"did you mean layers\.1"),
    ],
)
def test_groups_that_are_not_possible(groups, words):
    with pytest.raises(UserError, match=words):
        Member(MLP([4, 5, 3]), CrossEntropy(), groups=groups)


def test_an_optimizer_without_the_setting_is_named():
    member = Member(
        MLP([4, 5, 3]), CrossEntropy(), lambda ps: torch.optim.Rprop(ps, lr=0.1),
        groups={"a": ParameterGroup("*.bias", decay=0.1)},
    )  # fmt: skip
    with pytest.raises(UserError, match="Rprop has no weight_decay; allowed: groups without a decay"):
        _ = member.optimizer
