"""Names of hypotheses that stay what they are while readings are added and grouped anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headwater.heads.ambiguity.beliefs import Hypothesis


def named_alike(
    old: Sequence[Hypothesis], new: Sequence[Hypothesis], used: set[str]
) -> tuple[list[Hypothesis], set[str]]:
    """The `new` hypotheses under the `old` ones' names, and all names in use then.

    `members` of both are places in one list of readings, to which some were added at the end. A new one is
    called as the old one that most of its readings belonged to; of several, the one that has most of these.
    The others get letters that none of `used` is.
    """
    home = {place: each.name for each in old for place in each.members}
    claims: dict[str, tuple[int, int]] = {}  # name → how many of its readings, and which new hypothesis
    for number, each in enumerate(new):
        came = [home[place] for place in each.members if place in home]
        if came:
            name = max(sorted(set(came)), key=came.count)
            claims[name] = max(claims.get(name, (0, 0)), (came.count(name), -number))
    names = {-number: name for name, (_, number) in claims.items()}
    taken = set(used) | {each.name for each in old}
    out = []
    for number, each in enumerate(new):
        name = names.get(number) or _fresh(taken)
        taken.add(name)
        out.append(replace(each, name=name))
    return out, taken


def _fresh(taken: set[str]) -> str:
    """The first of A to Z, A1 to Z1 … that is free."""
    count = 0
    while (name := f"{chr(ord('A') + count % 26)}{count // 26 or ''}") in taken:
        count += 1
    return name
