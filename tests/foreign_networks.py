"""Networks that were not written for this package, small ones of the kinds that people bring: what measures
say of them is compared with second implementations in ``tests/unit/test_foreign_networks.py``.

Each is written as its authors would write it, in plain torch. A :class:`Foreign` says what it sees, which
loss fits it, and, where some measures have to refuse it, the words of the sentence that says why.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sgdlit.objectives import CrossEntropy, HalfSquaredError, Loss


@dataclass(frozen=True)
class Foreign:
    """A network, what it sees and gives.

    Attributes:
        make: builds it; the seed is set before.
        inputs: of one example: its shape; for tokens ``(length,)``.
        classes: that it tells apart; None for a regression on its outputs.
        tokens: how many words there are, where it sees words.
        dtype: of its parameters.
        training: whether it is measured in training mode.
        loss: its own, in place of cross-entropy or the half squared error.
        refused: kind of measures -> words of the sentence that refuses them: ``products``, ``gauss-newton``,
            ``examples`` (gradients of single examples), ``all``.
        draws: whether it draws random numbers in that mode, so that it has no second implementation.
        stops: whether some of what it computes is not differentiated, so that its gradient is not that of its
            outputs and differences of gradients are another matrix.
        oracle: whether curvlinops can do it; else the reason why not.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    classes: int | None = 3
    tokens: int | None = None
    dtype: torch.dtype = torch.float64
    training: bool = False
    loss: Loss | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    draws: bool = False
    stops: bool = False
    oracle: bool | str = True

    def network(self) -> nn.Module:
        """It, in its mode; its parameters and statistics are drawn, none of them at a special value."""
        torch.manual_seed(0)
        network = self.make().to(self.dtype)
        for p in network.parameters():
            if p.dim() <= 1 and p.is_floating_point():
                nn.init.normal_(p, mean=0.4, std=0.1)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        return network.train(self.training)

    def batch(self, examples: int = 12) -> tuple[Tensor, Tensor]:
        """Inputs and targets."""
        generator = torch.Generator().manual_seed(1)
        shape = (examples, *self.inputs)
        if self.tokens:
            x = torch.randint(self.tokens, shape, generator=generator)
        else:
            x = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)
        if self.classes:
            return x, torch.randint(self.classes, (examples,), generator=generator)
        network = self.network()
        with torch.no_grad():
            outputs = network(x.clone())
        first = outputs if isinstance(outputs, Tensor) else next(iter(outputs.values()))
        y = torch.randn(first.shape, generator=generator, dtype=torch.float64)
        return x, y.to(torch.float32 if self.dtype == torch.bfloat16 else self.dtype)

    @property
    def cost(self) -> Loss:
        if self.loss is not None:
            return self.loss
        return CrossEntropy() if self.classes else HalfSquaredError()


class BasicBlock(nn.Module):
    """A block of a residual network (He et al. 2016) with its shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18 with one channel in 32: eight blocks in four stages."""

    def __init__(self, width: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 2 * width, 4 * width]
        self.layers = nn.Sequential(
            *[
                nn.Sequential(
                    BasicBlock(widths[k], widths[k + 1], 1 + k % 2), BasicBlock(*2 * (widths[k + 1],), 1)
                )
                for k in range(4)
            ]
        )
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


class TiedTransformer(nn.Module):
    """A causal language model whose output matrix is its embedding; it tells the next word from the last."""

    def __init__(self, words: int = 9, width: int = 8) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(6, width)
        layer = nn.TransformerEncoderLayer(width, 2, 16, 0.1, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor) -> Tensor:
        t = idx.shape[1]
        x = self.wte(idx) + self.wpe(torch.arange(t, device=idx.device))
        mask = torch.triu(torch.full((t, t), -math.inf, dtype=x.dtype), 1)
        return self.lm_head(self.ln_f(self.blocks(x, mask=mask)))[:, -1]


class Recurrent(nn.Module):
    """Words, a recurrent network, and a class; a word of padding has a vector that is not trained."""

    def __init__(
        self, kind: type[nn.RNNBase], layers: int = 1, both: bool = False, padding: int | None = None
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=padding)
        self.rnn = kind(4, 5, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(10 if both else 5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0].mean(1))


class Attention(nn.Module):
    """One block of multi-head attention, queries from a learned vector."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.attention(self.query.expand(len(x), -1, -1), x, x)
        return self.head(found.squeeze(1))


class Shared(nn.Module):
    """One convolution that is used twice, beside a layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.out, self.forgotten = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.step(x))
        return self.out(torch.tanh(self.step(x)).flatten(1))


class Branching(nn.Module):
    """How often a row is worked on depends on its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.more, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for row in x:
            row = torch.tanh(self.once(row))
            for _ in range(int(3 * row.detach().abs().max())):
                row = torch.sin(self.more(row))
            rows.append(self.out(row if row.sum() > 0 else row.abs()))
        return torch.stack(rows)


class Fourier(nn.Module):
    """A filter in frequency space: complex numbers between real ones (as in a Fourier neural operator)."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.out = nn.Parameter(0.5 * torch.randn(9, 2)), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x, dim=-1) * torch.view_as_complex(self.filter)
        return self.out(F.gelu(torch.fft.irfft(spectrum, n=16, dim=-1)))


class Counting(nn.Module):
    """Keeps a running scale of what it sees and divides by it, in evaluation too, as careless code does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.ones(8))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inner(x)) / self.scale.clone()
        self.scale.mul_(0.9).add_(0.1)
        self.scale += 0.01
        self.seen += 1
        return self.out(x)


class Checkpointed(nn.Module):
    """Forgets activations and computes them again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.body, self.out = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        first = self.body[1](self.body[0](x))
        return self.out(torch.tanh(checkpoint(self.body[2], first, use_reentrant=self.reentrant)))


class Nested(nn.Module):
    """Gives a dictionary, as many published models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.extra = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.body(x))
        return {"logits": self.head(hidden), "auxiliary": self.extra(hidden)}


class OfNested(Loss):
    """Cross-entropy of the first output, and a tenth of the second one's square."""

    def per_example(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        own = F.cross_entropy(outputs["logits"], targets, reduction="none")
        return own + 0.1 * outputs["auxiliary"].square().sum(-1)


class InPlace(nn.Module):
    """Standardises its inputs where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.3).mul_(1.7))


class Centred(nn.Module):
    """Takes the mean of its batch away."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - x.mean(0))


class Noisy(nn.Module):
    """Adds noise to its inputs whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.randn_like(x))


class MixedExperts(nn.Module):
    """Two experts, of which the better one in each row counts; some of the layers are in another dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 2), nn.ModuleList([nn.Linear(6, 3) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.gate(x), -1)
        top = weights.topk(1, -1)
        found = torch.stack([expert(x) for expert in self.experts], 1)
        chosen = found.gather(1, top.indices.unsqueeze(-1).expand(-1, -1, 3)).squeeze(1)
        return chosen * top.values


class Bag(nn.Module):
    """A bag of words."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(7, 5, mode="mean"), nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.bag(tokens)))


def frozen_backbone() -> nn.Module:
    body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten())
    body.requires_grad_(False)
    return nn.Sequential(body, nn.Linear(24, 6), nn.Dropout(0.3), nn.LayerNorm(6), nn.Linear(6, 3))


def mobile() -> nn.Module:
    """Depthwise, pointwise and dilated convolutions with squeeze and excitation's relatives."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Hardswish(),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.ReLU6(),
        nn.Conv2d(4, 6, 1),
        nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1),
        nn.ELU(),
        nn.ConvTranspose2d(3, 2, 4, 2, 1),
        nn.PReLU(2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(2, 1, 3, 2, 1),
    )


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(6, 8)), nn.Tanh(), norm(nn.Linear(8, 3)))


LAYER_NORM = "torch 2.13 has a wrong forward derivative of the gradient of LayerNorm and GroupNorm"

FOREIGN: dict[str, Foreign] = {
    "ResNet-18, BatchNorm in eval": Foreign(ResNet18, (3, 16, 16)),
    "transformer, tied weights": Foreign(TiedTransformer, (6,), 9, tokens=9, oracle=LAYER_NORM),
    "LSTM, two layers": Foreign(lambda: Recurrent(nn.LSTM, 2), (5,), tokens=7),
    "LSTM, float32": Foreign(lambda: Recurrent(nn.LSTM), (5,), tokens=7, dtype=torch.float32),
    "GRU, both directions": Foreign(lambda: Recurrent(nn.GRU, both=True), (5,), tokens=7),
    "plain RNN": Foreign(lambda: Recurrent(nn.RNN), (5,), tokens=7),
    "a word of padding": Foreign(
        lambda: Recurrent(nn.RNN, padding=0),
        (5,),
        tokens=7,
        stops=True,
        oracle="it moves the vector of padding",
    ),
    "multi-head attention": Foreign(Attention, (4, 6)),
    "frozen backbone, GroupNorm, dropout": Foreign(frozen_backbone, (2, 8), oracle=LAYER_NORM),
    "depthwise, dilated, InstanceNorm": Foreign(mobile, (2, 10, 10)),
    "autoencoder, transposed convolution": Foreign(autoencoder, (1, 8, 8), None),
    "3-D convolution": Foreign(
        lambda: nn.Sequential(
            nn.Conv3d(1, 2, 3), nn.Softplus(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        (1, 6, 6, 6),
    ),
    "1-D convolution, weight norm": Foreign(
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Conv1d(2, 3, 3, padding="same")),
            nn.Mish(),
            nn.Flatten(),
            parametrizations.weight_norm(nn.Linear(24, 3)),
        ),
        (2, 8),
        oracle="forward differentiation of the weight norm is missing",
    ),
    "spectral norm": Foreign(lambda: normed(parametrizations.spectral_norm), (6,)),
    "spectral norm in training": Foreign(
        lambda: normed(parametrizations.spectral_norm),
        (6,),
        training=True,
        stops=True,
        oracle="its buffers move",
    ),
    "orthogonal": Foreign(lambda: normed(parametrizations.orthogonal), (6,)),
    "module used twice, layer unused": Foreign(
        Shared, (2, 4, 4), oracle="it asks for the gradient of parameters that take no part"
    ),
    "branches that depend on numbers": Foreign(Branching, (5,)),
    "complex numbers inside": Foreign(Fourier, (16,)),
    "buffers that forward moves": Foreign(Counting, (6,), oracle="its buffers move"),
    "experts": Foreign(MixedExperts, (6,)),
    "inputs changed in place": Foreign(InPlace, (6,), oracle="it would see other inputs each time"),
    "dictionary of outputs": Foreign(
        Nested,
        (6,),
        loss=OfNested(),
        refused={"gauss-newton": "outputs are a dict"},
        oracle="it wants one tensor",
    ),
    "checkpointing": Foreign(lambda: Checkpointed(False), (6,), oracle="torch.func knows no checkpoints"),
    "checkpointing, reentrant": Foreign(
        lambda: Checkpointed(True), (6,), refused={"all": "use_reentrant=False"}, oracle="it cannot"
    ),
    "bfloat16": Foreign(
        lambda: nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 3)),
        (6,),
        dtype=torch.bfloat16,
        oracle=LAYER_NORM,
    ),
    "float32": Foreign(
        lambda: nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 3)),
        (6,),
        dtype=torch.float32,
        oracle=LAYER_NORM,
    ),
    "BatchNorm in training": Foreign(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)),
        (6,),
        training=True,
        refused={"examples": r"BatchNorm1d takes the statistics of the batch"},
        oracle="its running statistics move",
    ),
    "dropout in training": Foreign(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3)),
        (6,),
        training=True,
        refused={"examples": "draws random numbers"},
        draws=True,
        oracle="it draws anew",
    ),
    "noise in evaluation": Foreign(
        Noisy, (6,), refused={"examples": "draws random numbers"}, draws=True, oracle="it draws anew"
    ),
    "mean of the batch taken away": Foreign(
        Centred, (6,), refused={"examples": "alone and .* in a batch of 4"}
    ),
    "bag of words": Foreign(
        Bag, (5,), tokens=7, refused={"products": "without a second derivative"}, oracle="nor can it"
    ),
    "all frozen": Foreign(
        lambda: nn.Sequential(nn.Linear(6, 3)).requires_grad_(False),
        (6,),
        refused={"all": "no parameters that require a gradient"},
        oracle="it cannot",
    ),
}
"""By name."""
