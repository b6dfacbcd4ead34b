"""XOR from a stream: two-layer ReLU networks find the two inputs with a number of samples about linear in d.

Source: Glasgow, "SGD finds then tunes features in two-layer neural networks with near-optimal sample
complexity" (2023, 2309.15111): Õ(d) samples, where a fixed kernel needs order d².
"""

import numpy as np
import torch
from fake_trainer import attach

from sgdlit.data.teachers import XOR
from sgdlit.foundations.philox import derive_key
from sgdlit.models import MLP
from sgdlit.objectives import Logistic

BATCH, LR, WIDTH = 16, 0.5, 64


def samples_to_99_percent(d, seed):
    data = attach(XOR(d=d, batch_size=BATCH, steps=1250, test_size=2000, seed=seed))
    torch.manual_seed(derive_key(seed, "initialisation").lo)
    network, loss = MLP([d, WIDTH, 1], bias=False), Logistic()
    parameters = list(network.parameters())
    x_test, y_test = data.draw("test", torch.arange(2000))
    for step, (x, y) in enumerate(data.train_dataloader()):
        if step % 5 == 0:
            with torch.no_grad():
                accuracy = loss.correct(network(x_test), y_test).float().mean()
            if accuracy >= 0.99:
                return step * BATCH
        gradient = torch.autograd.grad(loss(network(x), y), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-LR)
    raise AssertionError(f"99 % not reached at d = {d}, seed {seed}")


def test_samples_to_99_percent_grow_about_linearly():
    dimensions = np.array([10, 20, 40, 80])
    samples = np.array([np.mean([samples_to_99_percent(d, seed) for seed in range(4)]) for d in dimensions])
    line = np.polyval(np.polyfit(dimensions, samples, 1), dimensions)
    assert 1 - np.var(samples - line) / np.var(samples) > 0.97, samples
    exponent = np.polyfit(np.log(dimensions), np.log(samples), 1)[0]
    assert 0.65 < exponent < 1.2, (exponent, samples)
