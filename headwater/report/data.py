"""What a report says, as plain data; it is filled by `gather.py` and shown by `page.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AREA = "worst 10\u201350\u202f% of groups"
"""What the area of a worst-K curve is called: the mean over K of the worst K % of the groups."""

_ENOUGH = 5  # groups whose average is surer than any of them
_TINY = 3  # images of a group that are all wrong by chance every so often


@dataclass(frozen=True)
class Estimate:
    """A share between 0 and 1 with its interval; `low` and `high` are None where no interval was drawn."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GroupResult:
    """One head on one group: `accuracy` is None where the split holds no rows of the group."""

    name: str
    count: int
    correct: int
    accuracy: Estimate | None


@dataclass(frozen=True)
class Curve:
    """A worst-K curve: mean accuracy of the worst `groups`, `percents` % of them, with intervals K by K."""

    percents: tuple[float, ...]
    groups: tuple[int, ...]
    accuracies: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, percent: float) -> Estimate:
        """The estimate at one of the percents."""
        place = self.percents.index(percent)
        return Estimate(self.accuracies[place], self.low[place], self.high[place])


@dataclass(frozen=True)
class Judged:
    """The groups that a worst-K curve is of: those with images in the reported split, and how many have none.

    `typical`: at least half of the groups have so many images or fewer.
    """

    groups: int
    without: int
    typical: int

    @property
    def tiny(self) -> bool:
        """Whether chance alone makes the worst of the groups look worse than they are."""
        return self.typical <= _TINY


@dataclass(frozen=True)
class MethodResult:
    """One trained head: how it did on the reported split and how its training ended.

    `name` is unique within the report. `worst` is the accuracy of the group `worst_group`. The three averages
    keep the names of `heads.measures.metrics`: `overall` (rows count the same), `balanced` (groups do),
    `train_weighted` (groups count by their share of train). `in_sample`: why the figures are not of rows that
    are new to the head; empty where they are. `stepped`: trained for a set number of epochs, `iterations`,
    and to no optimum. `area` and `curve` of the worst K % of the groups are there where the page is about
    them, see `worst.about_worst_shares`.
    """

    name: str
    method: str
    file: str
    worst_group: str
    worst: Estimate
    overall: Estimate
    balanced: Estimate
    train_weighted: Estimate | None
    groups: tuple[GroupResult, ...]
    converged: bool
    convergence_note: str
    iterations: int
    seconds: float | None
    trained: int | None
    unconverged: int
    settings: str
    choices: str
    in_sample: str = ""
    stepped: bool = False
    area: Estimate | None = None
    curve: Curve | None = None

    @property
    def aimed(self) -> Estimate:
        """What the page is about: the worst group, or where groups are many and small, their worst K %."""
        return self.worst if self.area is None else self.area


@dataclass(frozen=True)
class NodeResult:
    """A node of the tree of groups: its groups and images, and each of `heads`' accuracies there."""

    name: str
    parent: str
    groups: int
    count: int
    accuracies: tuple[Estimate, ...]


@dataclass(frozen=True)
class LevelResult:
    """One level above the groups: how many nodes it has, and those that the first of `heads` is worst at."""

    level: str
    total: int
    heads: tuple[str, ...]
    nodes: tuple[NodeResult, ...]


@dataclass(frozen=True)
class Group:
    """A group or a class: how many rows each split holds of it, by split name."""

    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Stage:
    """One stage of the extraction and the images per second that it managed while it was busy."""

    name: str
    rate: float
    slowest: bool


@dataclass(frozen=True)
class Extraction:
    """What was extracted, with which network, how fast; what the store does not record is empty."""

    source: str
    store: str
    rows: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    backbone: str
    weights: str
    layer: str
    dim: int
    dtype: str
    views: int
    fingerprint: str
    device: str
    engine: str
    machine: str
    seconds: float | None
    rate: float | None
    runs: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a `data:` URI, with what the row is and what two heads take it for."""

    uri: str
    key: str
    truth: str
    predicted: str
    other: str | None
    other_right: bool


@dataclass(frozen=True)
class Gallery:
    """Mistakes of one head in its worst group. `other_method` is the head it is set beside, if any."""

    method: str
    group: str
    wrong: int
    count: int
    rescued: int
    other_method: str | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Tried:
    """One setting of a method with one seed: its accuracies on the reported split."""

    overall: float
    worst: float
    converged: bool
    chosen: bool


@dataclass(frozen=True)
class MethodTried:
    """All that a sweep tried of one method, and how the chosen setting did, as means over the seeds."""

    name: str
    tried: tuple[Tried, ...]
    chosen_overall: float
    chosen_worst: float


@dataclass(frozen=True)
class RulePick:
    """What one selection rule picked. `figure` is what the rule looked at; `cost` is against the oracle.

    `unit` of the figure is `accuracy`, `likelihood`, or what stands in for it, in words; `why`: one sentence.

    `worst` and `overall` are means over the seeds on the reported split, `spread` the standard deviation of
    `worst` over them, None with a single seed. `honest` is False for a rule that looks at the reported split.
    """

    rule: str
    looks_at: str
    why: str
    honest: bool
    used: bool
    method: str
    settings: str
    figure: float | None
    unit: str
    worst: float
    spread: float | None
    overall: float
    cost: float | None


@dataclass(frozen=True)
class Sweep:
    """A sweep behind the heads of a report.

    `aim` names what `worst` is of in its parts. `lowest_overall` is where the drawings begin; `skipped`:
    methods that could not be run, and why; `fewer`: methods with fewer settings to try than the `draws` asked
    for. `stepped` heads were trained for a set number of epochs, and are none of the `unconverged`; `failed`:
    by method, which heads failed, and why.
    `warning`: of a choice that is no result.
    """

    methods: tuple[MethodTried, ...]
    rules: tuple[RulePick, ...]
    rule: str
    settings: int
    seeds: int
    heads: int
    unconverged: int
    seconds: float | None
    lowest_overall: float
    baseline_overall: float | None
    baseline_worst: float | None
    skipped: tuple[tuple[str, str], ...]
    warning: str = ""
    draws: int | None = None
    fewer: tuple[tuple[str, int], ...] = ()
    aim: str = "worst group"
    stepped: int = 0
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. `methods`: best worst group first; `baseline` and `best` name two of them.

    `gain`: where the page is about the worst K % of the groups, how much more accurate `best` is there than
    `baseline` on the same images, as a difference of shares; `judged`: which groups these are.
    """

    title: str
    identity: str
    target: str
    group_columns: tuple[str, ...]
    split: str
    splits: tuple[str, ...]
    split_rows: Mapping[str, int]
    classes: tuple[Group, ...]
    groups: tuple[Group, ...]
    total_classes: int
    total_groups: int
    group_note: str
    left_out: str
    methods: tuple[MethodResult, ...]
    baseline: str
    best: str
    extraction: Extraction
    galleries: tuple[Gallery, ...]
    gallery_note: str
    about: str
    note: str
    level: float
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    sweep: Sweep | None = None
    levels: tuple[LevelResult, ...] = ()
    gain: Estimate | None = None
    judged: Judged | None = None

    @property
    def many(self) -> bool:
        """Whether the page is about the worst K % of the groups: many and small ones, or of a taxonomy."""
        return any(method.area is not None for method in self.methods)

    @property
    def averages_hold(self) -> bool:
        """Whether even the least of the worst K % is an average of enough groups to be surer than one is."""
        return any(method.curve.groups[0] >= _ENOUGH for method in self.methods if method.curve)

    @property
    def aim(self) -> str:
        """What the page is about, in words."""
        return AREA if self.many else "worst group"

    def method(self, name: str) -> MethodResult:
        """The method of that name."""
        return next(method for method in self.methods if method.name == name)
