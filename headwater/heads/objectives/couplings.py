"""Makes the ties of a stack of sets from their couplings, and refuses those that make no sense."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.objectives.cells import CellsTie
from headwater.heads.objectives.members import Tied
from headwater.heads.objectives.ties import IndependenceTie, RepulsionTie, TargetTie, TieOf, TopTie
from headwater.heads.specs.coupling import (
    Cells,
    Coupling,
    Independence,
    Repulsion,
    SoftTargets,
    TopDisagreement,
)
from headwater.heads.specs.hashed import Rows
from headwater.heads.specs.spec import HeadSpec


def tied_as(coupling: Coupling) -> Hashable:
    """Couplings of which one objective can be made."""
    tie = coupling.tie
    return type(tie), coupling.members, len(tie.against) if isinstance(tie, Repulsion) else 0


def check_coupling(spec: HeadSpec, n_classes: int) -> None:
    """Raise RequestError for a coupling that cannot be trained; its rows are checked elsewhere."""
    coupling = spec.coupling
    assert coupling is not None
    if spec.risk is not None or spec.invariance is not None or spec.mixing is not None:
        raise RequestError("heads that are tied to each other have no risk, invariance or mixing beside it")
    tie, members = coupling.tie, coupling.members
    alone = isinstance(tie, Repulsion | SoftTargets)
    if members < (1 if alone else 2) or (isinstance(tie, Cells) and members != 2):
        wanted = "two" if isinstance(tie, Cells) else "at least one" if alone else "at least two"
        raise RequestError(f"a tie by {type(tie).__name__} takes {wanted} members, not {members}")
    strengths = [tie.strength] + ([tie.balance] if isinstance(tie, Independence) else [])
    for strength in strengths:
        if not (math.isfinite(strength) and strength >= 0):
            raise RequestError(f"the strength of a tie between heads is {strength}; give at least 0")
    if isinstance(tie, Cells | TopDisagreement) and not 0 < tie.mix_rate <= 1:
        raise RequestError(f"a mix rate is a share of rows above 0 and up to 1, not {tie.mix_rate}")
    if isinstance(tie, Cells) and not 0 < tie.temperature <= 1:
        raise RequestError(f"the temperature of cells is above 0 and up to 1, not {tie.temperature}")
    if isinstance(tie, Repulsion) and not tie.against:
        raise RequestError("there is no head to disagree with; give one")
    given = (
        tie.against if isinstance(tie, Repulsion) else (tie.values,) if isinstance(tie, SoftTargets) else ()
    )
    for each in given:
        values, rows = each.values, len(coupling.rows)
        if len(values) != rows * n_classes or not ((values >= 0) & (values <= 1)).all():
            raise RequestError(
                f"a tie to what is said of {rows} rows takes the probabilities of {n_classes} classes for "
                f"each, from 0 to 1, in a flat array, and got {len(values)} numbers"
            )


def tied(specs: Sequence[HeadSpec], rows: Rows, priors: Tensor, dtype: torch.dtype) -> Tied:
    """The ties, all of one kind and on one set of rows, of a stack; `priors` (K, H) are classes' shares.

    `rows` are those of the stack, ascending, among which the coupling's are found.
    """
    couplings = [spec.coupling for spec in specs if spec.coupling is not None]
    place = torch.tensor(np.searchsorted(rows.index, couplings[0].rows.index), device=priors.device)
    return Tied(place, couplings[0].members, _tie(couplings, priors, dtype))


def _tie(couplings: Sequence[Coupling], priors: Tensor, dtype: torch.dtype) -> TieOf:
    device, count, classes = priors.device, len(couplings[0].rows), len(priors)

    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    ties = [each.tie for each in couplings]
    strength = numbers([tie.strength for tie in ties])
    if independent := [tie for tie in ties if isinstance(tie, Independence)]:
        return IndependenceTie(strength, numbers([tie.balance for tie in independent]), priors)
    if top := [tie for tie in ties if isinstance(tie, TopDisagreement)]:
        ways = classes ** couplings[0].members - classes
        counts = [max(1, round(count * tie.mix_rate / ways)) for tie in top]
        return TopTie(strength, torch.tensor(counts, device=device))
    if cells := [tie for tie in ties if isinstance(tie, Cells)]:
        mixed = numbers([tie.mix_rate for tie in cells])
        same = torch.eye(classes, dtype=torch.float64, device=device).unsqueeze(2)
        shares = same * (1 - mixed) * priors + (1 - same) * mixed / (classes * (classes - 1))
        floor = shares.flatten(0, 1).clamp_min(1e-6)  # at a mix rate of 1 some cells are all but empty
        return CellsTie(
            strength,
            numbers([tie.temperature for tie in cells]),
            floor / floor.sum(0),
            torch.zeros_like(floor),
        )
    if repelled := [tie for tie in ties if isinstance(tie, Repulsion)]:
        beliefs = [_by_row(each.values, classes) for tie in repelled for each in tie.against]
        p = torch.tensor(np.stack(beliefs, axis=2), device=device)  # (m, K, sets·others)
        sure, said = p.view(*p.shape[:2], len(ties), -1).permute(3, 0, 2, 1).max(3)
        return RepulsionTie(strength, said, sure.to(dtype), torch.arange(len(ties), device=device))
    asked = [tie for tie in ties if isinstance(tie, SoftTargets)]
    targets = np.stack([_by_row(tie.values.values, classes) for tie in asked], axis=2)
    values = torch.tensor(targets, device=device).to(dtype)
    return TargetTie(strength, values, torch.arange(len(ties), device=device))


def _by_row(values: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    return values.reshape(-1, classes)
