"""Several objectives of heads on the same rows as one, so that one pass over the features serves them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.objectives.base import Objective, WeightedMean


@dataclass(frozen=True)
class Part:
    """An objective of the heads from `first` until `end` of a stack."""

    objective: Objective
    first: int
    end: int

    @property
    def heads(self) -> slice:
        """Which heads of the stack."""
        return slice(self.first, self.end)

    @property
    def is_worst_case(self) -> bool:
        """Whether its risk is a maximum over weights, smoothed."""
        return not isinstance(self.objective.risk, WeightedMean)


@dataclass(frozen=True)
class JointObjective:
    """Objectives of different kinds side by side: heads of one kind lie next to each other in the stack."""

    parts: tuple[Part, ...]

    @staticmethod
    def of_parts(objectives: Sequence[Objective], counts: Sequence[int]) -> JointObjective:
        """Objectives in the order of the stack, and how many heads each has; those of none are dropped."""
        parts, first = [], 0
        for objective, count in zip(objectives, counts, strict=True):
            if count:
                parts.append(Part(objective, first, first + count))
                first += count
        return JointObjective(tuple(parts))

    def of(self, keep: Tensor) -> JointObjective:
        """That of some of the heads only; `keep` holds their numbers, ascending."""
        inside = [(part, self._within(keep, part)) for part in self.parts]
        kept = [(part.objective.of(numbers), len(numbers)) for part, numbers in inside if len(numbers)]
        return JointObjective.of_parts([each for each, _ in kept], [count for _, count in kept])

    def worst_cases(self, keep: Tensor) -> Iterator[tuple[int, Part, Tensor]]:
        """Parts whose risk is a worst case, their place, and which of their own heads are in `keep`."""
        for place, part in enumerate(self.parts):
            if part.is_worst_case:
                yield place, part, self._within(keep, part)

    @staticmethod
    def _within(keep: Tensor, part: Part) -> Tensor:
        return keep[(keep >= part.first) & (keep < part.end)] - part.first

    def with_part(self, place: int, objective: Objective) -> JointObjective:
        """Another objective for the same heads in place of one part's."""
        parts = list(self.parts)
        parts[place] = replace(parts[place], objective=objective)
        return JointObjective(tuple(parts))

    def flags(self, name: str) -> Tensor:
        """A property of the objectives, `is_convex` or `is_exact`, for every head: (H,) bool."""
        counts = torch.tensor([part.end - part.first for part in self.parts])
        return torch.tensor([bool(getattr(part.objective, name)) for part in self.parts]).repeat_interleave(
            counts
        )

    def along(self, z: Tensor, d: Tensor | None, t: Tensor | None, out: Tensor) -> tuple[Tensor, Tensor]:
        """See Objective."""
        found = [
            part.objective.along(
                z[..., part.heads],
                None if d is None else d[..., part.heads],
                None if t is None else t[part.heads],
                out[..., part.heads],
            )
            for part in self.parts
        ]
        return torch.cat([value for value, _ in found]), torch.cat([slope for _, slope in found])

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See Objective."""
        out = torch.empty_like(z)
        return self.along(z, None, None, out)[0], out

    def curvature(self, z: Tensor) -> Tensor:
        """See Objective."""
        return torch.cat([part.objective.curvature(z[..., part.heads]) for part in self.parts])

    def steep(self, z: Tensor) -> list[tuple[Part, Tensor]]:
        """The directions (n, K, h, r) of the parts that have some; see Objective."""
        made = [(part, part.objective.steep(z[..., part.heads])) for part in self.parts]
        return [(part, each) for part, each in made if each is not None]

    def by_row(self, z: Tensor) -> list[tuple[Part, Tensor]]:
        """The curvature by row (n, h) of the parts of which it is known; see Objective."""
        made = [(part, part.objective.by_row(z[..., part.heads])) for part in self.parts]
        return [(part, each) for part, each in made if each is not None]
