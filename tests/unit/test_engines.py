"""Every engine computes what the plain PyTorch loop computes, for one run and for several at once."""

import shutil
import subprocess

import pytest
import torch
from engine_runs import batches, machine, member, parameters, sgd, train

from sgdlit.algorithms import EngineGroup, Look, network_draws
from sgdlit.algorithms.engines.captured import CapturedStep
from sgdlit.algorithms.engines.group import likely_engine
from sgdlit.algorithms.engines.stacked import StackedEngine
from sgdlit.algorithms.mixing import LocalSGD
from sgdlit.algorithms.transforms.coordinate_clip import CoordinateClip
from sgdlit.data.batches import Block
from sgdlit.data.finite.shapes import Shapes
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.teachers import LinearTeacher, MLPTeacher
from sgdlit.foundations import native
from sgdlit.foundations.native.library import library_path
from sgdlit.models import MLP, DeepLinear, WideResNet
from sgdlit.models.diagonal import DiagonalLinear
from sgdlit.models.sensing import BilinearForm
from sgdlit.objectives import ExactPenalty, HalfSquaredError, LinearRampStrength

needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine")


def adam(kind=torch.optim.Adam, **settings):
    return lambda parameters: kind(parameters, lr=0.003, **settings)


def shapes(seed=0, **values):
    data = {"train_size": 40, "test_size": 2, "batch_size": 4, "seed": seed, "data_seed": 0, "pool": 2}
    return Shapes(**data | values)


def teacher(seed=0, **values):
    return MLPTeacher(
        **{"widths": [6, 8, 3], "labels": "hard", "steps": 200, "batch_size": 4, "seed": seed} | values
    )


def sensing(seed=0, **values):
    return MatrixSensing(
        **{"d": 6, "r": 2, "gamma": 0.5, "steps": 200, "batch_size": 1, "seed": seed} | values
    )


def linear(seed=0, **values):
    return LinearTeacher(**{"d": 6, "steps": 200, "batch_size": 1, "seed": seed, "shard_size": 12} | values)


def vectors(seed=0, **values):
    return MLPTeacher(**{"widths": [6, 5, 4], "steps": 200, "batch_size": 1, "seed": seed} | values)


HALF = {"loss": "half_squared_error"}
MLP_RUN = {"network": lambda: MLP([6, 7, 3])}
WRN_RUN = {"network": lambda: WideResNet(10, 1, image_size=16)}
DEEP = {"network": lambda: DeepLinear([6, 5, 5, 4]), **HALF}
SENSING = {"network": lambda: BilinearForm(DeepLinear([6, 7, 5, 6])), "optimizer": sgd(0.002), **HALF}
TWO = SENSING | {"network": lambda: BilinearForm(DeepLinear([6, 7, 6]))}
DIAGONAL = {"network": lambda: DiagonalLinear(6, 0.3, 0.1), **HALF}

# name: (arguments of the run, data, engines that can take it)
CASES = {
    "MLP": (MLP_RUN, teacher, ["stacked"]),
    "MLP, momentum, decay": (
        MLP_RUN | {"optimizer": sgd(0.1, momentum=0.9, weight_decay=0.01)},
        teacher,
        ["stacked"],
    ),
    "MLP, Nesterov": (MLP_RUN | {"optimizer": sgd(0.1, momentum=0.9, nesterov=True)}, teacher, ["stacked"]),
    "MLP, Adam": (MLP_RUN | {"optimizer": adam(weight_decay=0.1)}, teacher, ["stacked"]),
    "MLP, AdamW": (MLP_RUN | {"optimizer": adam(torch.optim.AdamW, weight_decay=0.1)}, teacher, ["stacked"]),
    "MLP, schedule, n-step, sum": (
        MLP_RUN | {"scheduler": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5), "reduction": "sum"},
        lambda seed=0: teacher(seed, repeats=3),
        ["stacked"],
    ),
    "MLP, penalty that sets in": (
        MLP_RUN | {"reg_strength": LinearRampStrength(0.0, 0.5, 6, 4)},
        teacher,
        ["stacked"],
    ),
    "MLP, penalty of half batches": (
        MLP_RUN | {"reg_strength": 0.3, "objective": ExactPenalty(2)},
        teacher,
        ["stacked"],
    ),
    "WRN, penalty, augmentation": (WRN_RUN | {"reg_strength": 0.1}, shapes, ["stacked"]),
    "WRN, momentum": (WRN_RUN | {"optimizer": sgd(0.01, momentum=0.9)}, shapes, ["stacked"]),
    "deep linear": (DEEP, lambda seed=0: vectors(seed, batch_size=3), ["stacked", "rank_one"]),
    "deep linear, one example, decay": (
        DEEP | {"optimizer": sgd(0.02, weight_decay=0.3)},
        vectors,
        ["stacked", "rank_one", "fused"],
    ),
    "deep linear, penalty": (DEEP | {"reg_strength": 0.1}, vectors, ["stacked"]),
    "sensing": (SENSING, sensing, ["stacked", "rank_one", "fused"]),
    "sensing, two matrices": (TWO, sensing, ["stacked", "rank_one", "put_off", "fused"]),
    "sensing, two matrices, decay, schedule, batch, sum": (
        TWO
        | {
            "optimizer": sgd(0.001, weight_decay=0.1),
            "scheduler": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
            "reduction": "sum",
        },
        lambda seed=0: sensing(seed, batch_size=3),
        ["rank_one", "put_off", "fused"],
    ),
    "sensing, wide, n-step": (
        SENSING | {"network": lambda: BilinearForm(DeepLinear([37, 23, 37])), "optimizer": sgd(1e-4)},
        lambda seed=0: sensing(seed, d=37, batch_size=2, repeats=3),
        ["rank_one", "fused"],
    ),
    "sensing, decay, schedule": (
        SENSING
        | {
            "optimizer": sgd(0.003, weight_decay=0.1),
            "scheduler": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        },
        sensing,
        ["rank_one", "fused"],
    ),
    "sensing, one matrix, batch": (
        SENSING | {"network": lambda: BilinearForm(DeepLinear([6, 6])), "reduction": "sum"},
        lambda seed=0: sensing(seed, batch_size=3),
        ["rank_one"],
    ),
    "sensing, one matrix": (
        SENSING | {"network": lambda: BilinearForm(DeepLinear([6, 6]))},
        sensing,
        ["rank_one", "fused"],
    ),
    "diagonal": (DIAGONAL, linear, ["stacked", "rank_one", "fused"]),
    "diagonal, penalty, decay, batch, sum": (
        DIAGONAL | {"reg_strength": 0.4, "reduction": "sum", "optimizer": sgd(0.01, weight_decay=0.2)},
        lambda seed=0: linear(seed, batch_size=3),
        ["stacked", "rank_one", "fused"],
    ),
    "diagonal, penalty that sets in": (
        DIAGONAL | {"reg_strength": LinearRampStrength(0.0, 0.5, 6, 4)},
        linear,
        ["stacked", "rank_one", "fused"],
    ),
}
ENGINES = [(case, engine) for case, (*_, engines) in CASES.items() for engine in engines]


def steps_of(case):
    return 5 if case.startswith("WRN") else 13


@pytest.mark.parametrize(("case", "engine"), ENGINES)
def test_an_engine_computes_what_the_plain_loop_computes(case, engine):
    if engine == "fused" and native.compiler() is None:
        pytest.skip("no C compiler on this machine")
    (run, make_data, _), steps = CASES[case], steps_of(case)
    seeds = (0, 1, 2) if steps > 5 else (0, 1)
    data = [batches(make_data(seed)) for seed in seeds]
    expected, alone, together = ([member(seed=seed, **run) for seed in seeds] for _ in range(3))
    costs, losses, _ = train("loop", expected, data, [steps])
    found = train(engine, together, data, [steps])
    assert (costs[0] - costs[-1]).abs().min() > 1e-6  # something was learned
    torch.testing.assert_close(found[0], costs, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], losses, rtol=0, atol=1e-10)
    for k, single in enumerate(alone):
        train(engine, [single], [data[k]], [steps])
        for other in (expected[k], together[k]):
            torch.testing.assert_close(parameters(single), parameters(other), rtol=0, atol=1e-10)
            differs = states_differ(single.optimizer, other.optimizer)
            assert not differs, differs


OBSERVED = ["MLP, penalty of half batches", "sensing, two matrices", "diagonal, penalty, decay, batch, sum"]


@pytest.mark.parametrize("case", OBSERVED)
def test_what_is_seen_of_members_together_is_what_is_seen_of_each(case):
    """Where a step is taken for all at once, and where each member has an engine of its own."""
    run, make_data, engines = CASES[case]
    data = [batches(make_data(seed)) for seed in (0, 1, 2)]
    for name in engines:
        if name == "fused" and native.compiler() is None:
            continue
        members = [member(seed=seed, **run) for seed in (0, 1, 2)]
        together = EngineGroup(members, name, machine())
        together.run(Block(0, 3, data))
        seen, before = together.observe(Block(3, 4, data)), [parameters(one).clone() for one in members]
        for k, one in enumerate(members):
            alone = EngineGroup([one], "loop", machine()).observe(Block(3, 4, [data[k]]))
            for ours, single in zip(seen, alone, strict=True):
                if single is not None:
                    torch.testing.assert_close(ours[k : k + 1], single, rtol=1e-10, atol=1e-12)
        assert all(torch.equal(parameters(one), then) for one, then in zip(members, before, strict=True))


def states_differ(a, b):
    """Names of the entries in which two optimizers' states differ by more than rounding, but for updates that
    an engine has put off."""
    a, b = a.state_dict()["state"], b.state_dict()["state"]
    return [
        (k, name)
        for k in {*a, *b}
        for name in {*a.get(k, {}), *b.get(k, {})} - {"put_off"}
        if not torch.allclose(
            torch.as_tensor(a[k][name]).double(), torch.as_tensor(b[k][name]).double(), rtol=0, atol=1e-10
        )
    ]


def test_without_a_cuda_graph_the_step_goes_on_and_says_why(capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine can capture CUDA graphs")
    run, make_data, _ = CASES["MLP, momentum, decay"]
    data = [batches(make_data(seed)) for seed in (0, 1)]
    plain, captured = ([member(seed=seed, **run) for seed in (0, 1)] for _ in range(2))
    train("stacked", plain, data, [9])
    engine = StackedEngine(captured, slice(0, 2), machine(), CapturedStep)
    engine.run(Block(0, 9, data))
    assert all(torch.equal(parameters(a), parameters(b)) for a, b in zip(plain, captured, strict=True))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("no CUDA graph for the training step")


class Scaled(MLP):
    """What it holds beside its parameters, a function or numbers, decides what it computes."""

    def __init__(self, held):
        super().__init__([6, 5, 3])
        self.held = held

    def forward(self, x):
        held = self.held["of"] if isinstance(self.held, dict) else self.held
        return held(super().forward(x)) if callable(held) else torch.as_tensor(held) * super().forward(x)


class Weighted(HalfSquaredError):
    def __init__(self, weight):
        self.weight = weight

    def per_example(self, outputs, targets):
        return self.weight * super().per_example(outputs, targets)


NOT_ALIKE = {
    "activations": [
        {"network": lambda k=k: MLP([6, 5, 3], activation=k)} for k in ("relu", "tanh", "identity")
    ],
    "functions": [{"network": lambda f=f: Scaled(f)} for f in (torch.relu, torch.tanh, torch.sin)],
    "lists": [{"network": lambda k=k: Scaled([1.0, k, k])} for k in (0.5, 2.0, 3.0)],
    "tensors": [{"network": lambda k=k: Scaled({"of": torch.full((3,), k)})} for k in (0.5, 2.0, 3.0)],
    "losses": [{"network": lambda: MLP([6, 5, 3]), "loss": Weighted(k)} for k in (0.5, 2.0, 3.0)],
}


@pytest.mark.parametrize("name", NOT_ALIKE)
def test_runs_that_differ_in_what_network_or_loss_holds_are_not_stacked(name):
    """The first network and loss stand for all in a stacked step."""
    data = batches(teacher())
    found = []
    for engine in ("loop", "auto"):
        members = [member(**own, optimizer=sgd(0.1)) for own in NOT_ALIKE[name]]
        engines = EngineGroup(members, engine, machine())
        engines.run(Block(0, 8, [data] * 3))
        found.append([parameters(one) for one in members])
    assert engines.name == "loop"
    assert "members 0 and 1 differ" in engines.note
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[0][1])


def test_runs_that_hold_the_same_are_stacked():
    data = batches(teacher())
    members = [
        member(lambda: Scaled({"of": [1.0, torch.ones(3)][1]}), seed=k, optimizer=sgd(0.1)) for k in (0, 1)
    ]
    engines = EngineGroup(members, "auto", machine())
    engines.run(Block(0, 2, [data] * 2))
    assert engines.name == "stacked"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "name",
    ["MLP", "WRN, momentum", "deep linear", "deep linear, one example, decay", "sensing, two matrices"],
)
def test_what_takes_a_run_is_known_before_it_begins(name, count):
    run, make_data, _ = CASES[name]
    data = [batches(make_data(seed)) for seed in range(count)]
    members = [member(seed=seed, **run) for seed in range(count)]
    inputs, targets = Block(0, 1, data).batch(0, slice(0, 1))
    engines = EngineGroup(members, "auto", machine())
    engines.run(Block(0, 1, data))
    assert likely_engine(members, inputs[0], targets[0]) == engines.name


@pytest.mark.parametrize(("count", "mixes"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("engine", ["stacked", "loop", "rank_one"])
def test_a_look_inside_of_a_block_sees_the_parameters_of_its_step_and_changes_nothing(engine, count, mixes):
    """Against blocks of one step."""
    run, make = (DEEP, vectors) if engine == "rank_one" else (MLP_RUN, teacher)
    data = [batches(make(seed)) for seed in range(count)]

    def runs():
        members = [member(seed=seed, optimizer=sgd(0.1), **run) for seed in range(count)]
        return members, EngineGroup(members, engine, machine(), mixing=LocalSGD(every=3) if mixes else None)

    (members, engines), seen = runs(), {}
    look = Look((4, 6, 7), lambda step: seen.update({step: [parameters(one) for one in members]}))
    engines.run(Block(0, 9, data), look)
    seen[9] = [parameters(one) for one in members]
    assert sorted(seen) == [4, 6, 7, 9]
    others, engines = runs()
    for step in range(9):
        engines.run(Block(step, 1, data))
        if step + 1 in seen:
            assert all(map(torch.equal, seen[step + 1], [parameters(one) for one in others]))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.LBFGS])
def test_the_loop_shows_the_gradient_before_the_update(make):
    """Against autograd, at the parameters to which blocks of one step lead; LBFGS evaluates several times."""
    data = [batches(teacher())]

    def run():
        one = member(optimizer=lambda parameters: make(parameters, lr=0.1), **MLP_RUN)
        return one, EngineGroup([one], "loop", machine())

    (one, engines), seen = run(), {}

    def look(step, shown):
        assert step not in seen
        assert not shown.drawn
        seen[step] = torch.cat([g.flatten() for g in shown.gradient.values()]), shown.batch[0]

    assert engines.shows(Block(0, 6, data)) == "gradient"
    engines.run(Block(0, 6, data), Look(shown_steps=(0, 2, 5), shown=look))
    assert sorted(seen) == [0, 2, 5]
    one, engines = run()
    for step in range(6):
        inputs, targets = next(engines.engines[0].batches(Block(step, 1, data))) if step else (None, None)
        if step in (2, 5):
            cost = one.loss(one.network(inputs[0]), targets[0])
            expected = torch.autograd.grad(cost, list(one.network.parameters()))
            assert torch.equal(seen[step][0], torch.cat([g.flatten() for g in expected]))
            assert torch.equal(seen[step][1], inputs[0])
        engines.run(Block(step, 1, data))


@pytest.mark.parametrize(
    "given",
    [
        {"reg_strength": LinearRampStrength(0.0, 0.1, 5, begin=3)},
        {"reduction": "sum"},
        {"transform": CoordinateClip(0.1)},
    ],
)
def test_the_loop_shows_no_gradient_that_is_another(given):
    engines = EngineGroup([member(**MLP_RUN, **given)], "loop", machine())
    assert engines.shows(Block(0, 2, [batches(teacher())])) is None


@pytest.mark.parametrize("draws", [True, False])
def test_the_loop_says_whether_the_network_drew(draws):
    """With a dropout that leaves all as it is, so that no gradient would tell."""
    network = {
        "network": lambda: torch.nn.Sequential(
            torch.nn.Linear(6, 3), torch.nn.Dropout(1e-9 if draws else 0.0)
        )
    }
    engines, drawn = EngineGroup([member(**network)], "loop", machine()), []
    engines.run(
        Block(0, 1, [batches(teacher())]), Look(shown_steps=(0,), shown=lambda _, of: drawn.append(of.drawn))
    )
    assert drawn == [draws]


@pytest.mark.parametrize("layer", [torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.1), torch.nn.LayerNorm(3)])
def test_the_loop_shows_no_gradient_of_a_network_that_changes_in_its_pass(layer):
    own = member(network=lambda: torch.nn.Sequential(torch.nn.Linear(6, 3), layer))
    before = {name: value.clone() for name, value in own.network.state_dict().items()}
    drawn = torch.random.get_rng_state()
    shown = EngineGroup([own], "loop", machine()).shows(Block(0, 2, [batches(teacher())]))
    assert shown == ("gradient" if isinstance(layer, torch.nn.LayerNorm) else None)
    assert all(torch.equal(before[name], value) for name, value in own.network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)


class DescendsInside(torch.nn.Module):
    """Its outputs are a step down the gradient of a function of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(6, 3))

    def forward(self, x):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((x @ self.weight).square().sum(), x, create_graph=True)
        return (x - 0.1 * slope) @ self.weight


def test_a_network_that_needs_gradients_to_compute_its_outputs_is_looked_at_with_them():
    own, block = member(network=DescendsInside), Block(0, 1, [batches(teacher())])
    assert not network_draws.draws(own, torch.ones(4, 6, dtype=own.network.weight.dtype))
    assert EngineGroup([own], "loop", machine()).shows(block) == "gradient"


def test_groups_of_members_change_nothing():
    run, make_data, _ = CASES["MLP, momentum, decay"]
    data = [batches(make_data(seed)) for seed in range(5)]
    ends = []
    for size in (5, 2, 1):
        members = [member(seed=seed, **run) for seed in range(5)]
        before = {"engine": "stacked", "group_size": size}
        engines = EngineGroup(members, "auto", machine(), before)
        found = engines.run(Block(0, 9, data))
        assert [len(engine.members) for engine in engines.engines] == {5: [5], 2: [2, 2, 1], 1: [1] * 5}[size]
        ends.append(torch.cat([found.cost.flatten(), *map(parameters, members)]))
    for other in ends[1:]:
        torch.testing.assert_close(ends[0], other, rtol=0, atol=1e-12)


def test_memory_that_is_short_makes_the_groups_smaller(monkeypatch):
    run, make_data, _ = CASES["MLP"]
    record = StackedEngine.record

    def short(engine, *arguments):
        if len(engine.members) > 2:
            raise torch.OutOfMemoryError("no memory for so many")
        return record(engine, *arguments)

    monkeypatch.setattr(StackedEngine, "record", short)
    members = [member(seed=seed, **run) for seed in range(5)]
    engines = EngineGroup(members, "stacked", machine())
    engines.run(Block(0, 1, [batches(make_data(seed)) for seed in range(5)]))
    assert engines.description() == {"engine": "stacked", "group_size": 2}


def test_memory_that_is_short_for_a_cuda_graph_makes_the_groups_smaller(monkeypatch, capsys):
    """And is a reason to go on without the graph where the run has begun."""

    def short(captured, kept, changing):
        first = kept[0][0]  # [K, out, in], of one run alone [out, in]
        if (first.dim() == 3 and len(first) > 2) or running:
            raise torch.OutOfMemoryError("no memory for the graph")
        captured.graph, captured.refused = None, True

    running = False
    monkeypatch.setattr(CapturedStep, "_capture", short)
    monkeypatch.setattr(EngineGroup, "_player", lambda group: CapturedStep)
    run, make_data, _ = CASES["MLP"]
    members = [member(seed=seed, **run) for seed in range(5)]
    engines = EngineGroup(members, "stacked", machine())
    engines.run(Block(0, 1, [batches(make_data(seed)) for seed in range(5)]))
    assert engines.description() == {"engine": "stacked", "group_size": 2}
    assert capsys.readouterr().err == ""
    running = True
    late = StackedEngine(members[:2], slice(0, 2), machine(), CapturedStep)
    late.run(Block(1, 2, [batches(make_data(seed)) for seed in range(2)]))
    assert "goes on without one: no memory for the graph" in capsys.readouterr().err


@pytest.mark.parametrize(("case", "engine"), [*ENGINES, ("MLP", "loop"), ("WRN, momentum", "loop")])
def test_cutting_a_run_into_calls_changes_no_bit(case, engine):
    if engine == "fused" and native.compiler() is None:
        pytest.skip("no C compiler on this machine")
    (run, make_data, _), steps = CASES[case], steps_of(case)
    ends = []
    for cuts in ([steps], list(range(1, steps + 1)), [2, 3, steps - 1, steps]):
        runs = [member(seed=seed, **run) for seed in (0, 1)]
        costs, losses, _ = train(engine, runs, [batches(make_data(seed)) for seed in (0, 1)], cuts)
        ends.append((costs, losses, *map(parameters, runs)))
    assert all(torch.equal(a, b) for other in ends[1:] for a, b in zip(ends[0], other, strict=True))


@pytest.mark.parametrize("case", ["MLP", "sensing", "diagonal", "MLP, momentum, decay"])
def test_float32_stays_within_rounding_over_200_steps(case):
    run, make_data, engines = CASES[case]
    data = [batches(make_data(seed)) for seed in (0, 1)]
    for engine in engines:
        if engine == "fused" and native.compiler() is None:
            continue
        single = [member(seed=seed, dtype=torch.float32, **run) for seed in (0, 1)]
        together = [member(seed=seed, dtype=torch.float32, **run) for seed in (0, 1)]
        train("loop", single, data, [200], torch.float32)
        train(engine, together, data, [200], torch.float32)
        for a, b in zip(single, together, strict=True):
            torch.testing.assert_close(parameters(a), parameters(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["stacked", "rank_one", "fused"])
@pytest.mark.parametrize("case", ["deep linear, one example, decay", "diagonal"])
def test_a_small_weight_decay_counts_in_float32(case, engine):
    """lr·wd = 2.8e-8 is below the resolution of 1 − lr·wd in float32; what it takes off the norm is that of
    float64, to a fifth."""
    if engine == "fused" and native.compiler() is None:
        pytest.skip("no C compiler on this machine")
    run, make_data, _ = CASES[case]
    ends = {}
    for dtype in (torch.float64, torch.float32):
        for decay in (0.0, 1.8e-6):
            one = member(dtype=dtype, **run | {"optimizer": sgd(1 / 64, weight_decay=decay)})
            data = batches(make_data(0, steps=4000, dtype=str(dtype).removeprefix("torch.")))
            train(engine, [one], [data], [4000], dtype)
            ends[dtype, decay] = parameters(one).double().norm()
    lost = {dtype: float(ends[dtype, 0.0] - ends[dtype, 1.8e-6]) for dtype in (torch.float64, torch.float32)}
    assert lost[torch.float32] == pytest.approx(lost[torch.float64], rel=0.2)


@pytest.fixture
def no_libraries(tmp_path, monkeypatch):
    """A machine on which nothing has been compiled."""
    if native.compiler() is None:
        pytest.skip("no C compiler on this machine")

    def forget():
        for cached in (native.library, library_path, native.compiler):
            cached.cache_clear()

    monkeypatch.setenv("SGDLIT_CACHE", str(tmp_path / "cold"))
    forget()
    yield
    monkeypatch.undo()
    forget()


def test_what_is_built_ahead_is_built_once(no_libraries, monkeypatch):
    ran, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: ran.append(given) or run(*given, **named))
    builder = native.build_ahead(("philox",))
    assert native.library("philox").philox_words
    builder.join()
    assert len(ran) == 1


def test_a_library_that_cannot_be_built_ahead_is_refused_when_it_is_needed(no_libraries, monkeypatch):
    monkeypatch.setenv("CC", shutil.which("false"))
    native.compiler.cache_clear()
    native.build_ahead(("philox",)).join()
    with pytest.raises(native.NotBuilt, match="failed"):
        native.library("philox")


def test_a_short_run_takes_the_engine_of_a_long_one_on_a_new_machine_too(no_libraries):
    """The library that has still to be built decides nothing."""
    run, make_data, _ = CASES["sensing"]
    engines = EngineGroup([member(**run)], "auto", machine())
    engines.run(Block(0, 1, [batches(make_data(0))]))
    assert engines.description()["engine"] == "fused"


def test_without_a_compiler_one_run_puts_updates_off_and_several_are_stacked(no_libraries, monkeypatch):
    """And a run that began in C goes on without it, to rounding."""
    run, make_data, _ = CASES["sensing, two matrices"]
    begun, whole = member(**run), member(**run)
    data = [batches(make_data(0))]
    train("fused", [begun], data, [7])
    train("fused", [whole], data, [31])
    monkeypatch.setenv("CC", "no-such-compiler")
    for cached in (native.library, library_path, native.compiler):
        cached.cache_clear()
    engines = EngineGroup([begun], "auto", machine(), {"engine": "fused"})
    engines.run(Block(7, 24, data))
    assert engines.description()["engine"] == "put_off"
    torch.testing.assert_close(parameters(begun), parameters(whole), rtol=0, atol=1e-12)
    members = [member(seed=k, **run) for k in (0, 1)]
    several = EngineGroup(members, "auto", machine())
    several.run(Block(0, 1, data * 2))
    assert several.description()["engine"] == "rank_one"
    seen = several.observe(Block(1, 1, data * 2)).cost  # of the parameters that rank_one moves
    for k, one in enumerate(members):
        alone = EngineGroup([one], "loop", machine()).observe(Block(1, 1, data)).cost
        torch.testing.assert_close(seen[k : k + 1], alone, rtol=1e-10, atol=1e-12)
