"""The options of the studies. Nothing heavy is imported, so that ``--help`` answers at once."""

from dataclasses import dataclass, field


@dataclass
class ModifiedFlowOptions:
    """M1 to M6 and the two-dimensional example of implicit gradient regularization.

    Symbols (Smith et al. 2021, arXiv 2101.12176): ω parameters; C the loss, Ĉ_k the loss of minibatch k of m;
    ε the learning rate; n-step SGD takes n updates of the bare rate α = ε/n on each minibatch; C̃ the modified
    loss C + (α/4m) Σ_k ‖∇Ĉ_k‖² (Eqs 1, 20, 39). Distances after one epoch are fitted as ε to a power.

    Args:
        m: minibatches per epoch; all m! orders are enumerated up to 6.
        batch_size: examples per minibatch, B.
        largest_lr: the largest ε on the network with normal data; the others are halvings of it.
        largest_lr_images: the largest ε on Fashion-MNIST.
        halvings: how many halvings of the largest ε.
        n_steps: the n of n-step SGD (M6).
        order_pairs: sample this many forward/reversed pairs of orders instead of enumerating (for m > 6).
        inputs: input dimension of the network on normal data.
        scale: of the initial weights, whose variance is scale²/fan-in.
        data_dir: folder with Fashion-MNIST; the environment's SGDLIT_DATA if not given. Without either, that
            part is left out, and the output says so.
        igr_steps: step sizes h of gradient descent on E = ½(y − abx)² (Barrett & Dherin, arXiv 2009.11162).
        igr_time: time for which each path runs, steps times h.
        seed: of data, start and sampled orders.
    """

    m: int = 4
    batch_size: int = 4
    largest_lr: float = 2.0**-7
    largest_lr_images: float = 2.0**-4
    halvings: int = 5
    n_steps: list[int] = field(default_factory=lambda: [1, 2, 4])
    order_pairs: int | None = None
    inputs: int = 3
    scale: float = 0.7
    data_dir: str | None = None
    igr_steps: list[float] = field(default_factory=lambda: [0.005, 0.01, 0.02, 0.04, 0.06, 0.08])
    igr_time: float = 5.0
    seed: int = 0
