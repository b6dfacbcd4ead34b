"""A decoder of tokens: embeddings, pre-LN blocks of causal attention and an MLP, and a head of its own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import Linear


class CausalAttention(nn.Module):
    """softmax(QKᵀ/√d_head, of the past) V in each head, then a matrix over all heads.

    Args:
        width: numbers per token.
        heads: which share the width.

    Shapes: input and output (batch, length, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = Linear(width, 3 * width)
        self.output = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # [batch, heads, length, length]
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, -math.inf).softmax(-1)
        return self.output((weights @ v).transpose(-3, -2).flatten(-2))


class PreNormBlock(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)), with one hidden GELU layer four times as wide.

    Args:
        width: numbers per token.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class TinyTransformer(nn.Module):
    """Tokens -> logits of each next token, by a pre-LN transformer (Xiong et al. 2020, 2002.04745).

    Positions are learned, the last block is followed by a LayerNorm, and the head is not tied to the
    embedding. Embeddings of tokens and positions start as N(0, 0.1²), other matrices as N(0, 1/fan_in),
    biases at 0.

    Args:
        vocabulary: number of tokens.
        length: of the longest sequence.
        width: numbers per token.
        heads: of each attention; they divide the width.
        blocks: how many.

    Shapes: input int64 (batch, length) or shorter, output (batch, length, vocabulary).

    Raises:
        UserError: a size below 1, heads that do not divide the width; in ``forward``, a longer sequence.
    """

    def __init__(
        self,
        vocabulary: int = 512,
        length: int = 16,
        width: int = 32,
        heads: int = 2,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "length": length, "width": width, "heads": heads, "blocks": blocks}
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; give 1 or more")
        if width % heads:
            raise UserError(f"heads: {heads} do not divide the width {width}")
        self.length = length
        self.token = nn.Parameter(torch.empty(vocabulary, width))
        self.position = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(PreNormBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = Linear(width, vocabulary, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding, std=0.1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[-1] > self.length:
            raise UserError(f"data.length: {tokens.shape[-1]} tokens in a network for {self.length}")
        x = F.embedding(tokens, self.token) + self.position[: tokens.shape[-1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
