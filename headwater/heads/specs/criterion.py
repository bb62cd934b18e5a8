"""What a head may minimise besides the mean cross-entropy, as plain hashable data; computing it is elsewhere.

A row's `Loss` is made into one number by a `Risk`, over rows that may first be mixed (`Mixing`), and an
`Invariance` between groups may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headwater.heads.specs.hashed import Codes, Weights


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(scale·(z + offset - margin·onehot(y)))[y].

    `offset` (classes,) is added to the logits while training: log n_y is balanced softmax (Ren et al. 2020),
    τ·log of the prior is logit adjustment (Menon et al. 2021). `margin` (classes,) is taken from the row's
    own logit and `scale` multiplies all of them: LDAM (Cao et al. 2019). None of them stays in the head.
    """

    offset: tuple[float, ...] | None = None
    margin: tuple[float, ...] | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Focal:
    """-(1 - p_y)^gamma · log p_y (Lin et al. 2017)."""

    gamma: float


@dataclass(frozen=True)
class GeneralizedCrossEntropy:
    """(1 - p_y^q) / q (Zhang & Sabuncu 2018); LfF trains its biased head with q = 0.7. Not convex."""

    q: float


Loss = CrossEntropy | Focal | GeneralizedCrossEntropy

PLAIN = CrossEntropy()


@dataclass(frozen=True)
class GroupTree:
    """A tree above groups: `parent` (nodes,) before each node, -1 for roots; `above` (groups,).

    `above` is the node right over each group, -1 for none. Over roots, and over groups without a node, lies
    the root of all.
    """

    parent: Codes
    above: Codes


@dataclass(frozen=True)
class Shrinking:
    """A node's loss becomes (n·its own + strength·its parent's) / (n + strength), from the root down.

    Its own is the mean over the n training rows below it, by weight where rows have weights of mean 1; the
    root of all has the mean of all rows. Strength 0 leaves groups' losses alone, endless strength makes each
    of them that mean.
    """

    tree: GroupTree
    strength: float


@dataclass(frozen=True)
class GroupRisk:
    """The largest over groups of mean loss + adjustment (Sagawa et al. 2020), at its exact minimum.

    `groups`: a code per training row; `adjustment` (groups,), such as C/√n_g. A head's tolerance is relative
    to the largest of the mean losses without it, so that constants make it no looser. With a `share` it is
    the mean over the worst share of the groups, each counting alike, the last in part, and one at least.
    With `shrinking` groups' losses are those drawn toward their ancestors'.
    """

    groups: Codes
    adjustment: tuple[float, ...]
    share: float | None = None
    shrinking: Shrinking | None = None


@dataclass(frozen=True)
class CVaR:
    """The mean of the worst `share` of the (weighted) losses, the last row in part (Rockafellar 2000)."""

    share: float


@dataclass(frozen=True)
class ChiSquare:
    """The worst mean over row weights q with Σ w_i (q_i/w_i - 1)²/2 <= radius (Namkoong & Duchi 2016)."""

    radius: float


Risk = GroupRisk | CVaR | ChiSquare


MOST_COMPARED = 96
"""Groups that mmd can compare, each by two rows at least: kernels cost the square of all rows compared."""


@dataclass(frozen=True)
class Invariance:
    """`strength` times a penalty on how the head differs between `groups` (one code per training row).

    irm: Σ_g of the squared derivative of the group's mean loss by a factor on its logits (Arjovsky 2019).
    coral: squared differences of mean and covariance of the logits, over pairs of groups (Sun & Saenko 2016).
    mmd: Gaussian-kernel mean discrepancy of the logits, over pairs of groups (Li et al. 2018); `width` is the
    squared distance between rows' logits that counts as near.
    """

    kind: Literal["irm", "coral", "mmd"]
    groups: Codes
    strength: float
    width: float = 1.0


@dataclass(frozen=True)
class Mixing:
    """Row i becomes share_i·x_i + (1 - share_i)·x_j with j = `partner`_i, a place in the rows.

    Mixup (Zhang et al. 2018) and LISA (Yao et al. 2022) on features, where a mixture of rows is a mixture of
    their logits.
    """

    partner: Codes
    share: Weights
