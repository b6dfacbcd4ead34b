"""The same works in JAX, each a program of some lines: jit, a scan over steps, vmap over members.

Its data are drawn inside the step, and nothing is reported. A step of WRN-10-1 is called from Python: in a
scan XLA's convolutions on a CPU take many times as long.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from benchmarks import ensembles, fit, sensing
from benchmarks.common import Row, medians, relative_to_first
from benchmarks.limits import limit_of_sensing, limit_of_step
from benchmarks.networks import CASES, STRENGTH
from sgdlit.data.teachers import MLPTeacher
from sgdlit.models import MLP, DeepLinear, WideResNet

Seconds = Callable[[], float]
MISSING = "JAX is not installed: pip install sgdlit[bench], or leave out the group jax"


def against_jax(rounds: int, compiled: bool) -> list[Row]:
    """Through fit, with what it reports, against the program in JAX."""
    if find_spec("jax") is None:
        print(MISSING)
        return []
    rows: list[Row] = []
    for name, jax, ours, limit, target in works():
        timed = medians({"JAX": jax(), **ours}, min(rounds, 3))
        rows += relative_to_first(timed, f"against JAX, {name}", limit, {"fit": target})
    return rows


class Work(NamedTuple):
    """The program in JAX, made when it is its turn; ours; the limit of a step; and the aim."""

    name: str
    jax: Callable[[], Seconds]
    ours: dict[str, Seconds]
    limit: float | None
    target: float


def works() -> list[Work]:
    plain, deep, full, rate = CASES[0], [64] * 6, [784, 256, 10], 0.131 / 100

    def members(d: int, count: int) -> Seconds:
        return lambda: sensing.together(d, count, 2048, rate / d**2)

    def stacked(network: Any, data: Any, loss: str, steps: int) -> Seconds:
        return lambda: ensembles.together(network, data, loss, steps)

    streams = [MLPTeacher([64, 64], steps=211, batch_size=32, seed=s, test_size=1) for s in range(64)]
    images = ensembles.some_images
    wrn, mlp = WideResNet(10, 1), MLP(full)

    def layers(widths: list[int]) -> dict[str, Seconds]:
        return {"its products alone": lambda: ensembles.products_alone(widths, 64)}

    return [
        Work("sensing d=256", lambda: sensing_steps(256, 1, 8192, 2e-8),
             {"fit": lambda: sensing.fitted(256, 8192, 2e-8)}, limit_of_sensing(256), 0.8),
        Work("32 members d=32", lambda: sensing_steps(32, 32, 2048, rate / 32**2),
             {"fit": members(32, 32)}, limit_of_sensing(32, 32), 0.6),
        Work("8 members d=128", lambda: sensing_steps(128, 8, 2048, rate / 128**2),
             {"fit": members(128, 8)}, limit_of_sensing(128, 8), 0.4),
        Work("deep linear, 64 members", lambda: network_steps(deep, True, 64, 200),
             {"fit": stacked(lambda: DeepLinear(deep), streams, "half_squared_error", 211)} | layers(deep),
             limit_of_step(DeepLinear(deep), F.mse_loss, torch.rand(32, 64), torch.rand(32, 64), 64), 0.6),
        Work("MLP, 64 members", lambda: network_steps(full, False, 64, 50),
             {"fit": stacked(lambda: MLP(full), ensembles.images((1, 28, 28), 64)(64), "cross_entropy", 61)}
             | layers(full), limit_of_step(mlp, F.cross_entropy, *images(1, 28), 64), 0.6),
        Work("WRN-10-1", lambda: wrn_steps(0.0, 20), {"fit": lambda: fit.fit_step(plain, 0.0)},
             limit_of_step(wrn, F.cross_entropy, *images(3, 32)), 0.45),
        Work("WRN-10-1 with λ", lambda: wrn_steps(STRENGTH, 10),
             {"fit": lambda: fit.fit_step(plain, STRENGTH)},
             limit_of_step(wrn, F.cross_entropy, *images(3, 32), penalty=True), 0.17),
        Work("the blog's experiment, whole process", lambda: lambda: sensing.process_seconds(["-c", PROCESS]),
             {"fit": lambda: sensing.process_seconds(sensing.FIT)}, None, 2.2),
    ]  # fmt: skip


# The programs


def timed(run: Callable[[], Any], steps: int) -> Seconds:
    """Seconds per step of a program; it is compiled first."""
    import jax

    jax.block_until_ready(run())

    def seconds() -> float:
        start = time.perf_counter()
        jax.block_until_ready(run())
        return (time.perf_counter() - start) / steps

    return seconds


def sensing_steps(d: int, members: int, steps: int, lr: float) -> Seconds:
    """Matrix sensing at B = 1."""
    import jax
    from jax import numpy as jnp
    from jax import random

    left, right = random.normal(random.key(1), (d, 2)), random.normal(random.key(2), (2, d))
    target = 100 * left @ right

    def cost(w: Any, a: Any, b: Any) -> Any:
        return 0.5 * ((a @ w[0]) @ (w[1] @ b) - (a @ target) @ b) ** 2

    def step(w: Any, key: Any) -> tuple[Any, None]:
        a, b = random.normal(key, (2, d))
        return jax.tree.map(lambda p, g: p - lr * g, w, jax.grad(cost)(w, a, b)), None

    def trained(key: Any) -> Any:
        w = tuple(random.normal(key, (2, d, d)) / d**0.5)
        return jax.lax.scan(step, w, random.split(key, steps))[0]

    run = jax.jit(jax.vmap(trained) if members > 1 else trained)
    keys = random.split(random.key(0), members) if members > 1 else random.key(0)
    return timed(lambda: run(jnp.asarray(keys)), steps)


def network_steps(widths: list[int], linear: bool, members: int, steps: int) -> Seconds:
    """A network of full layers at B = 32: on a linear teacher's numbers, or on images of random bytes."""
    import jax
    from jax import numpy as jnp
    from jax import random

    images = random.randint(random.key(1), (4800, widths[0]), 0, 256, jnp.uint8)
    labels = random.randint(random.key(2), (4800,), 0, 10)
    teacher = random.normal(random.key(3), (widths[0], widths[-1])) / widths[0] ** 0.5

    def outputs(layers: Any, x: Any) -> Any:
        for k, (weight, bias) in enumerate(layers):
            x = x @ weight + (0 if linear else bias)
            x = x if linear or k == len(layers) - 1 else jax.nn.relu(x)
        return x

    def cost(layers: Any, key: Any) -> Any:
        if linear:
            x = random.normal(key, (32, widths[0]))
            return 0.5 * ((outputs(layers, x) - x @ teacher) ** 2).sum(1).mean()
        chosen = random.randint(key, (32,), 0, len(images))
        x = images[chosen] / 255.0
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        logits = jax.nn.log_softmax(outputs(layers, x))
        return -jnp.take_along_axis(logits, labels[chosen][:, None], 1).mean()

    def step(layers: Any, key: Any) -> tuple[Any, None]:
        return jax.tree.map(lambda p, g: p - 2.0**-10 * g, layers, jax.grad(cost)(layers, key)), None

    def trained(key: Any) -> Any:
        layers = [(random.normal(key, (m, n)) / m**0.5, jnp.zeros(n)) for m, n in pairwise(widths)]
        return jax.lax.scan(step, layers, random.split(key, steps))[0]

    run, keys = jax.jit(jax.vmap(trained)), random.split(random.key(0), members)
    return timed(lambda: run(keys), steps)


def wrn_steps(strength: float, steps: int) -> Seconds:
    """WRN-10-1 with SkipInit at B = 32, with the exact regularizer λ/4·‖∇C‖² where there is one."""
    import jax
    from jax import numpy as jnp
    from jax import random

    images = random.randint(random.key(1), (4800, 32, 32, 3), 0, 256, jnp.uint8)
    labels = random.randint(random.key(2), (4800,), 0, 10)

    def cost(p: Any, key: Any) -> Any:
        chosen = random.randint(key, (32,), 0, len(images))
        logits = jax.nn.log_softmax(wide_resnet(p, images[chosen] / 127.5 - 1))
        return -jnp.take_along_axis(logits, labels[chosen][:, None], 1).mean()

    def modified(p: Any, key: Any) -> Any:
        if not strength:
            return cost(p, key)
        value, gradient = jax.value_and_grad(cost)(p, key)
        return value + strength / 4 * sum((g**2).sum() for g in jax.tree.leaves(gradient))

    @jax.jit
    def step(p: Any, key: Any) -> Any:
        return jax.tree.map(lambda p, g: p - 2.0**-8 * g, p, jax.grad(modified)(p, key))

    start, keys = wide_resnet_parameters(random.key(0)), random.split(random.key(3), steps)

    def run() -> Any:
        p = start
        for key in keys:
            p = step(p, key)
        return p

    return timed(run, steps)


BLOCKS = ((16, 16, 1), (16, 32, 2), (32, 64, 2))


def wide_resnet_parameters(key: Any) -> dict[str, Any]:
    """He's initialization; SkipInit's scalars and biases at 0."""
    from jax import numpy as jnp
    from jax import random

    shapes = {"stem": (3, 3, 3, 16)}
    for k, (m, n, _) in enumerate(BLOCKS):
        shapes |= {f"{k}a": (3, 3, m, n), f"{k}b": (3, 3, n, n)} | ({f"{k}s": (1, 1, m, n)} if m != n else {})
    found = {}
    for name, (h, w, m, n) in shapes.items():
        found[name] = (random.normal(key, (h, w, m, n)) * (2 / (h * w * m)) ** 0.5, jnp.zeros(n))
    return {
        "convolutions": found,
        "scales": [jnp.zeros(()) for _ in BLOCKS],
        "head": (random.normal(key, (64, 10)) / 8, jnp.zeros(10)),
    }


def wide_resnet(p: dict[str, Any], x: Any) -> Any:
    """Logits [B, 10] of images [B, 32, 32, 3]."""
    import jax

    def convolved(name: str, x: Any, stride: int = 1) -> Any:
        weight, bias = p["convolutions"][name]
        edge = [(weight.shape[0] // 2,) * 2] * 2
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, edge, dimension_numbers=layout) + bias

    x = convolved("stem", x)
    for k, (m, n, stride) in enumerate(BLOCKS):
        active = jax.nn.relu(x)
        shortcut = x if m == n else convolved(f"{k}s", active, stride)
        inner = jax.nn.relu(convolved(f"{k}a", active, stride))
        x = shortcut + p["scales"][k] * convolved(f"{k}b", inner)
    weight, bias = p["head"]
    return jax.nn.relu(x).mean((1, 2)) @ weight + bias


PROCESS = """
import jax
from jax import numpy as jnp, random
d, lr = 256, 2e-8
target = 100 * random.normal(random.key(1), (d, 2)) @ random.normal(random.key(2), (2, d))
def cost(w, a, b):
    return 0.5 * ((a @ w[0]) @ (w[1] @ b) - (a @ target) @ b) ** 2
def step(w, key):
    a, b = random.normal(key, (2, d))
    return jax.tree.map(lambda p, g: p - lr * g, w, jax.grad(cost)(w, a, b)), None
@jax.jit
def trained(key):
    return jax.lax.scan(step, tuple(random.normal(key, (2, d, d)) / d**0.5), random.split(key, 32768))[0]
w1, w2 = trained(random.key(0))
print(float(jnp.linalg.norm(w1 @ w2 - target) / jnp.linalg.norm(target)))
"""
