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


def difference(gain: Estimate, than: str) -> str:
    """A difference of shares in words, such as `3.3 points less than ERM (7.8 less to 1.3 more)`.

    One that rounds to nothing is `no difference from ERM (8.5 points less to 8.5 more)`.
    """
    size = points(abs(gain.value))
    none = size == points(0)
    result = f"no difference from {than}"
    if not none:
        result = f"{size} points {'less' if gain.value < 0 else 'more'} than {than}"
    if gain.low is None or gain.high is None:
        return result
    low, high = points(abs(gain.low)), points(abs(gain.high))
    if none and low == high == size:
        return result
    if gain.low < 0 < gain.high:
        return f"{result} ({low} {'points ' if none else ''}less to {high} more)"
    near, far = (low, high) if gain.low >= 0 else (high, low)
    way = f" points {'more' if gain.low >= 0 else 'less'}" if none else ""
    return f"{result} ({near}\u2013{far}{way})"


def headline(data: ReportData) -> str:
    """The finding in one sentence about the baseline: how right it is overall and in its worst group."""
    base = data.method(data.baseline)
    overall, worst = percent(base.overall.value), percent(base.aimed.value)
    near = base.overall.value - base.aimed.value < _NOTEWORTHY
    if data.many:
        return (
            f"{base.name} is right for {overall} of the {data.split} images overall, "
            f"{'and' if near else 'but'} for {worst} in the {data.aim}."
        )
    if near:
        return (
            f"{base.name} is right for {overall} of the {data.split} images, "
            f"and for {worst} of its worst group, “{base.worst_group}”: no group falls far behind."
        )
    return (
        f"{base.name} is right for {overall} of the {data.split} images overall, "
        f"but for {worst} of the group “{base.worst_group}”."
    )


def answer(data: ReportData) -> str:
    """What the best head makes of it; says so where it is worse, or where this run does not tell."""
    base, best = data.method(data.baseline), data.method(data.best)
    if best.name == base.name:
        if len(data.methods) == 1:
            return "It is the only head in this run, so there is nothing to compare it with."
        top = max(data.methods, key=lambda method: method.aimed.value)
        if data.sweep is None or top.aimed.value <= base.aimed.value:
            where = f"in the {data.aim}" if data.many else "for its worst group"
            return f"No other head in this run does better {where} than {base.name}."
        where = f"in the {data.aim}" if data.many else f"of its own worst group, “{top.worst_group}”"
        return (
            f"The rule {data.sweep.rule} picks {base.name} itself, although here {top.name} is right "
            f"for {percent(top.aimed.value)} {where}."
        )
    where = f"in the {data.aim}" if data.many else f"of its own worst group, “{best.worst_group}”,"
    return (
        f"{best.name} is right for {percent(best.aimed.value)} {where} "
        f"and for {percent(best.overall.value)} overall.{_compared(data, base, best)}"
    )


def _compared(data: ReportData, base: MethodResult, best: MethodResult) -> str:
    """Which of the two heads is better, as far as this run tells; empty where the numbers say it."""
    gain = data.gain
    if gain is None:
        if apart(base.aimed, best.aimed):
            return ""
        if apart(best.aimed, base.aimed):
            return f" {base.name} does better for its worst group than {best.name} for its own."
        return (
            " The two worst-group intervals overlap, so this run alone does not settle which head is better."
        )
    said = f" On the same images that is {difference(gain, base.name)}"
    if gain.low is not None and gain.low > 0:
        return f"{said}."
    if gain.high is not None and gain.high < 0:
        return f"{said}: of the two, {base.name} is the better head here."
    return f"{said}, so this run alone does not settle which head is better."


def apart(low: Estimate, high: Estimate) -> bool:
    """Whether the interval of `high` lies wholly above that of `low`."""
    return low.high is not None and high.low is not None and high.low > low.high


def unconverged(methods: Iterable[MethodResult]) -> str:
    """One sentence naming the heads that did not converge, empty when all did that were to."""
    names = [method.name for method in methods if not method.converged and not method.stepped]
    if not names:
        return ""
    verb, whose = ("has", "its") if len(names) == 1 else ("have", "their")
    return f"{listed(names)} {verb} not converged: read {whose} numbers with care."


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
