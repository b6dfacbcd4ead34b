"""Every distribution has the moments that its docstring states, and refuses what it cannot be; what holds for
all data is in test_data.py."""

import math

import pytest
import torch
from fake_trainer import attach

from sgdlit.data.batches import ALIGNMENT, Block
from sgdlit.data.depletion import Depletion
from sgdlit.data.finite.shapes import Shapes
from sgdlit.data.gradient_noise import GradientNoise
from sgdlit.data.image_stream import ShapesStream
from sgdlit.data.orders import SingleShuffle
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.streams import StreamBatches, StreamData, TeacherStream
from sgdlit.data.teachers import XOR, GaussianMixture, LinearTeacher, MLPTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.exact_sums import dot, grid_product, pairwise_sum
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.theory.learning_curves import learning_curve

STREAMS = {
    "sensing": lambda **k: MatrixSensing(d=24, r=3, gamma=2.0, label_noise=0.1, **k),
    "sensing rademacher": lambda **k: MatrixSensing(d=33, r=3, gamma=2.0, distribution="rademacher", **k),
    "sensing sparse": lambda **k: MatrixSensing(d=24, r=3, gamma=2.0, distribution="sparse", **k),
    "linear": lambda **k: LinearTeacher(d=50, spectrum="power_law", label_noise=0.5, **k),
    "sparse linear": lambda **k: LinearTeacher(d=50, nonzero=5, **k),
    "MLP values": lambda **k: MLPTeacher(widths=[50, 40, 2], label_noise=0.1, **k),
    "MLP soft": lambda **k: MLPTeacher(widths=[50, 40, 5], labels="soft", temperature=0.5, **k),
    "MLP hard": lambda **k: MLPTeacher(widths=[50, 40, 5], labels="hard", **k),
    "depletion": lambda **k: Depletion(d=6, chi=2, **k),
    "XOR": lambda **k: XOR(d=70, i=3, j=5, **k),
    "mixture": lambda **k: GaussianMixture(d=30, classes=3, **k),
    "gradient noise": lambda **k: GradientNoise(d=30, exponent=0.5, **k),
    "shapes": lambda **k: ShapesStream(**k),
}
SIZES = {"steps": 12, "batch_size": 8, "test_size": 20, "val_size": 12, "seed": 3}


def make(name: str, **given) -> StreamData:
    return STREAMS[name](**{**SIZES, **given})


def batches(data: StreamData, step=0):
    """(inputs, targets) of each step from ``step`` on."""
    return list(attach(data, step).train_dataloader())


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_the_stream_goes_on_beyond_its_declared_length():
    data = make("XOR")
    later = batches(data, 12)
    assert_same(later, batches(make("XOR", steps=24))[12:])
    assert not torch.equal(later[0][0], batches(data)[0][0])


def test_each_example_of_runs_side_by_side_is_drawn_once():
    """Whoever asks first: a look at one step, or steps one after another, a page of all runs at once."""
    drawn: list[int] = []
    members = [XOR(**(SIZES | {"seed": seed, "page_minibatches": 2}), d=4, i=1, j=2) for seed in range(3)]
    batches = [member.batches(torch.device("cpu")) for member in members]
    for own in batches:
        real = own.draw
        own.draw = lambda split, index, real=real: drawn.append(len(index)) or real(split, index)
    assert isinstance(batches[0], StreamBatches)
    for start in (0, 2):
        seen = next(Block(start, 4, batches).first.steps(slice(0, 3)))
        first, *_ = Block(start, 2, batches).steps(slice(0, 3))
        again = next(Block(start, 4, batches).first.steps(slice(0, 3)))
        assert all(
            torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(seen, first, again, strict=True)
        )
    assert drawn == [16] * 6
    assert not any(own._pages for own in batches), "nothing is kept twice"


def test_batches_of_a_page_begin_where_batches_made_alone_do():
    """Products of matrices round by their place in memory, and calls may be cut anywhere."""
    members = [XOR(**(SIZES | {"seed": seed, "batch_size": 5}), d=5, i=1, j=2) for seed in range(3)]
    batches = [member.batches(torch.device("cpu")) for member in members]
    for inputs, _ in Block(0, 6, batches).steps(slice(0, 3)):
        assert inputs.numel() * inputs.element_size() % ALIGNMENT != 0, "the next one would not be aligned"
        assert inputs.data_ptr() % ALIGNMENT == 0


def test_threads_do_not_change_the_labels():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = batches(make("MLP values", batch_size=512))
        torch.set_num_threads(2)
        assert_same(batches(make("MLP values", batch_size=512)), one)
    finally:
        torch.set_num_threads(before)


def test_label_noise_has_a_seed_of_its_own_and_leaves_the_inputs():
    def draw(**given):
        data = LinearTeacher(d=10, steps=1, seed=0, **given)
        return data.draw("train", torch.arange(4000))

    clean, noisy, other = draw(), draw(label_noise=0.5), draw(label_noise=0.5, label_noise_seed=1)
    assert torch.equal(clean[0], noisy[0])
    assert torch.equal(clean[0], other[0])
    assert (noisy[1] - clean[1]).std().item() == pytest.approx(0.5, rel=5 / math.sqrt(8000))
    assert abs(torch.corrcoef(torch.stack((noisy[1] - clean[1], other[1] - clean[1])))[0, 1]) < 5 / 4000**0.5
    assert isinstance(make("linear"), TeacherStream)


@pytest.mark.parametrize("look", [{}, {"pool": 2, "difficulty": 0.25}])
def test_shapes_stream_has_the_pictures_of_the_finite_set(look):
    finite = Shapes(train_size=16, test_size=20, data_seed=3, batch_size=8, augment=False, **look)
    stream = attach(ShapesStream(**SIZES, **look))
    attach(finite).setup()
    images, labels = next(iter(finite.test_dataloader()))
    found = next(iter(stream.test_dataloader()))
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], labels)
    shard = torch.sort(torch.cat([y for _, y in batches(finite)]))[0]
    assert torch.equal(shard, torch.sort(torch.cat([y for _, y in batches(stream)[:2]]))[0])


# Moments


def test_a_teacher_of_a_power_law_is_followed_as_theory_says():
    """SGD on the stream, 4000 runs, against F13 with λ_i = i^(−1.5), w*_i² ∝ i^(−0.5) and Σ λ w*² = 1."""
    d, runs, steps, lr = 5, 4000, 6, 0.3
    data = LinearTeacher(d, "power_law", 1.5, teacher_exponent=0.5, steps=1, seed=0, dtype="float64")
    x, y = data.draw("train", torch.arange(runs * steps))
    x, y, w = x.view(steps, runs, d), y.view(steps, runs), torch.zeros(runs, d, dtype=torch.float64)
    for inputs, targets in zip(x, y, strict=True):
        w = w - lr * ((w * inputs).sum(1) - targets)[:, None] * inputs
    losses = (w - data.weights).square() @ data.eigenvalues
    spectrum = data.eigenvalues.numpy()
    power = torch.arange(1, d + 1).double().pow(-0.5).numpy()
    expected = learning_curve(spectrum, power / (spectrum @ power), lr, 1, steps)[-1]
    assert_moment(losses, expected)


@pytest.mark.parametrize("chi", [0, 1, 2])
def test_moments_of_depletion(chi):
    """x₁² is twice a Gamma((χ + 1)/2): mean χ + 1, fourth moment (χ + 1)(χ + 3); P(|x₁| < t) from its CDF."""
    x, y = Depletion(3, chi, steps=1, seed=0, dtype="float64").draw("train", torch.arange(40_000))
    assert (y == x[:, 0].sign()).all()
    for samples, expected in (
        (y, 0.0),
        (x[:, 0].square(), chi + 1.0),
        (x[:, 0] ** 4, (chi + 1.0) * (chi + 3)),
        (
            x[:, 0].abs() < 0.3,
            torch.special.gammainc(torch.tensor((chi + 1) / 2), torch.tensor(0.3**2 / 2)).item(),
        ),
        (x[:, 1].square(), 1.0),
        (x[:, 0].abs() * x[:, 1], 0.0),
        (x[:, 1] * x[:, 2], 0.0),
    ):
        assert_moment(samples, expected)


def assert_moment(samples, expected, axis=0):
    """The mean of independent samples is within 5 standard errors of its expectation."""
    samples = samples.double()
    error = samples.std(axis) / math.sqrt(samples.shape[axis])
    assert ((samples.mean(axis) - expected).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("name", ["sensing", "sensing rademacher", "sensing sparse"])
def test_moments_of_measurements(name):
    """Entries: mean 0, variance 1, uncorrelated, fourth moment 3, 1 or 3/density; E y² = ‖T‖²_F + σ²."""
    data = make(name)
    pairs, y = data.draw("train", torch.arange(20000))
    x = pairs.flatten(1)
    assert_moment(x, 0)
    assert_moment(x**2, 1)
    fourth = {"sensing": 3.0, "sensing rademacher": 1.0, "sensing sparse": 30.0}[name]
    assert_moment(x**4, fourth)
    assert_moment(x[:, :-1] * x[:, 1:], 0)
    assert_moment(x[:, : data.d] * x[:, data.d :], 0)
    assert_moment(y, 0)
    assert_moment(y**2, data.target.square().sum() + data.label_noise**2)


def test_measurements_are_those_of_the_target():
    """Second implementation: aᵀTb in float64 with the materialised matrix."""
    data = MatrixSensing(d=40, r=3, gamma=7.0, steps=1, dtype="float64", seed=1)
    pairs, y = data.draw("test", torch.arange(50))
    expected = torch.einsum("ni,ij,nj->n", pairs[:, 0], data.target, pairs[:, 1])
    assert torch.allclose(y, expected, rtol=1e-12)
    assert torch.linalg.matrix_rank(data.target) == 3
    assert torch.allclose(
        data.target, MatrixSensing(d=40, r=3, gamma=1.0, steps=1, dtype="float64", seed=1).target * 7
    )


def test_target_has_a_seed_of_its_own():
    one = MatrixSensing(d=8, r=2, gamma=1.0, steps=1, seed=0, teacher_seed=5)
    two = MatrixSensing(d=8, r=2, gamma=1.0, steps=1, seed=1, teacher_seed=5)
    assert torch.equal(one.target, two.target)
    assert not torch.equal(one.target, MatrixSensing(d=8, r=2, gamma=1.0, steps=1, seed=0).target)


@pytest.mark.parametrize("name", ["linear", "sparse linear"])
def test_moments_of_the_linear_teacher(name):
    data = make(name)
    x, y = data.draw("train", torch.arange(20000))
    assert_moment(x, 0)
    assert_moment(x**2, data.eigenvalues)
    assert_moment(x[:, :-1] * x[:, 1:], 0)
    assert_moment(y**2, 1 + data.label_noise**2)
    assert_moment(x * y.unsqueeze(1), data.eigenvalues * data.weights)  # E xy = Λ w*


def test_gradient_noise_has_its_variances_and_is_judged_at_its_mean():
    data = make("gradient noise")
    noise, _ = data.draw("train", torch.arange(20000))
    assert_moment(noise, 0)
    assert_moment(noise**2, torch.arange(1, 31).double() ** -0.5)
    assert_moment(noise[:, :-1] * noise[:, 1:], 0)
    assert not torch.equal(noise, make("gradient noise", seed=4).draw("train", torch.arange(20000))[0])
    for loader in (*attach(data).val_dataloader(), attach(data).test_dataloader()):
        assert not any(inputs.any() for inputs, _ in loader)
    assert (
        GradientNoise(d=2, variance=[4.0, 0.0], steps=1).draw("train", torch.arange(9))[0][:, 1].eq(0).all()
    )


def test_sparse_teacher_is_that_of_the_protocol():
    weights = make("sparse linear").weights
    assert int((weights != 0).sum()) == 5
    assert bool((weights >= 0).all())
    assert weights.norm().item() == pytest.approx(1.0, rel=1e-12)


def test_power_law_spectrum():
    assert torch.allclose(make("linear").eigenvalues, torch.arange(1, 51).double() ** -2.0)
    assert LinearTeacher(d=3, spectrum=[3.0, 2.0, 0.5], steps=1).eigenvalues.tolist() == [3.0, 2.0, 0.5]


def test_mlp_teacher_against_a_float64_network():
    """Second implementation: the same weights without the grid, off by about its spacing."""
    data = MLPTeacher(widths=[50, 40, 2], steps=1, seed=3)
    x, y = data.draw("train", torch.arange(200))
    first, second = data.layers
    assert torch.allclose(y.double(), (x.double() @ first.T).relu() @ second.T, atol=2e-3)
    assert first.std().item() == pytest.approx(50**-0.5, rel=0.1)
    assert second.std().item() == pytest.approx((2 / 40) ** 0.5, rel=0.3)


def test_hard_labels_are_drawn_from_the_soft_ones():
    hard, soft, coldest = (
        MLPTeacher(widths=[10, 8, 4], steps=1, seed=1, labels=labels, temperature=temperature)
        for labels, temperature in (("hard", 0.7), ("soft", 0.7), ("hard", 0.0))
    )
    index = torch.arange(20000)
    probability = soft.draw("train", index)[1].double()
    assert torch.allclose(probability.sum(1), torch.ones(20000).double(), atol=1e-6)
    one_hot = torch.nn.functional.one_hot(hard.draw("train", index)[1], 4).double()
    assert_moment(one_hot - probability, 0)
    assert_moment((one_hot - probability) * probability, 0)  # also where the teacher is sure
    assert torch.equal(coldest.draw("train", index)[1], probability.argmax(1))


def test_moments_of_xor():
    x, y = make("XOR").draw("train", torch.arange(20000))
    assert torch.equal(y, -x[:, 3] * x[:, 5])
    assert bool((x.abs() == 1).all())
    assert_moment(x, 0)
    assert_moment(x[:, :-1] * x[:, 1:], 0)
    assert_moment(x[:, :38] * x[:, 32:], 0)  # bits of neighbouring words
    assert_moment(x * y.unsqueeze(1), 0)


def test_moments_of_the_mixture():
    data = make("mixture")
    x, labels = data.draw("train", torch.arange(20000))
    assert torch.allclose(data.means.norm(dim=1), torch.full((3,), 2.0))
    for k in range(3):
        assert_moment((labels == k).double(), 1 / 3)
        assert_moment(x[labels == k], data.means[k])
    assert_moment((x - data.means[labels]) ** 2, 1)
    two = GaussianMixture(d=5, classes=2, steps=1)
    assert torch.equal(two.means[0], -two.means[1])


def test_shapes_labels_are_even():
    _, labels = make("shapes").draw("train", torch.arange(1000))
    assert_moment(torch.nn.functional.one_hot(labels, 10), 0.1)


# Sums


def test_sums_do_not_depend_on_how_many_rows_there_are():
    x = normal(derive_key(0, "sums"), torch.arange(300), 77)
    w = normal(derive_key(1, "sums"), torch.arange(1), 77)[0]
    whole = dot(x, w)
    assert all(torch.equal(dot(x[i : i + 1], w), whole[i : i + 1]) for i in range(0, 300, 37))
    exact = torch.tensor([math.fsum(row) for row in x.double().tolist()])
    assert torch.allclose(pairwise_sum(x.double()), exact.double(), rtol=1e-6)
    assert torch.allclose(pairwise_sum(x), exact, atol=1e-4)


def test_grid_products_are_exact_in_any_order():
    x = normal(derive_key(0, "grid"), torch.arange(300), 500)
    w = normal(derive_key(1, "grid"), torch.arange(20), 500)
    whole, order = grid_product(x, w), torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(grid_product(x[:, order], w[:, order]), whole)
    assert torch.equal(grid_product(x[7:8], w[3:4]), whole[7:8, 3:4])
    assert torch.allclose(whole, x.double() @ w.double().T, atol=1e-2)


# What is refused

REFUSED = [
    (MatrixSensing, {"d": 4, "r": 5, "gamma": 1.0}, r"data\.r: 5 .* 1 to d = 4"),
    (MatrixSensing, {"d": 4, "r": 0, "gamma": 1.0}, r"data\.r: 0"),
    (MatrixSensing, {"d": 4, "r": 1, "gamma": 0.0}, r"data\.gamma: 0\.0 .* above 0"),
    (MatrixSensing, {"d": 4, "r": 1, "gamma": -1.0}, r"data\.gamma: -1"),
    (MatrixSensing, {"d": 4, "r": 1, "gamma": float("nan")}, r"data\.gamma: nan"),
    (MatrixSensing, {"d": 4, "r": 1, "gamma": 1.0, "density": 0.0}, r"data\.density: 0"),
    (MatrixSensing, {"d": 4, "r": 1, "gamma": 1.0, "label_noise": -0.1}, r"data\.label_noise: -0\.1"),
    (LinearTeacher, {"d": 4, "spectrum": "power_law", "exponent": 1.0}, r"data\.exponent: 1\.0 .* above 1"),
    (LinearTeacher, {"d": 2, "spectrum": [1.0, float("inf")]}, r"data\.spectrum: .* finite sum"),
    (LinearTeacher, {"d": 2, "spectrum": [1.0, -1.0]}, r"data\.spectrum: .* 0 upwards"),
    (LinearTeacher, {"d": 2, "spectrum": [0.0, 0.0]}, r"data\.spectrum"),
    (LinearTeacher, {"d": 3, "spectrum": [1.0]}, r"data\.spectrum: a list of 1 numbers .* d = 3"),
    (LinearTeacher, {"d": 3, "nonzero": 4}, r"data\.nonzero: 4 .* 1 to d = 3"),
    (MLPTeacher, {"widths": [4]}, r"data\.widths: \[4\]"),
    (MLPTeacher, {"widths": [4, 1], "labels": "hard"}, r"data\.widths: .* 2 or more outputs"),
    (MLPTeacher, {"widths": [4, 2], "labels": "soft", "temperature": 0.0}, r"temperature: 0\.0 .* above 0"),
    (MLPTeacher, {"widths": [4, 2], "labels": "hard", "label_noise": 1.0}, r"data\.label_noise: 1\.0"),
    (LinearTeacher, {"d": 4, "nonzero": 2, "teacher_exponent": 1.0}, r"data\.teacher_exponent: 1\.0 .* null"),
    (Depletion, {"d": 4, "chi": -1}, r"data\.chi: -1 .* 0 or more"),
    (XOR, {"d": 4, "i": 2, "j": 2}, r"data\.j: 2 .* another input than i = 2"),
    (XOR, {"d": 4, "j": 4}, r"data\.j: 4 .* 0 to 3"),
    (XOR, {"d": 4, "i": -1}, r"data\.i: -1 .* 0 to 3"),
    (XOR, {"d": 1}, r"data\.d: 1 .* 2 or more"),
    (GradientNoise, {"d": 0}, r"data\.d: 0 .* 1 or more"),
    (GradientNoise, {"d": 2, "variance": [1.0, -1.0]}, r"data\.variance: .* 0 upwards"),
    (GradientNoise, {"d": 2, "variance": "flat"}, r"data\.variance: flat .* isotropic, power_law"),
    (GaussianMixture, {"d": 4, "classes": 1}, r"data\.classes: 1"),
    (GaussianMixture, {"d": 4, "separation": 0.0}, r"data\.separation: 0"),
    (XOR, {"d": 4, "steps": 0}, r"data\.steps: 0 .* 1 or more"),
    (XOR, {"d": 4, "shard_size": 0}, r"data\.shard_size: 0"),
    (XOR, {"d": 4, "page_minibatches": 0}, r"data\.page_minibatches: 0"),
    (XOR, {"d": 4, "batch_size": 3, "shard_size": 10}, r"data\.batch_size: 3 does not divide"),
]


@pytest.mark.parametrize(("kind", "given", "named"), REFUSED)
def test_bad_input_is_named(kind, given, named):
    with pytest.raises(UserError, match=named):
        kind(**{"steps": 10, **given})


def test_an_order_without_a_shard_is_refused():
    with pytest.raises(UserError, match=r"data\.order: SingleShuffle has nothing to order"):
        make("XOR", order=SingleShuffle())
