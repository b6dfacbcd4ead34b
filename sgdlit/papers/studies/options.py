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


@dataclass
class NoisyQuadraticOptions:
    """G2 and G6 to G11: steps to a target risk over batch size, for five kinds of optimizer, and the
    bound.

    Symbols (Zhang et al. 2019, arXiv 1907.04164; Grosse, CSC 2541 lecture 7): L = ½ Σ_i h_i θ_i² in D
    dimensions, curvatures h_i, gradient noise of variance c_i/B, batch size B, learning rate α, momentum β,
    averaging decay μ, preconditioner H^γ. Here h_i = c_i = i^(−exponent) and θ_0 ~ N(0, I). D/(2 · target ·
    B) is the number of steps below which no method can reach the target (in the limit of a start of
    unbounded variance).

    Args:
        dimensions: D.
        exponent: of the power law.
        target: the risk to reach.
        batch_sizes: B.
        rates: number of learning rates: α_max · 10^(−decades·(1 − j/rates)), 0 <= j < rates, below the
            largest stable one α_max.
        decades: powers of ten that the rates span.
        preconditioners: γ, 0 being plain SGD.
        one_minus_momentum: 1 − β, tuned over for each batch size.
        one_minus_decay: 1 − μ, tuned over for each batch size.
        pieces: of the optimised piecewise-constant schedules.
    """

    dimensions: int = 10_000
    exponent: float = 1.0
    target: float = 0.01
    batch_sizes: list[float] = field(default_factory=lambda: [4.0**k for k in range(10)])
    rates: int = 100
    decades: float = 9.0
    preconditioners: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75])
    one_minus_momentum: list[float] = field(default_factory=lambda: [0.3, 0.1, 0.03, 0.01, 0.003, 0.001])
    one_minus_decay: list[float] = field(default_factory=lambda: [10.0 ** (-k / 2) for k in range(2, 13)])
    pieces: int = 10


@dataclass
class RateDropOptions:
    """G3: the learning rate falls by a factor, and the risk to a lower floor, which lr/B sets (F6).

    Symbols (Grosse, CSC 2541 lecture 7; F5, F6): the noisy quadratic model L = ½ Σ_i h_i θ_i² with gradient
    noise of variance c_i/B, here h_i = c_i = i^(−exponent) and θ_0 ~ N(0, I); learning rate α, batch size B.

    Args:
        runs: runs of a network with one drop of the rate, to draw beside the model: the folder of one, or one
            with version_0, version_1, … in it, such as logs/fashion_rate_drop.
        metric: what is looked at in these runs.
        dimensions: D.
        exponent: of the power law.
        batch_size: B.
        lr: α before the drop.
        factor: by which it is divided half-way.
        steps: of the model's run.
        simulations: independent simulated runs of it.
        seed: of them.
    """

    runs: str | None = None
    metric: str = "val/loss"
    dimensions: int = 50
    exponent: float = 1.0
    batch_size: float = 1.0
    lr: float = 0.5
    factor: float = 10.0
    steps: int = 2000
    simulations: int = 100
    seed: int = 0


@dataclass
class NoisyQuadraticRunsOptions:
    """Runs of ``fit`` on the noisy quadratic model, beside the exact mean of their risk (F5, F8).

    Symbols (Zhang et al. 2019, arXiv 1907.04164): L = ½ Σ_i h_i θ_i², curvatures h_i, gradient noise of
    variance c_i/B, batch size B, learning rate α (``lr``), momentum β. Runs that differ in their seeds only
    are samples of one mean, which is computed from their config, whatever the schedule of the rate.

    Args:
        runs: folder of a run, or one with version_0, version_1, … in it, such as logs/noisy_quadratic_sgd.
    """

    runs: str


@dataclass
class LinearRegressionOptions:
    """G12 to G15: stochastic linear regression.

    Symbols: x ~ N(0, Σ) the inputs, λ_i the eigenvalues of Σ; t = w_*ᵀx + N(0, σ²); δ = w_* − w; α the
    learning rate, B or b the batch size (Grosse, CSC 2541 lecture 7; F10). Kaczmarz: Strohmer & Vershynin
    2009 (F11). Interpolation: Ma, Bassily & Belkin, arXiv 1712.06559 (F12), β₀ = max_i ‖x_i‖². Momentum:
    Kidambi et al., arXiv 1803.05591, κ the ratio of the two eigenvalues, c = E z⁴/2.

    Args:
        dimensions: D of the regression whose risk is followed.
        exponent: of its power-law spectrum; an isotropic one is drawn beside it.
        lr_share: α as a share of the largest stable rate.
        batch_size: B.
        label_variance: σ² where labels are noisy.
        steps: of SGD.
        runs: independent runs of every simulation.
        covariance_samples: examples from which the gradient covariance is measured.
        rows: N of the Gaussian system of Kaczmarz.
        columns: its D.
        kaczmarz_steps: steps on it.
        examples: N of the interpolating least squares.
        weights: its D (an eigenvalue problem of size D² is solved).
        conditions: κ of the momentum instance.
        spread: c of the momentum instance.
        seed: of all draws.
    """

    dimensions: int = 20
    exponent: float = 1.0
    lr_share: float = 0.3
    batch_size: int = 4
    label_variance: float = 0.1
    steps: int = 300
    runs: int = 200
    covariance_samples: int = 200_000
    rows: int = 400
    columns: int = 50
    kaczmarz_steps: int = 1500
    examples: int = 60
    weights: int = 8
    conditions: list[float] = field(default_factory=lambda: [64.0, 256.0, 1024.0, 4096.0])
    spread: float = 5.0
    seed: int = 0


@dataclass
class OnlineConvexOptions:
    """B10: one pass of SGD over convex Lipschitz losses f_a(x) = |aᵀ(x − x*)|, ‖a‖ = 1.

    Symbols (F1): K steps, 𝓑 = 1 the bound on the gradients, learning rate η = ‖x¹ − x*‖/(𝓑√K). The mean of
    the best iterate's loss is at most ‖x¹ − x*‖𝓑/√K.

    Args:
        dimensions: of x.
        distance: ‖x¹ − x*‖.
        steps: the K.
        runs: independent runs for each K.
        seed: of all draws.
    """

    dimensions: int = 10
    distance: float = 1.0
    steps: list[int] = field(default_factory=lambda: [10, 30, 100, 300, 1000, 3000])
    runs: int = 200
    seed: int = 0


@dataclass
class LeastSquaresOptions:
    """B2: the matrix of smallest norm that agrees with n rank-one measurements y = aᵀTb.

    Symbols: T = G·G′ of rank r, d × d; a, b ~ N(0, I); M what is found. It misses the part of T outside the
    span of the a bᵀ: E ‖M − T‖²/‖T‖² = 1 − n/d², so the ratio is 0.707 at n = d²/2.

    Args:
        d: side of T. At 256 a draw at n = d²/2 takes about half a minute.
        r: rank of T, which plays no part.
        shares: the n/d², below 1.
        draws: of T and of the measurements, for each n.
        tolerance: of conjugate gradients, on the residual relative to y.
        seed: of all draws.
    """

    d: int = 64
    r: int = 2
    shares: list[float] = field(default_factory=lambda: [0.125, 0.25, 0.5, 0.75])
    draws: int = 10
    tolerance: float = 1e-5
    seed: int = 0
