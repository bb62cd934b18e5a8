"""What the page of an ambiguous data set shows, as plain data: texts, shares and pictures as `data:` URIs."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.report.data import Estimate


@dataclass(frozen=True)
class Picture:
    """An image as a `data:` URI, its size in pixels, and what it shows, in words."""

    uri: str
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class KindShown:
    """A class as labeled, or a kind of rows that labels never show (`is_unseen`), of so many `rows`.

    `share` is its share of the rows that it is counted among: labeled ones, or unlabeled and target ones.
    `is_mixed`: unseen rows that nothing divides into kinds.
    """

    name: str
    is_unseen: bool
    rows: int
    share: float
    mean: Picture | None
    typical: tuple[Picture, ...]
    is_mixed: bool = False


@dataclass(frozen=True)
class ReadingShown:
    """A way to read the labels: its accuracy on held-out labeled rows, and what it goes by in images.

    `goes_by` is positive where a row is `high` to it, not `low`; `calls` are labels with typical unseen rows
    that it calls so; `about` names the place or the column that it goes by, where that is one alone.
    """

    name: str
    fits: float
    goes_by: Picture | None
    low: str
    high: str
    calls: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    about: str = ""


@dataclass(frozen=True)
class MeantShown:
    """A reading that questions were about, how far it is believed in the end, and what it goes by.

    `about` names that where it lies in one place. `goes_by`, `low` and `high` are as of `ReadingShown`;
    `calls` are labels with target rows that it calls so and its strongest rival does not. `scanned` is the
    name of the reading of the scan that says the same, if there is one.
    """

    name: str
    belief: float
    about: str
    goes_by: Picture | None
    low: str
    high: str
    calls: tuple[tuple[str, tuple[Picture, ...]], ...]
    scanned: str = ""


@dataclass(frozen=True)
class Dots:
    """Places (x, y) in [0, 1] of rows of one kind, by its place among the kinds; None for ordinary rows."""

    kind: int | None
    places: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ClusterShown:
    """A cluster: how many rows of each sort it has, labeled ones by class, and pictures of typical rows."""

    name: str
    is_unseen: bool
    classes: tuple[int, ...]
    unlabeled: int
    target: int
    typical: tuple[Picture, ...]


@dataclass(frozen=True)
class Noticed:
    """What the scan found; its shares with intervals, `sentences` in its own words."""

    score: float
    alarm: float
    is_ambiguous: bool
    novelty: float
    contradiction: float
    mix_rate: Estimate
    target_rate: Estimate
    kinds: tuple[KindShown, ...]
    readings: tuple[ReadingShown, ...]
    map: tuple[Dots, ...]
    clusters: tuple[ClusterShown, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class OpinionShown:
    """What readings of one mind said of a row before it was asked about, and how far they were believed.

    `goes_by` and `about` are as of `MeantShown`.
    """

    name: str
    label: str
    belief: float
    is_right: bool
    goes_by: Picture | None = None
    about: str = ""


@dataclass(frozen=True)
class Asked:
    """A question about a target row, and its answer; `doubt` is the belief that no opinion holds."""

    number: int
    item: int
    picture: Picture | None
    opinions: tuple[OpinionShown, ...]
    speaks_for: int
    answer: str
    notes: tuple[str, ...] = ()
    doubt: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How it ended: beliefs in the readings by name, and the accuracy that is expected.

    `accuracy` and `before`, that of a head trained on labeled rows alone, are known where the truth is.
    """

    settled: bool
    expected: Estimate
    beliefs: tuple[tuple[str, float], ...]
    unexplained: float
    sentences: tuple[str, ...]
    submit: bool | None = None
    advice: str = ""
    accuracy: float | None = None
    before: float | None = None
    seconds: float | None = None
    readings: tuple[MeantShown, ...] = ()


@dataclass(frozen=True)
class AmbiguityData:
    """All of the page. `identity` (64 hex digits) tells it from other data sets' pages.

    `noticed` is None where no scan was made, `outcome` None where nothing was asked; `rows` counts labeled,
    unlabeled and target rows, no unlabeled ones where the target rows stood in for them.
    """

    identity: str
    name: str
    classes: tuple[str, ...]
    rows: tuple[int, int, int]
    shape: tuple[int, ...]
    noticed: Noticed | None
    asked: tuple[Asked, ...]
    budget: int | None
    outcome: Outcome | None
    notes: tuple[str, ...]
    version: str
