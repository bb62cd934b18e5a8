"""The sentences of a report, computed from its data: the headline and what it may and may not claim."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.report.data import Estimate, MethodResult, ReportData

_NOTEWORTHY = 0.05  # a gap between worst group and overall below this is not worth a headline


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent with a thin space before the sign; a dash for none."""
    return "\u2013" if value is None else f"{100 * value:.{digits}f}\u202f%"


def points(value: float | None) -> str:
    """A difference of shares in percentage points; a dash for none."""
    return "\u2013" if value is None else f"{100 * value:.1f}"


def span(estimate: Estimate | None) -> str:
    """The interval of an estimate such as `81.2-86.0` with a long dash, empty without one."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:.1f}\u2013{100 * estimate.high:.1f}"


def headline(data: ReportData) -> str:
    """The finding in one sentence about the baseline: how right it is overall and in its worst group."""
    base = data.method(data.baseline)
    overall, worst = percent(base.overall.value), percent(base.aimed.value)
    if data.many:
        return (
            f"{base.name} is right for {overall} of the {data.split} images overall, "
            f"but for {worst} in the {data.aim}."
        )
    if base.overall.value - base.worst.value < _NOTEWORTHY:
        return (
            f"{base.name} is right for {overall} of the {data.split} images, "
            f"and for {worst} of its worst group, “{base.worst_group}”: no group falls far behind."
        )
    return (
        f"{base.name} is right for {overall} of the {data.split} images overall, "
        f"but for {worst} of the group “{base.worst_group}”."
    )


def answer(data: ReportData) -> str:
    """What the best head makes of it; says so where the intervals of the two worst groups overlap."""
    base, best = data.method(data.baseline), data.method(data.best)
    if best.name == base.name:
        if len(data.methods) == 1:
            return "It is the only head in this run, so there is nothing to compare it with."
        where = f"in the {data.aim}" if data.many else "for its worst group"
        return f"No other head in this run does better {where} than {base.name}."
    where = f"in the {data.aim}" if data.many else f"of its own worst group, “{best.worst_group}”,"
    result = (
        f"{best.name} is right for {percent(best.aimed.value)} {where} "
        f"and for {percent(best.overall.value)} overall."
    )
    if data.gain is not None:
        sure = data.gain.low is not None and data.gain.low > 0
        result += f" On the same images that is {points(data.gain.value)} points more ({span(data.gain)})"
        result += "." if sure else ", so this run alone does not settle which head is better."
    elif not apart(base.aimed, best.aimed):
        result += (
            " The two worst-group intervals overlap, so this run alone does not settle which head is better."
        )
    return result


def apart(low: Estimate, high: Estimate) -> bool:
    """Whether the interval of `high` lies wholly above that of `low`."""
    return low.high is not None and high.low is not None and high.low > low.high


def unconverged(methods: Iterable[MethodResult]) -> str:
    """One sentence naming the heads that did not converge, empty when all did."""
    names = [method.name for method in methods if not method.converged]
    if not names:
        return ""
    verb, whose = ("has", "its") if len(names) == 1 else ("have", "their")
    return f"{listed(names)} {verb} not converged: read {whose} numbers with care."


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
