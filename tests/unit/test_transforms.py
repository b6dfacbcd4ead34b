"""Gradient transforms: against formulas written out, and what all of them have in common."""

import copy
import math

import pytest
import torch
from cases import PROBLEMS, TRANSFORMS
from engine_runs import batches, machine, member, sgd, train

from sgdlit.algorithms import EngineGroup
from sgdlit.algorithms.transforms import (
    AdaptiveK,
    BoundedNoise,
    CoordinateClip,
    Examples,
    PerClassNormalisation,
    PerExampleClip,
    TopShare,
    TransformOfRun,
)
from sgdlit.algorithms.transforms.base import check_separable
from sgdlit.data.batches import Block
from sgdlit.data.grab import GraB
from sgdlit.data.teachers import MLPTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP

SEPARABLE = [name for name in PROBLEMS if not name.startswith("batchnorm")]


def drawn(n=7, p=5, runs=(), seed=0):
    """Examples with known gradients, float64."""
    g = torch.Generator().manual_seed(seed)
    losses = torch.rand(*runs, n, generator=g, dtype=torch.float64)
    gradients = torch.randn(*runs, n, p, generator=g, dtype=torch.float64)
    parameters = torch.randn(*runs, p, generator=g, dtype=torch.float64)
    targets = torch.arange(n).expand(*runs, n) % 3
    return Examples.of_gradients(losses, targets, parameters, gradients)


@pytest.mark.parametrize("name", SEPARABLE)
def test_what_a_transform_sees_of_a_network_are_its_gradients(name):
    """Against one backward pass for each example."""
    problem = PROBLEMS[name]
    network = problem.network()
    parameters = [p for p in network.parameters() if p.requires_grad]
    examples, outputs = Examples.of_network(network, problem.loss, problem.inputs, problem.targets)
    expected = []
    for x, y in zip(problem.inputs.split(1), problem.targets.split(1), strict=True):
        each = torch.autograd.grad(problem.loss(network(x), y), parameters)
        expected.append(torch.cat([g.flatten() for g in each]))
    expected = torch.stack(expected)
    torch.testing.assert_close(examples.each(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(examples.mean_gradient(), expected.mean(0), rtol=1e-9, atol=1e-12)
    weights = torch.tensor([0.0, 1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(examples.weighted(weights), weights @ expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(outputs, network(problem.inputs).detach())
    assert not examples.losses.requires_grad


@pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_same_call_gives_the_same_and_changes_nothing(make):
    transform, examples = make(), drawn()
    state = transform.start(examples.parameters)
    for step in range(4):
        before = copy.deepcopy((state, examples.each(), examples.parameters))
        first, after = transform(examples, state, step)
        second, again = transform(examples, state, step)
        torch.testing.assert_close((first, after), (second, again), rtol=0, atol=0)
        torch.testing.assert_close((state, examples.each(), examples.parameters), before, rtol=0, atol=0)
        assert first.shape == examples.parameters.shape
        assert first.isfinite().all()
        state = after


@pytest.mark.parametrize("make", [m for n, m in TRANSFORMS.items() if "noise" not in n], ids=lambda m: "")
def test_runs_side_by_side_are_those_runs_alone(make):
    several = drawn(runs=(3,))
    alone = [
        Examples.of_gradients(several.losses[k], several.targets[k], several.parameters[k], several.each()[k])
        for k in range(3)
    ]
    transform = make()
    together, state = transform(several, transform.start(several.parameters), 5)
    for k, own in enumerate(alone):
        gradient, after = transform(own, transform.start(own.parameters), 5)
        torch.testing.assert_close(together[k], gradient, rtol=1e-12, atol=1e-14)
        for name, value in after.items():
            torch.testing.assert_close(state[name][k], value, rtol=1e-12, atol=1e-14)


def test_clipping_is_the_mean_of_shortened_gradients():
    examples = drawn()
    lengths = examples.each().norm(dim=1)
    threshold = float(lengths.median())
    shortened = [g * min(1.0, threshold / float(g.norm())) for g in examples.each()]
    found, _ = PerExampleClip(threshold)(examples, {}, 0)
    torch.testing.assert_close(found, torch.stack(shortened).mean(0), rtol=1e-12, atol=0)
    halved, _ = PerExampleClip(threshold, batch_size=14)(examples, {}, 0)
    torch.testing.assert_close(halved, found / 2, rtol=1e-12, atol=0)
    whole, _ = PerExampleClip(100.0)(examples, {}, 0)
    torch.testing.assert_close(whole, examples.each().mean(0), rtol=1e-12, atol=0)


def test_what_feedback_holds_back_is_what_was_not_sent():
    """Σ_t v_t + e_T = Σ_t mean g_t, and every v_t is at most C₁ + C₂ long; the noise stays out of e."""
    for noise in (0.0, 2.0):
        transform, state = PerExampleClip(0.2, 0.5, noise), {"error": torch.zeros(5, dtype=torch.float64)}
        clean, sent, seen = PerExampleClip(0.2, 0.5), 0.0, 0.0
        for step in range(20):
            examples = drawn(seed=step)
            v, _ = clean(examples, state, step)
            _, state = transform(examples, state, step)
            assert float(v.norm()) <= 0.7
            sent, seen = sent + v, seen + examples.mean_gradient()
        torch.testing.assert_close(sent + state["error"], seen, rtol=1e-12, atol=1e-12)


def test_noise_has_its_size_and_is_another_at_every_step():
    p, examples = 20_000, None
    zero = torch.zeros(p, dtype=torch.float64)
    examples = Examples.of_gradients(
        torch.ones(4, dtype=torch.float64), torch.zeros(4), zero, zero.expand(4, p)
    )
    noisy = PerExampleClip(0.5, noise=3.0, seed=1)
    first, second = (noisy(examples, {}, step)[0] for step in (0, 1))
    scale = 3.0 * 0.5 / 4
    for drawn_noise in (first, second):
        assert float(drawn_noise.std()) == pytest.approx(scale, rel=5 / math.sqrt(2 * p))
    assert abs(float(first @ second)) / p < 5 * scale**2 / math.sqrt(p)
    assert not torch.equal(PerExampleClip(0.5, noise=3.0, seed=2)(examples, {}, 0)[0], first)


def test_noise_in_proportion_to_a_bound_is_that_of_a_clip_that_clips_nothing():
    examples = drawn()
    longest = float(examples.each().norm(dim=-1).max())
    for batch_size in (None, 7):
        bounded = BoundedNoise(2 * longest, 0.5, batch_size, seed=4)(examples, {}, 3)[0]
        clip = PerExampleClip(2 * longest, noise=0.5, batch_size=batch_size, seed=4)
        torch.testing.assert_close(bounded, clip(examples, {}, 3)[0], rtol=1e-12, atol=0)


def test_every_class_has_the_same_length():
    examples = drawn()
    parts = [examples.each()[examples.targets == c].mean(0) for c in range(3)]
    expected = sum(g / g.norm() for g in parts) / 3
    found, _ = PerClassNormalisation(3)(examples, {}, 0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    lacking = Examples.of_gradients(
        examples.losses, examples.targets % 2, examples.parameters, examples.each()
    )
    parts = [examples.each()[examples.targets % 2 == c].mean(0) for c in range(2)]
    found, _ = PerClassNormalisation(4)(lacking, {}, 0)
    torch.testing.assert_close(found, sum(g / g.norm() for g in parts) / 4, rtol=1e-12, atol=0)
    nothing = Examples.of_gradients(
        examples.losses, examples.targets, examples.parameters, torch.zeros_like(examples.each())
    )
    assert not PerClassNormalisation(3)(nothing, {}, 0)[0].any()
    with pytest.raises(UserError, match=r"classes: 2, but a batch has 3"):
        PerClassNormalisation(2)(examples, {}, 0)


def test_classes_are_those_that_the_network_tells_apart():
    """Told before a run, so that no batch has to lack or exceed a class first."""
    label = torch.tensor([2])
    PerClassNormalisation(3).check(torch.zeros(1, 3), label)
    PerClassNormalisation(2).check(torch.zeros(1, 1), torch.tensor([-1.0]))
    for classes in (2, 4):
        with pytest.raises(UserError, match=f"classes: {classes}, but the network tells 3 classes apart"):
            PerClassNormalisation(classes).check(torch.zeros(1, 3), label)
    for targets in (torch.tensor([0.3]), torch.zeros(1, 4)):
        with pytest.raises(UserError, match="needs one label per example"):
            PerClassNormalisation(2).check(torch.zeros(1, 1), targets)


def test_adaptive_k_is_its_recursion():
    transform, m, v, dropped = AdaptiveK(plain_steps=2), 0.0, 0.0, 0
    state = transform.start(drawn().parameters)
    for step in range(6):
        examples = drawn(seed=step)
        losses = examples.losses * 8
        examples = Examples.of_gradients(losses, examples.targets, examples.parameters, examples.each())
        found, state = transform(examples, state, step)
        if step < 2:
            torch.testing.assert_close(found, examples.mean_gradient())
            continue
        mean = float(losses.mean())
        m, v = 0.9 * m + 0.1 * mean, 0.999 * v + 0.001 * mean**2
        threshold = m / (math.sqrt(v) + 1e-8)
        if step == 2:
            assert threshold == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-6)
        kept = examples.each()[losses <= threshold]
        dropped += 7 - len(kept)
        torch.testing.assert_close(found, kept.mean(0), rtol=1e-12, atol=1e-14)
    assert 0 < dropped < 28
    none = Examples.of_gradients(losses + 100, examples.targets, examples.parameters, examples.each())
    assert not AdaptiveK()(none, transform.start(none.parameters), 0)[0].any()


def test_coordinates_are_cut_at_the_largest_that_is_left():
    examples = drawn(p=10)
    gradient = examples.mean_gradient()
    order = gradient.abs().sort().values
    found, _ = CoordinateClip(0.3)(examples, {}, 0)
    torch.testing.assert_close(found, gradient.sign() * gradient.abs().clamp(max=order[6]), rtol=0, atol=0)
    torch.testing.assert_close(CoordinateClip(0.0)(examples, {}, 0)[0], gradient, rtol=0, atol=0)


def test_the_top_share_is_of_the_weights_of_all_tensors_and_biases_are_free():
    network = MLP([4, 6, 3]).double()
    loss = PROBLEMS["MLP, cross_entropy of classes"].loss
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    examples, _ = Examples.of_network(network, loss, x, y)
    found, _ = TopShare(0.25)(examples, {}, 0)
    parts = dict(zip((n for n, _ in network.named_parameters()), found.split([24, 6, 18, 3]), strict=True))
    gradients = dict(zip(parts, torch.autograd.grad(loss(network(x), y), network.parameters()), strict=True))
    weights = {n: (p * gradients[n]).abs() for n, p in network.named_parameters() if p.dim() > 1}
    least = (
        torch.cat([w.flatten() for w in weights.values()]).sort(descending=True).values[round(0.25 * 42) - 1]
    )
    for name, part in parts.items():
        expected = gradients[name] * (weights[name] >= least) if name in weights else gradients[name]
        torch.testing.assert_close(part, expected.flatten(), rtol=1e-12, atol=1e-15)


def test_a_step_that_is_asked_for_again_starts_where_it_did():
    """As optimizers do that evaluate a closure several times, and as logging looks at a step."""
    run, once = (TransformOfRun(PerExampleClip(0.2, 0.5)) for _ in range(2))
    for step in range(5):
        run.gradient(drawn(seed=step), step, keep=False)
        first = run.gradient(drawn(seed=step), step)
        torch.testing.assert_close(run.gradient(drawn(seed=step), step), first, rtol=0, atol=0)
        torch.testing.assert_close(once.gradient(drawn(seed=step), step), first, rtol=0, atol=0)
    resumed = TransformOfRun(PerExampleClip(0.2, 0.5))
    resumed.load_state_dict(run.state_dict())
    expected = once.gradient(drawn(seed=9), 5)
    torch.testing.assert_close(resumed.gradient(drawn(seed=9), 5), expected, rtol=0, atol=0)


def teacher(**given):
    return MLPTeacher([6, 8, 3], labels="hard", steps=12, batch_size=5, dtype="float64", **given)


def test_a_run_receives_what_its_transform_says():
    """Against a loop by hand, for two runs that train together and under momentum."""
    data = [batches(teacher(seed=k)) for k in range(2)]
    runs = [
        member(
            lambda: MLP([6, 7, 3]),
            seed=k,
            optimizer=sgd(0.1, momentum=0.9),
            transform=PerExampleClip(0.1, 0.4),
        )
        for k in range(2)
    ]
    by_hand = [copy.deepcopy(run.network) for run in runs]
    _, _, engines = train("auto", runs, data, [3, 7, 12])
    assert engines.name == "loop"
    for k, network in enumerate(by_hand):
        optimizer, state = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), None
        transform = PerExampleClip(0.1, 0.4)
        for step in range(12):
            x, y = data[k].batch(step, slice(0, 5))
            examples, _ = Examples.of_network(network, runs[0].loss, x, y)
            state = transform.start(examples.parameters) if state is None else state
            gradient, state = transform(examples, state, step)
            sizes = [p.numel() for p in network.parameters()]
            for p, g in zip(network.parameters(), gradient.split(sizes), strict=True):
                p.grad = g.reshape(p.shape)
            optimizer.step()
        for p, q in zip(network.parameters(), runs[k].network.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("engine", ["stacked", "compiled", "fused"])
def test_engines_that_know_no_examples_refuse(engine):
    run = member(lambda: MLP([6, 7, 3]), transform=AdaptiveK())
    group = EngineGroup([run], engine, machine())
    with pytest.raises(UserError, match="AdaptiveK changes the gradient"):
        group.run(Block(0, 1, [batches(teacher())]))


def test_grab_visits_what_the_gradients_of_the_last_epoch_ask_for():
    """Against the algorithm of Lu, Guo & De Sa 2022 by hand, with B = 4 and a short last minibatch."""
    data = teacher(shard_size=10, order=GraB(), last_batch="short").__class__(
        [6, 8, 3], labels="hard", steps=12, batch_size=4, shard_size=10, order=GraB(), last_batch="short",
        dtype="float64",
    )  # fmt: skip
    own = batches(data)
    run = member(lambda: MLP([6, 7, 3]), optimizer=sgd(0.2))
    run.learn = data.visits.learn
    network = copy.deepcopy(run.network)
    expected_order = (
        data.visits.indices(0).tolist() + data.visits.indices(1).tolist() + data.visits.indices(2).tolist()
    )
    x, y = data.examples("train_set", torch.device("cpu")).take(torch.arange(10))
    mean = 0.0
    for epoch in range(4):
        prefix, total, front, back, order = 0.0, 0.0, [], [], list(expected_order)
        for k in range(3):
            chosen = order[4 * k : 4 * k + 4]
            each = []
            for i in chosen:
                gradients = torch.autograd.grad(
                    run.loss(network(x[i : i + 1]), y[i : i + 1]), network.parameters()
                )
                each.append(torch.cat([g.flatten() for g in gradients]))
            for i, g in zip(chosen, each, strict=True):
                c = g - mean
                plus = torch.linalg.vector_norm(prefix + c) <= torch.linalg.vector_norm(prefix - c)
                prefix = prefix + c if plus else prefix - c
                (front if plus else back).append(i)
            total = total + sum(each)
            step = torch.stack(each).mean(0).split([p.numel() for p in network.parameters()])
            with torch.no_grad():
                for p, g in zip(network.parameters(), step, strict=True):
                    p -= 0.2 * g.reshape(p.shape)
        mean, expected_order = total / 10, front + back[::-1]
        engines = EngineGroup([run], "auto", machine())
        engines.run(Block(3 * epoch, 3, [own]))
        assert sorted(expected_order) == list(range(10))
        found = [i for step in range(3) for i in data.visits.indices(3 * (epoch + 1) + step).tolist()]
        assert found == expected_order
    with pytest.raises(RuntimeError, match="epoch 9 is not known"):
        data.visits.indices(27)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PerExampleClip(0.0), r"threshold: 0\.0"),
        (lambda: PerExampleClip(0.2, 0.1), r"feedback_threshold: 0\.1 is below"),
        (lambda: PerExampleClip(0.2, noise=-1.0), r"noise: -1\.0"),
        (lambda: PerExampleClip(0.2, batch_size=0), "batch_size: 0"),
        (lambda: PerClassNormalisation(1), "classes: 1"),
        (lambda: BoundedNoise(0.0, 1.0), r"bound: 0\.0"),
        (lambda: BoundedNoise(1.0, -1.0), r"noise: -1\.0"),
        (lambda: BoundedNoise(1.0, 1.0, 0), "batch_size: 0"),
        (lambda: AdaptiveK(-1), "plain_steps: -1"),
        (lambda: AdaptiveK(betas=(0.9, 1.0)), "betas"),
        (lambda: CoordinateClip(1.0), r"share: 1\.0"),
        (lambda: TopShare(0.0), r"share: 0\.0"),
        (lambda: check_separable(torch.nn.Sequential(torch.nn.BatchNorm1d(3)), "GraB"), "BatchNorm1d"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(UserError, match=words):
        make()
