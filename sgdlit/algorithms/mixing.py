"""Workers: runs that train together and touch each other, by an exchange of parameters at some steps.

A worker is a member of a run. It takes steps of its own, on its own examples; after every H-th step the
mixing changes the parameters of all. :class:`Gossip` is decentralized SGD, in which each worker goes on from
a mean over its neighbours in a graph; :class:`LocalSGD` has a server that moves by the mean of what the
workers did, and :class:`AsynchronousSGD` one that moves whenever a worker arrives. Only parameters are
exchanged: momentum and other state stay with each worker.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sgdlit.algorithms.graphs import GRAPHS, GraphName
from sgdlit.algorithms.member import Member
from sgdlit.data.batches import Block
from sgdlit.foundations.errors import UserError

Networks = Sequence[nn.Module]


class Mixing(ABC):
    """What the workers of a run exchange, and after which steps.

    Args:
        every: H, steps between two exchanges.

    Raises:
        UserError: H below 1.
    """

    def __init__(self, every: int = 1) -> None:
        _require(every >= 1, "every", every, "1 or more")
        self.every = every

    def check(self, members: Sequence[Member]) -> None:
        """Refuse workers that the mixing cannot take.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """

    def due_in(self, block: Block) -> Iterable[int]:
        """Updates after which an exchange is due inside of a block, or at its end."""
        return range((block.start // self.every + 1) * self.every, block.end + 1, self.every)

    def begin(self, networks: Networks) -> None:
        """Take note of where the workers start; called before every block, and only the first time counts."""

    @torch.no_grad()
    def after(self, step: int, networks: Networks) -> None:
        """Exchange, if that is due after ``step`` updates. Parameters stay where they lie in memory."""
        if step % self.every == 0:
            self.exchange(step // self.every, networks)

    @abstractmethod
    def exchange(self, rounds: int, networks: Networks) -> None:
        """The exchange after round number ``rounds``, counted from 1, of H steps each."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, in plain types and tensors; empty where parameters say everything."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""


class Gossip(Mixing):
    """Decentralized SGD: after every H-th step each worker goes on from a mean over its neighbours.

    ``results`` mixes what the workers have come to, w_j ← Σ_k P_jk w_k. ``starts`` mixes where their H steps
    began and adds what each has done since, w_j ← Σ_k P_jk w⁰_k + (w_j − w⁰_j): with H = 1 the gradient is
    taken at the unmixed point, w_j ← Σ_k P_jk w_k − η g_j(w_j) (Lian et al. 2017, 1705.09056, algorithm 1;
    Zhu et al. 2023, 2306.02913).

    Args:
        graph: ``ring``, ``grid``, ``exponential``, ``complete``, or the lines of a matrix P, ``[K, K]``, each
            of which sums to 1.
        every: H.
        mixes: what is mixed.

    Raises:
        UserError: a matrix that is not square, or whose lines do not sum to 1; H below 1; in ``check``, a
            matrix for another number of workers.
    """

    def __init__(
        self,
        graph: GraphName | list[list[float]] = "complete",
        every: int = 1,
        mixes: Literal["results", "starts"] = "results",
    ) -> None:
        super().__init__(every)
        self.graph, self.mixes = graph, mixes
        self.starts: list[list[Tensor]] | None = None
        if not isinstance(graph, str):
            lengths = {len(line) for line in graph}
            sums = [sum(line) for line in graph]
            if lengths != {len(graph)} or any(abs(s - 1) > 1e-6 for s in sums):
                raise UserError(
                    f"mixing.graph: {len(graph)} lines of {sorted(lengths)} numbers with the sums {sums}; "
                    f"allowed: {', '.join(GRAPHS)}, or a square matrix with lines that sum to 1"
                )

    def matrix(self, workers: int) -> Tensor:
        """P, float64 ``[workers, workers]``."""
        if isinstance(self.graph, str):
            return GRAPHS[self.graph](workers)
        return torch.tensor(self.graph, dtype=torch.float64)

    def check(self, members: Sequence[Member]) -> None:
        if not isinstance(self.graph, str) and len(self.graph) != len(members):
            raise UserError(
                f"mixing.graph: {len(self.graph)} lines for {len(members)} members; allowed: one for each"
            )

    def begin(self, networks: Networks) -> None:
        if self.mixes == "starts" and self.starts is None:
            self.starts = [copied(network) for network in networks]

    def exchange(self, rounds: int, networks: Networks) -> None:
        matrix = self.matrix(len(networks))
        for i, own in enumerate(zip(*(network.parameters() for network in networks), strict=True)):
            held = torch.stack([p.detach() for p in own])
            start = held if self.starts is None else torch.stack([s[i].to(held) for s in self.starts])
            mixed = torch.tensordot(matrix.to(held), start, 1)
            for p, new in zip(own, mixed if self.starts is None else mixed + (held - start), strict=True):
                p.copy_(new)
        if self.starts is not None:
            self.starts = [copied(network) for network in networks]

    def state(self) -> dict[str, Any]:
        return {} if self.starts is None else {"starts": self.starts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.starts = state.get("starts")


class LocalSGD(Mixing):
    """Every H steps a server takes a step of SGD against the mean of what the workers did; all go on from it.

    Δ = (1/K) Σ_j (w⁰_j − w_j) is what an outer SGD with rate and momentum takes for the gradient at the
    server's parameters. At the defaults everyone goes on from the mean: local SGD (Stich 2018, 1805.09767).
    With Nesterov's momentum it is DiLoCo (Douillard et al. 2023, 2311.08105).

    Args:
        every: H.
        lr: the outer rate.
        momentum: the outer momentum.
        nesterov: whether it is Nesterov's.

    Raises:
        UserError: H below 1, a rate not above 0, a momentum outside [0, 1).
    """

    def __init__(self, every: int = 1, lr: float = 1.0, momentum: float = 0.0, nesterov: bool = True) -> None:
        super().__init__(every)
        _require(lr > 0, "lr", lr, "above 0")
        _require(0 <= momentum < 1, "momentum", momentum, "from 0 to below 1")
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.server: list[Tensor] | None = None
        self.optimizer_state: dict[str, Any] | None = None
        self._optimizer: torch.optim.SGD | None = None

    def begin(self, networks: Networks) -> None:
        if self.server is None:
            self.server = means(networks)

    def exchange(self, rounds: int, networks: Networks) -> None:
        assert self.server is not None, "begin comes first"
        optimizer = self._optimizer or self._make_optimizer(next(networks[0].parameters()))
        for held, mean in zip(self.server, means(networks), strict=True):
            held.grad = held - mean
        optimizer.step()
        for network in networks:
            put(network, self.server)

    def _make_optimizer(self, like: Tensor) -> torch.optim.SGD:
        assert self.server is not None
        self.server = [p.to(like.device) for p in self.server]
        nesterov = self.nesterov and self.momentum > 0
        self._optimizer = torch.optim.SGD(self.server, self.lr, self.momentum, nesterov=nesterov)
        if self.optimizer_state is not None:
            self._optimizer.load_state_dict(self.optimizer_state)
        return self._optimizer

    def state(self) -> dict[str, Any]:
        kept = self._optimizer.state_dict() if self._optimizer else self.optimizer_state
        return {"server": self.server, "optimizer": kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.server, self.optimizer_state, self._optimizer = state["server"], state["optimizer"], None


class AsynchronousSGD(Mixing):
    """A server that moves whenever a worker arrives; the others go on from where they have started.

    Worker j takes H steps from the server's parameters w⁰_j and arrives τ_j rounds after it began, with
    g = (w⁰_j − w_j)/K. Nesterov's momentum is applied at every arrival, v ← βv + g, w ← w − lr·(g + βv), or
    delayed: w ← w − lr·g at every arrival, and v ← βv + Σg, w ← w − lr·βv after every K of them (Liu et al.
    2024, 2401.09135, algorithm 3). Those who arrive at the same time do so in the order of their numbers, and
    each goes on from the server as it then is. A slow worker takes its steps in the first of its rounds and
    waits.

    Args:
        times: τ_j of each worker.
        every: H.
        lr: the outer rate.
        momentum: β.
        momentum_at: whether momentum is applied at every ``arrival`` or every ``round`` of K arrivals.

    Raises:
        UserError: a time or H below 1, a rate not above 0, a momentum outside [0, 1); in ``check``, times for
            another number of workers, or unequal ones of workers whose optimizers have a state.
    """

    def __init__(
        self,
        times: list[int],
        every: int = 1,
        lr: float = 1.0,
        momentum: float = 0.0,
        momentum_at: Literal["arrival", "round"] = "round",
    ) -> None:
        super().__init__(every)
        _require(
            all(time >= 1 for time in times) and bool(times), "times", times, "1 or more for each worker"
        )
        _require(lr > 0, "lr", lr, "above 0")
        _require(0 <= momentum < 1, "momentum", momentum, "from 0 to below 1")
        self.times, self.lr, self.momentum, self.momentum_at = times, lr, momentum, momentum_at
        self.held: dict[str, Any] = {}

    def check(self, members: Sequence[Member]) -> None:
        if len(self.times) != len(members):
            raise UserError(
                f"mixing.times: {len(self.times)} for {len(members)} members; allowed: one for each"
            )
        for member in members:
            group = member.optimizer.param_groups[0]
            plain = type(member.optimizer) is torch.optim.SGD and not group["momentum"]
            if max(self.times) > 1 and not plain:
                raise UserError(
                    f"model.optimizer: {type(member.optimizer).__name__} has a state that would go on while "
                    f"a worker waits; allowed with mixing.times: {self.times}: torch.optim.SGD, no momentum"
                )

    def begin(self, networks: Networks) -> None:
        if self.held:
            device = next(networks[0].parameters()).device
            self.held = tree_map_only(Tensor, lambda t: t.to(device), self.held)
            return
        zero = [torch.zeros_like(p) for p in copied(networks[0])]
        self.held = {
            "server": means(networks),
            "velocity": zero,
            "arrived": [z.clone() for z in zero],
            "arrivals": 0,
            "begun": [0] * len(networks),
            "starts": [copied(network) for network in networks],
            "ends": [copied(network) for network in networks],
        }

    def exchange(self, rounds: int, networks: Networks) -> None:
        held = self.held
        for j, network in enumerate(networks):
            if held["begun"][j] == rounds - 1:
                held["ends"][j] = copied(network)
        for j, network in enumerate(networks):
            if held["begun"][j] + self.times[j] > rounds:
                put(network, held["ends"][j])
                continue
            pairs = zip(held["starts"][j], held["ends"][j], strict=True)
            self._arrive([(start - end) / len(networks) for start, end in pairs], len(networks))
            put(network, held["server"])
            held["starts"][j], held["begun"][j] = copied(network), rounds

    def _arrive(self, gradient: list[Tensor], workers: int) -> None:
        """One step of the server."""
        held, beta = self.held, self.momentum
        held["arrivals"] += 1
        complete = held["arrivals"] % workers == 0
        server, velocity, arrived = held["server"], held["velocity"], held["arrived"]
        for w, v, total, g in zip(server, velocity, arrived, gradient, strict=True):
            w.sub_(self.lr * g)
            total.add_(g)
            if self.momentum_at == "arrival" or complete:
                v.mul_(beta).add_(total)
                w.sub_(self.lr * beta * v)
                total.zero_()

    def state(self) -> dict[str, Any]:
        return self.held

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.held = dict(state)


def copied(network: nn.Module) -> list[Tensor]:
    """The parameters of a network as they are."""
    return [p.detach().clone() for p in network.parameters()]


def means(networks: Networks) -> list[Tensor]:
    """The mean of each parameter over some networks."""
    return [
        torch.stack([p.detach() for p in own]).mean(0)
        for own in zip(*(network.parameters() for network in networks), strict=True)
    ]


def consensus(networks: Networks) -> float:
    """Tr Ξ = (1/K) Σ_j ‖w_j − w̄‖² of some networks of one shape: how far they are from their mean."""
    each = zip(*(network.parameters() for network in networks), strict=True)
    held = [torch.stack([p.detach().double() for p in own]) for own in each]
    apart = [(own - own.mean(0)).square().sum() for own in held]
    return float(torch.stack(apart).sum()) / len(networks)


def put(network: nn.Module, values: Sequence[Tensor]) -> None:
    """Write parameters where those of the network lie."""
    for p, value in zip(network.parameters(), values, strict=True):
        p.data.copy_(value)


def _require(fits: bool, name: str, value: object, allowed: str) -> None:
    if not fits:
        raise UserError(f"mixing.{name}: {value} is not possible; allowed: {allowed}")
