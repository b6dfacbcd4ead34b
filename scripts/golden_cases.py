"""The cases of ``golden.py``: small runs of everything, started as a user starts them.

What a restructuring changes stands first: class paths, the layout of checkpoints, the commands.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml


class Outcome(NamedTuple):
    """What a case leaves to be compared: folders of runs, tables of sweeps and studies, printed claims."""

    runs: Sequence[Path] = ()
    tables: Sequence[Path] = ()
    claims: Sequence[str] = ()

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*((*a, *b) for a, b in zip(self[:], other[:], strict=True)))


Case = Callable[[Path], Outcome]

PATHS = {
    "sgdlit.training.module": "Training",
    "sgdlit.models": "MLP DeepLinear SimpleCNN WideResNet",
    "sgdlit.models.sensing": "BilinearForm NormalizedStack",
    "sgdlit.models.diagonal": "DiagonalLinear",
    "sgdlit.models.quadratic": "Quadratic",
    "sgdlit.objectives": "ExactPenalty FiniteDifferencePenalty",
    "sgdlit.objectives.strength": "PiecewiseStrength LinearRampStrength TiedToLearningRate",
    "sgdlit.data.finite.cifar10": "CIFAR10",
    "sgdlit.data.finite.fashion_mnist": "FashionMNIST",
    "sgdlit.data.finite.shapes": "Shapes",
    "sgdlit.data.orders": "RandomReshuffling SingleShuffle WithReplacement FixedList ForwardThenReversed",
    "sgdlit.data.sensing": "MatrixSensing",
    "sgdlit.data.teachers": "LinearTeacher MLPTeacher XOR GaussianMixture",
    "sgdlit.data.image_stream": "ShapesStream",
    "sgdlit.data.gradient_noise": "GradientNoise",
    "sgdlit.training.schedules": "SampleWarmUp",
    "sgdlit.training.measuring": "Measures",
    "sgdlit.measures.relative_error": "RelativeError",
    "sgdlit.measures.sensing_risk": "SensingRisk",
    "sgdlit.measures.singular_values": "SensingSpectrum",
    "sgdlit.measures.relative_squared_error": "UnseenError",
    "sgdlit.training.iterate_average": "IterateAverage",
    "sgdlit.training.log_spaced_validation": "LogSpacedValidation",
    "sgdlit.training.stop_at_target": "StopAtTarget",
    "torch.optim": "SGD Adam AdamW",
    "torch.optim.lr_scheduler": "MultiStepLR CosineAnnealingLR",
}
CLASSES = {name: f"{module}.{name}" for module, names in PATHS.items() for name in names.split()}


def parameters_of(run: Path) -> dict[str, list[torch.Tensor]]:
    """The parameters and buffers of each trained network of a run, by member, in the network's own order."""
    content = torch.load(run / "checkpoints" / "resume.ckpt", map_location="cpu", weights_only=True)
    found: dict[str, list[torch.Tensor]] = {}
    for key, tensor in content["state_dict"].items():
        if match := re.match(r"networks\.(\d+)\.", key):
            found.setdefault(match[1], []).append(tensor)
    return found


def fit(folder: Path, config: dict[str, Any], *arguments: str, version: int = 0) -> Path:
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump({"name": "run", **config}))
    sgdlit(folder, "fit", "--config", str(path), *arguments)
    return folder / "logs" / "run" / f"version_{version}"


def resume(folder: Path, run: Path, *arguments: str) -> Path:
    sgdlit(folder, "fit", "--resume", str(run), *arguments)
    return run


def predict(folder: Path, run: Path) -> None:
    sgdlit(folder, "predict", "--run", str(run))


def export(folder: Path, run: Path, member: int) -> Path:
    sgdlit(folder, "export", "--run", str(run), "--member", str(member))
    return folder / "logs" / f"run_member_{member}" / "version_0"


def sweep(folder: Path, config: dict[str, Any]) -> list[Path]:
    """The sweep's table, and that of its figure."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "small", **config}))
    for command in ("sweep", "figure"):
        sgdlit(folder, command, "--config", str(path), "--store", str(folder / "store"))
    return [folder / "store" / name for name in ("table.csv", "figures/loss.csv")]


def reproduce(folder: Path, *commands: str) -> Outcome:
    """The tables and findings of claims; each command is a claim and its options."""
    out = folder / "out"
    for command in commands:
        sgdlit(folder, "reproduce", *command.split(), "--scale=full", "--out", str(out))
    claims = []
    for path in out.glob("*/claims.json"):
        for claim in json.loads(path.read_text()).values():
            for f in claim["findings"]:
                text = f"{f['claim']:5} {f['statement']}: predicted {f['predicted']}; found {f['found']}"
                claims.append(f"{text}; holds: {'yes' if f['holds'] else 'NO'}")
    return Outcome(tables=sorted(out.glob("*/*.csv")), claims=sorted(claims))


def sgdlit(folder: Path, *arguments: str) -> str:
    """Run a command, with an empty cache of C libraries, on which the choice of engines depends."""
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "SGDLIT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "sgdlit", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "SGDLIT_DATA"} | own
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


# The cases


def new(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": CLASSES[name], "init_args": arguments}


def config(
    network: dict[str, Any],
    data: dict[str, Any],
    optimizer: dict[str, Any],
    steps: int,
    every: int = 6,
    ensemble: list[dict[str, Any]] | None = None,
    trainer: dict[str, Any] | None = None,
    **model: Any,
) -> dict[str, Any]:
    """What ``fit`` is given: rows of ``metrics.csv`` ``every`` so many steps, evaluations half as often."""
    if not any(data["class_path"] == CLASSES[name] for name in ("CIFAR10", "FashionMNIST", "Shapes")):
        data = {**data, "init_args": {"steps": steps, "test_size": 40, **data["init_args"]}}
    clock = {
        "max_epochs": -1,
        "max_steps": steps,
        "log_every_n_steps": every,
        "val_check_interval": 2 * every,
    }
    clock |= {
        "check_val_every_n_epoch": None,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
    }
    run = new("Training", network=network, optimizer=optimizer, **model)
    trainer = clock | (trainer or {})
    return {"seed_everything": 3, "ensemble": ensemble, "model": run, "data": data, "trainer": trainer}


def trains(*arguments: Any, **more: Any) -> Case:
    return lambda folder: Outcome([fit(folder, config(*arguments, **more))])


def claims(*commands: str) -> Case:
    return lambda folder: reproduce(folder, *commands)


def sgd(lr: float, **arguments: Any) -> dict[str, Any]:
    return new("SGD", lr=lr, **arguments)


def mlp(*widths: int) -> dict[str, Any]:
    return new("MLP", widths=list(widths))


def wrn(normalization: str) -> dict[str, Any]:
    return new("WideResNet", depth=10, width=1, normalization=normalization)


def sensing(d: int, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    network = new("BilinearForm", net=new("DeepLinear", widths=[d, d, d]))
    return network, new("MatrixSensing", d=d, r=2, gamma=10, **arguments)


def stack(normalization: str) -> tuple[dict[str, Any], dict[str, Any]]:
    network = new("BilinearForm", net=new("NormalizedStack", width=16, depth=3, normalization=normalization))
    return network, new("MatrixSensing", d=16, r=2, gamma=0.04, batch_size=8)


def classes(**arguments: Any) -> dict[str, Any]:
    return new("MLPTeacher", widths=[16, 16, 5], labels="hard", batch_size=8, **arguments)


def shapes(**arguments: Any) -> dict[str, Any]:
    return new("Shapes", train_size=40, test_size=20, batch_size=8, **arguments)


def cases(data: str) -> dict[str, Case]:
    """All of them by name; ``data`` is the folder with CIFAR-10 and Fashion-MNIST."""

    def fashion(**arguments: Any) -> dict[str, Any]:
        return new("FashionMNIST", root=data, **{"pool": 4, "val_size": 10, "batch_size": 10, **arguments})

    small, half, double = mlp(49, 16, 10), {"loss": "half_squared_error"}, {"precision": "64-true"}
    ranks = {"devices": 2, "strategy": "ddp"}
    of_matrix = [new("RelativeError"), new("SensingRisk"), new("SensingSpectrum", every_n_steps=1000)]
    linear = {"callbacks": [new("Measures", every_n_steps=30, measures=of_matrix)]}
    unseen = {"callbacks": [new("Measures", every_n_steps=30, measures=[new("UnseenError")])]}
    log_spaced, average = new("LogSpacedValidation", first=4), new("IterateAverage", decay=0.8)
    target = new("StopAtTarget", metric="train_set/accuracy", at_least=0.5)
    worlds = {"data.shard_size": [16, 30, None], "data.evaluate_train": [True, True, False]}
    two_seeds = {"seed_everything": [0, 1]}

    # fmt: off
    found: dict[str, Case] = {
        "sensing_fused": trains(
            *sensing(24), sgd(3e-5), 300, 60, **half, engine="fused", trainer=linear),
        "sensing_fused_float64": trains(
            *sensing(16), sgd(4e-5), 200, 60, **half, engine="fused", steps_per_call=7, trainer=double),
        "sensing_rank_one": trains(
            *sensing(16, batch_size=4, distribution="sparse"), sgd(2e-5, weight_decay=0.1), 120, 30, **half,
            engine="rank_one", reduction="sum", scheduler=new("SampleWarmUp", samples=200, batch_size=4)),
        "sensing_batchnorm": trains(
            *stack("batchnorm"), sgd(1e-4, momentum=0.9), 40, **half, reduction="sum", trainer=unseen),
        "sensing_layernorm_adam": trains(
            *stack("layernorm"), new("Adam", lr=4e-3), 40, **half, reduction="sum", engine="stacked"),
        "linear_auto_float64": trains(
            new("DeepLinear", widths=[20, 1]),
            new("LinearTeacher", d=20, spectrum="power_law", label_noise=0.1, batch_size=4),
            sgd(0.1), 60, **half, trainer=double),
        "linear_diagonal_penalty": trains(
            new("DiagonalLinear", d=30),
            new("LinearTeacher", d=30, nonzero=4, shard_size=12, order=new("WithReplacement")),
            sgd(0.05), 150, 30, **half, engine="fused", reg_strength=0.05),
        "mlp_stacked_repeats": trains(
            mlp(16, 24, 1), new("MLPTeacher", widths=[16, 8, 1], batch_size=8, repeats=2, val_size=20),
            sgd(0.05, momentum=0.5), 48, **half, engine="stacked",
            reg_strength=new("TiedToLearningRate", ratio=2.0),
            objective=new("ExactPenalty", penalty_batch_size=4),
            scheduler=new("MultiStepLR", milestones=[20, 35], gamma=0.5)),
        "mlp_loop_finite_difference": trains(
            mlp(16, 24, 5), classes(shard_size=24, order=new("SingleShuffle"), repeats=3),
            new("AdamW", lr=0.01, weight_decay=0.1), 36, engine="loop", reg_strength=0.1,
            objective=new("FiniteDifferencePenalty")),
        "mlp_compiled": trains(
            mlp(16, 24, 5), classes(), sgd(0.1), 24, engine="compiled", reg_strength=0.1),
        "xor_single_steps": trains(
            mlp(12, 16, 1), new("XOR", d=12, batch_size=8), sgd(0.2, momentum=0.9, nesterov=True), 40,
            loss="logistic", steps_per_call=1,
            reg_strength=new("PiecewiseStrength", values=[0.0, 0.2], boundaries=[15])),
        "mixture_compiled_penalty": trains(
            mlp(16, 24, 5),
            new("GaussianMixture", d=16, classes=5, batch_size=8, val_size=20, shard_size=40,
                order=new("FixedList", indices=[*range(0, 40, 2), 1, 3, 5, 7])),
            sgd(0.1), 24, reg_strength=0.2, objective=new("ExactPenalty", penalty_batch_size=4),
            scheduler=new("CosineAnnealingLR", T_max=24)),
        "shapes_stream_bf16": trains(
            new("SimpleCNN", channels=[4, 8], hidden=16, in_channels=3, image_size=32),
            new("ShapesStream", batch_size=8, augment=True), sgd(0.05, momentum=0.9), 18,
            reg_strength=0.01, trainer={"precision": "bf16-mixed"}),
        "cifar10_wrn_penalty": trains(
            wrn("skipinit"),
            new("CIFAR10", root=data, batch_size=10, val_size=20, order=new("ForwardThenReversed")),
            sgd(0.1, weight_decay=5e-4), 18, channels_last=True, reg_strength=0.1),
        "shapes_wrn_batchnorm": trains(
            wrn("batchnorm"), shapes(evaluate_train=True), sgd(0.1, momentum=0.9), 12),
        "fashion_clipped": trains(
            small, fashion(batch_size=8, last_batch="short", balanced=True, order=new("RandomReshuffling")),
            sgd(0.1, momentum=0.9), 24, trainer={"gradient_clip_val": 0.5}),
        "fashion_accumulated": trains(
            small, fashion(augment=True), new("Adam", lr=0.01), 24, reg_strength=0.1,
            objective=new("ExactPenalty", penalty_batch_size=5),
            trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}),
        "fashion_two_ranks": trains(
            small, fashion(), sgd(0.1, momentum=0.9), 24, reg_strength=0.1, trainer=ranks),
        "fashion_target": trains(
            small, fashion(evaluate_train=True), sgd(0.05), 90,
            trainer={"callbacks": [log_spaced, target]}),
        "ensemble_wrn": trains(
            wrn("skipinit"), shapes(), sgd(0.1), 12, ensemble=[two_seeds], reg_strength=0.05),
        "ensemble_two_ranks": trains(
            small, fashion(), sgd(0.1), 24, ensemble=[{"seed_everything": [0, 1, 2]}], trainer=ranks),
        "deep_bootstrap": trains(
            mlp(16, 24, 5), classes(temperature=0.0, last_batch="drop"), sgd(0.1), 64,
            ensemble=[worlds, two_seeds],
            trainer={"val_check_interval": 64, "callbacks": [log_spaced]}),
        "theory_modified_flow": claims(
            f"smith2021:M1 --m=3 --halvings=3 --n_steps=[1,2] --order_pairs=2 --data={data}", "barrett2021"),
        "theory_noisy_quadratic": claims(
            "zhang2019:G2 --dimensions=2500 --rates=24 --pieces=3 "
            "--batch_sizes=[1.0,16.0,256.0] --target=0.05"),
        "theory_rate_drop": claims(
            "grosse2021:G3 --drop.dimensions=20 --drop.steps=400 --drop.simulations=40"),
        "theory_linear_regression": claims(
            "grosse2021:G12 --regression.covariance_samples=20000 --regression.runs=40 "
            "--regression.steps=100",
            "strohmer2009 --runs=40", "ma2018 --weights=5 --examples=40",
            "kidambi2018 --conditions=[64.0,256.0]"),
        "theory_online_convex": claims("blog:B10 --convex.steps=[10,100] --convex.runs=50"),
        "theory_least_squares": claims("blog:B2 --least_squares.d=24"),
    }
    # fmt: on

    @added(found)
    def fashion_resumed(folder: Path) -> Outcome:
        ramp = new("LinearRampStrength", start=0.0, end=0.1, begin=4, steps=20)
        callbacks = {"callbacks": [log_spaced, average]}
        sgdm = sgd(0.05, momentum=0.9)
        what = config(small, fashion(repeats=2), sgdm, 40, reg_strength=ramp, trainer=callbacks)
        run = resume(folder, fit(folder, what, "--trainer.max_steps=20"), "--trainer.max_steps=40")
        predict(folder, run)
        return Outcome([run])

    @added(found)
    def ensemble_sensing_exported(folder: Path) -> Outcome:
        axes = [{"data.gamma": [1, 10], "model.optimizer.lr": [5e-4, 5e-5]}, two_seeds]
        run = fit(folder, config(*sensing(16), sgd(5e-5), 120, 30, axes, **half))
        return Outcome([run, export(folder, run, 2)])

    @added(found)
    def ensemble_mlp_resumed_exported(folder: Path) -> Outcome:
        axes = [two_seeds, {"model.optimizer.lr": [0.02, 0.1], "model.reg_strength": [0.0, 0.1]}]
        callbacks = {"callbacks": [average]}
        what = config(small, fashion(), sgd(0.1, momentum=0.9), 24, ensemble=axes, trainer=callbacks)
        run = resume(folder, fit(folder, what, "--trainer.max_steps=12"), "--trainer.max_steps=24")
        return Outcome([run, resume(folder, export(folder, run, 3), "--trainer.max_steps=36")])

    @added(found)
    def noisy_quadratic_runs(folder: Path) -> Outcome:
        noise = new("GradientNoise", d=20, batch_size=4, test_size=1)
        what = config(new("Quadratic", d=20), noise, sgd(0.3, momentum=0.5), 60, loss="network_output")
        runs = [fit(folder, what, f"--seed_everything={k}", version=k) for k in range(3)]
        return Outcome(runs) + reproduce(folder, f"zhang2019:F5 --runs={runs[0].parent}")

    @added(found)
    def rate_drop_of_runs(folder: Path) -> Outcome:
        drop = new("MultiStepLR", milestones=[60], gamma=0.1)
        run = fit(folder, config(small, fashion(), sgd(0.1), 120, 3, scheduler=drop))
        options = "--drop.dimensions=10 --drop.steps=100 --drop.simulations=10"
        return Outcome([run]) + reproduce(folder, f"grosse2021:G3 {options} --drop.runs={run.parent}")

    @added(found)
    def small_sweep(folder: Path) -> Outcome:
        teacher, rate = new("LinearTeacher", d=8, nonzero=2, shard_size=8), "model.optimizer.lr"
        grids = {"rate": [{rate: ["2^-3", "2^-1", "2^7"]}], "strength": [{"model.reg_strength": [0.1, 1]}]}
        figures = {"loss": {"x": rate, "log": "xy", "curves": [{"grid": "rate"}]}}
        section = {"seeds": 3, "grids": grids, "metric": "test/loss", "figures": figures}
        what = config(new("DiagonalLinear", d=8), teacher, sgd(0.1), 24, **half)
        return Outcome(tables=sweep(folder, what | {"sweep": section}))

    return found


def added(found: dict[str, Case]) -> Callable[[Case], Case]:
    return lambda case: found.setdefault(case.__name__, case)


def write_data(folder: Path) -> str:
    """Small files in the official formats of CIFAR-10 and Fashion-MNIST."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from official_formats import write_cifar10, write_fashion_mnist

    write_cifar10(folder)
    write_fashion_mnist(folder, 70)
    return str(folder)
