"""What a worst case over weights of rows or groups must answer; which ones there are lives beside this file.

Each is a maximum over a convex set of weights q, which has kinks; `at` is that maximum less a proximal term,
(distance of q from a centre) / sharpness, which is smooth. How sharpness and centre move until nothing of the
smoothing is left is `headwater.heads.solvers.minmax`'s business.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class WorstCase(Protocol):
    """A smoothed worst case of H heads' losses (n, H); fulfils RiskOf.

    `diameter` (H,) is how far, in the proximal term's own measure, the set of weights reaches from where it
    is entered: smoothing costs at most diameter / sharpness. `common` (H,) is what adjustments have in common
    and values leave out.
    """

    @property
    def diameter(self) -> Tensor:
        """See above."""
        ...

    @property
    def common(self) -> Tensor:
        """See above."""
        ...

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See RiskOf: the smoothed value and the row weights q that attain it, which lie in the set."""
        ...

    @property
    def has_directions(self) -> bool:
        """See RiskOf."""
        ...

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf."""
        ...

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The exact worst case, the value of `at`'s weights without the proximal term, and the worst case of
        the losses alone, without adjustments; (H,) float64 each.
        """
        ...

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstCase:
        """The same set, with the centre where the weights of `at` are now, and of another sharpness (H,)."""
        ...

    def of(self, keep: Tensor) -> WorstCase:
        """The risk of some of the heads only."""
        ...

    def put(self, heads: Tensor, other: WorstCase) -> WorstCase:
        """The same with centre and sharpness of the heads numbered `heads` from `other`, of those alone."""
        ...
