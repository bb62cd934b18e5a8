"""From records of trials to the benchmark's tables and claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.common import Claim, Table
from benchmarks.hackathon42.new_sorts import CHANGES
from benchmarks.hackathon42.trials import OURS, Record

ALIKE = (6, 7)  # of whose crossed items nobody can tell which feature is which
MEANS = {**dict.fromkeys((0, 1, 2, 3, 4, 5, 8, 12, 13, 23), 0.99), 456: 0.985, 888: 0.8, 999: 0.9}
COMPOSED = 999, "composed"
LOWEST = 0.97  # of a single seed, where the mean is to be 0.985 or more
FAMILY = 0.97
DIMMED = 0.95
CURVE, CURVE_FROM = 0.97, 0.05
SECONDS, SECONDS_888 = 60.0, 300.0
FALSE_ALARMS = 0.05
# A scan that never warns, or that always estimates nothing, is not to pass for a careful one.
ALARMS = 0.95
RATE_OFF, RATE_OFF_SHARE = 0.05, 0.5  # of an estimated mix rate, on average: at most, and as a share of it
ADVISED = 0.9


def _of(records: Iterable[Record], part: str) -> list[Record]:
    return [each for each in records if each["part"] == part]


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for each in records:
        found.setdefault(key(each), []).append(each)
    return found


def _mean(records: Sequence[Record], name: str) -> float | None:
    values = [float(each[name]) for each in records if each[name] is not None]
    return float(np.mean(values)) if values else None


def _title(record: Record) -> str:
    return f"{record['id']} {record['name'].partition(':')[0]}" + (
        f", {record['variant']}" if record["variant"] else ""
    )


def tables(records: Sequence[Record]) -> list[Table]:
    """Means over seeds, the lowest of a seed beside them; a table for each part that there are records of."""
    found = []
    sets = sorted(_of(records, "sets"), key=lambda each: (each["id"], each["variant"] or ""))
    if sets:
        found.append(_accuracies("sets", sets, _title))
        hidden = [each for each in sets if each["family"]]
        if hidden:
            found.append(
                _accuracies("12 and 13, by hidden feature", hidden, lambda each: str(each["family"]))
            )
    rates = sorted(_of(records, "rates"), key=lambda each: float(each["mix_rate"]))
    if rates:
        found.append(_accuracies("set 1 by mix rate", rates, lambda each: f"mix rate {each['mix_rate']:g}"))
    pacs = _of(records, "pacs")
    if pacs:
        found.append(_worst_groups(pacs))
    scans = _of(records, "scan")
    if scans:
        found += [_by_sort(scans), _alarms(scans)]
    return found


def _accuracies(title: str, records: Sequence[Record], key: Callable[[Record], str]) -> Table:
    columns = ("set", "method", "mean", "lowest", "crossed, mean", "crossed, lowest", "labels", "seconds")
    rows = []
    for name, same in _grouped(records, key).items():
        for method, each in _grouped(same, lambda record: str(record["method"])).items():
            lowest = [min(float(record[what]) for record in each) for what in ("accuracy", "crossed")]
            rows.append(
                (
                    name,
                    method,
                    _mean(each, "accuracy"),
                    lowest[0],
                    _mean(each, "crossed"),
                    lowest[1],
                    _mean(each, "labels"),
                    _mean(each, "seconds"),
                    _mean(each, "noticed"),
                    _mean(each, "settled"),
                    _mean(each, "expected"),
                    _mean(each, "advised"),
                )
            )
    return Table(title, (*columns, "noticed", "settled", "expected", "advised"), rows)


def _worst_groups(records: Sequence[Record]) -> Table:
    tasks = list(dict.fromkeys(str(each["task"]) for each in records))
    rows = []
    for method, each in _grouped(records, lambda record: str(record["method"])).items():
        by_task = [_mean([one for one in each if one["task"] == task], "worst") for task in tasks]
        rows.append((method, *by_task, float(np.mean([value for value in by_task if value is not None]))))
    return Table("pictures, complete correlation: accuracy in the worst group", ("", *tasks, "mean"), rows)


def _kind(record: Record) -> str:
    if record["variant"] in CHANGES:
        return "not ambiguous: new subtypes"
    if record["labeled_rate"]:
        return "not ambiguous: labels tell"
    if record["true"] == 0:
        return "not ambiguous: nothing crossed"
    return f"ambiguous: mix rate {round(float(record['true']), 2):g}"


def _by_sort(records: Sequence[Record]) -> Table:
    rows = []
    for kind, each in sorted(_grouped(records, _kind).items()):
        apart = [abs(float(one["estimated"]) - float(one["true"])) for one in each]
        off = None if kind.startswith("not") else float(np.mean(apart))
        rows.append((kind, _mean(each, "is_ambiguous"), _mean(each, "score"), off, len(each)))
    return Table("scan, all sets", ("sort", "alarms", "score", "mix rate off by", "sets"), rows)


def _alarms(records: Sequence[Record]) -> Table:
    rows = [
        (
            str(record[0]["variant"] or f"{record[0]['id']}, size {record[0]['size']:g}"),
            kind.partition("|")[0],
            _mean(record, "is_ambiguous"),
            _mean(record, "score"),
            _mean(record, "estimated"),
            _mean(record, "true"),
            _mean(record, "seconds"),
            len(record),
        )
        for kind, record in sorted(
            _grouped(
                records, lambda one: f"{_kind(one)}|{one['id']:04d}|{one['size']}|{one['variant']}"
            ).items()
        )
    ]
    columns = ("set", "sort", "alarms", "score", "mix rate, estimated", "true", "seconds", "sets")
    return Table("scan", columns, rows)


def claims(records: Sequence[Record]) -> list[Claim]:
    """What was asked for, of those sets and parts that there are records of."""
    ours = [each for each in records if each["method"] == OURS]
    found: list[Claim] = []
    sets = _of(ours, "sets")
    for (number, variant), target in {
        **{(each, None): MEANS[each] for each in MEANS},
        COMPOSED: MEANS[999],
    }.items():
        mine = [each for each in sets if (each["id"], each["variant"]) == (number, variant)]
        if not mine:
            continue
        name = f"set {number}" + (f", {variant}" if variant else "")
        found.append(Claim.at_least(f"{name}: mean accuracy", _value(mine, "accuracy", np.mean), target))
        if target >= 0.985:
            lowest = _value(mine, "accuracy", np.min)
            found.append(Claim.at_least(f"{name}: lowest accuracy of a seed", lowest, LOWEST))
        bound = SECONDS_888 if number == 888 else SECONDS
        found.append(Claim.at_most(f"{name}: most seconds", _value(mine, "seconds", np.max), bound))
    families = _grouped([each for each in sets if each["family"]], lambda each: str(each["family"]))
    for family, mine in families.items():
        accuracy = _value(mine, "accuracy", np.mean)
        lowest = _value(mine, "accuracy", np.min)
        found.append(Claim.at_least(f"hidden feature {family}: mean accuracy", accuracy, FAMILY))
        found.append(Claim.at_least(f"hidden feature {family}: lowest accuracy of a seed", lowest, FAMILY))
    clear = [each for each in sets if each["id"] in MEANS]
    if clear:
        advised, noticed = (_value(clear, name, np.mean) for name in ("advised", "noticed"))
        found.append(Claim.at_least("sets that can be settled: share advised to hand in", advised, ADVISED))
        found.append(Claim.at_least("sets that can be settled: share called ambiguous", noticed, ALARMS))
    for number in ALIKE:
        mine = [each for each in sets if each["id"] == number]
        dimmed = [each for each in mine if each["variant"]]
        plain = [each for each in mine if not each["variant"]]
        if dimmed:
            accuracy = _value(dimmed, "accuracy", np.mean)
            found.append(Claim.at_least(f"set {number}, dimmed: mean accuracy", accuracy, DIMMED))
        if plain:
            advised = _value(plain, "advised", np.mean)
            found.append(Claim.at_most(f"set {number}: share advised to hand in", advised, 0))
    rates = [each for each in _of(ours, "rates") if each["mix_rate"] >= CURVE_FROM]
    for rate, mine in _grouped(rates, lambda each: f"{each['mix_rate']:g}").items():
        accuracy = _value(mine, "accuracy", np.mean)
        lowest = _value(mine, "accuracy", np.min)
        found.append(Claim.at_least(f"set 1 at mix rate {rate}: mean accuracy", accuracy, CURVE))
        found.append(Claim.at_least(f"set 1 at mix rate {rate}: lowest accuracy of a seed", lowest, CURVE))
    found += _ahead(_of(records, "pacs"))
    return found + _of_scans(_of(ours, "scan"))


def _of_scans(records: Sequence[Record]) -> list[Claim]:
    """That ambiguous sets are called so at every mix rate, with that rate about right, and no others."""
    found: list[Claim] = []
    calm = [each for each in records if _kind(each).startswith("not")]
    if calm:
        alarms = _value(calm, "is_ambiguous", np.mean)
        found.append(Claim.at_most("false alarms of the scan", alarms, FALSE_ALARMS))
    ambiguous = [each for each in records if not _kind(each).startswith("not")]
    for rate, mine in sorted(_grouped(ambiguous, lambda each: f"{each['true']:.2f}").items()):
        alarms = _value(mine, "is_ambiguous", np.mean)
        found.append(Claim.at_least(f"alarms of the scan at mix rate {rate}", alarms, ALARMS))
        off = float(np.mean([abs(float(each["estimated"]) - float(each["true"])) for each in mine]))
        bound = min(RATE_OFF, RATE_OFF_SHARE * float(rate))
        found.append(Claim.at_most(f"estimate of the mix rate {rate} off by", off, bound))
    return found


def _value(records: Sequence[Record], name: str, of: Callable[..., np.floating]) -> float:
    return float(of([float(each[name]) for each in records]))


def _ahead(records: Sequence[Record]) -> list[Claim]:
    """On every task, our mean worst-group accuracy less that of the better kind of each peer."""
    found: list[Claim] = []
    for task, same in _grouped(records, lambda each: str(each["task"])).items():
        means = {
            method: _value(each, "worst", np.mean)
            for method, each in _grouped(same, lambda record: str(record["method"])).items()
        }
        for peer in ("DivDis", "D-BAT"):
            theirs = [value for method, value in means.items() if method.startswith(peer)]
            if theirs and OURS in means:
                lead = means[OURS] - max(theirs)
                found.append(Claim.more_than(f"{task}: worst group ahead of {peer} by", lead, 0))
    return found
