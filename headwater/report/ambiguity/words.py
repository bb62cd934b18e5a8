"""The sentences of the page of an ambiguous data set, computed from its data."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.printable import counted
from headwater.report.ambiguity.data import AmbiguityData, MeantShown, Noticed, Outcome
from headwater.report.words import listed, percent

_SURE = 0.99
_MOST_NAMED = 3  # classes of a cluster


def headline(data: AmbiguityData) -> str:
    """What came of it, in one sentence."""
    if data.outcome is None or not data.asked:
        return _noticed(data)
    questions = counted(len(data.asked), "answer")
    if data.outcome.settled:
        return f"{questions[:1].upper()}{questions[1:]} settled what the labels of {data.name} mean."
    return f"{questions[:1].upper()}{questions[1:]} did not settle what the labels of {data.name} mean."


def answer(data: AmbiguityData) -> str:
    """What that comes to for the target rows, or what to do next."""
    found = data.outcome
    if found is None:
        return next_step(data.noticed)
    if found.accuracy is not None and found.before is not None:
        return (
            f"{percent(found.accuracy)} of the target rows are classed correctly; a head trained on the "
            f"labeled rows alone has {percent(found.before)} right."
        )
    return f"{percent(found.expected.value)} of the target rows are expected to be classed correctly."


def next_step(noticed: Noticed | None) -> str:
    """What the scan advises."""
    if noticed is None:
        return ""
    if not noticed.is_ambiguous:
        return "A head trained on the labeled rows is as good a start as any; no question needs an answer."
    return (
        "More labeled rows of the same sort would not help: only the labels of rows of the unseen kinds tell "
        "which reading is meant."
    )


def _noticed(data: AmbiguityData) -> str:
    if data.noticed is None:
        return f"What the labels of {data.name} mean was not asked."
    if data.noticed.is_ambiguous:
        return f"The labels of {data.name} do not say which feature is meant."
    if data.noticed.novelty >= data.noticed.alarm:
        return f"{data.name} has rows unlike the labeled ones, but its labels say what is meant."
    return f"Nothing makes the labels of {data.name} ambiguous."


def score(noticed: Noticed) -> str:
    """The score in words."""
    if noticed.is_ambiguous:
        return "an alarm"
    return "no alarm" if noticed.novelty < noticed.alarm else "no alarm: new, but not contradictory"


def novelty(noticed: Noticed, *, has_unlabeled: bool = True) -> str:
    """What is new in the unlabeled rows, or in the target rows alone."""
    if noticed.novelty < noticed.alarm:
        return (
            f"Labeled and {'unlabeled' if has_unlabeled else 'target'} rows can hardly be told apart: what "
            "differs between them, chance would "
            f"make in {percent(1 - noticed.novelty, 0)} of such sets."
        )
    unseen = [kind for kind in noticed.kinds if kind.is_unseen and not kind.is_mixed]
    told = f": {counted(len(unseen), 'kind')}" if len(unseen) > 1 else ""
    if told and any(kind.is_mixed for kind in noticed.kinds):
        told += ", and some of none of these"
    unlabeled = f"{percent(noticed.mix_rate.value, 0)} of the unlabeled rows and " if has_unlabeled else ""
    return (
        f"About {unlabeled}{percent(noticed.target_rate.value, 0)} of the target rows, the ones to be "
        f"classed, are unlike any labeled row{told}."
    )


def readings(noticed: Noticed) -> str:
    """What the labels may mean."""
    fits = [percent(reading.fits) for reading in noticed.readings]
    if not fits:
        return ""
    names = listed([f"reading {reading.name}" for reading in noticed.readings])
    return (
        f"{names[:1].upper()}{names[1:]} fit held-out labeled rows ({listed(fits)} right) and say different "
        "things of the unseen kinds. Nothing in the labels prefers one of them."
    )


def beliefs(outcome: Outcome) -> str:
    """Which reading is believed in the end."""
    if not outcome.beliefs:
        return ""
    name, share = max(outcome.beliefs, key=lambda each: each[1])
    rest = f"; that none of them is right, {percent(outcome.unexplained, 0)}"
    sure = "all but sure" if share >= _SURE else f"believed with {percent(share, 0)}"
    return f"Of {counted(len(outcome.beliefs), 'reading')}, {name} is {sure}{rest}."


def unseen_rows(noticed: Noticed) -> int:
    """How many unlabeled and target rows are of unseen kinds."""
    return sum(kind.rows for kind in noticed.kinds if kind.is_unseen)


def of_classes(counts: Sequence[int], classes: Sequence[str]) -> str:
    """A cluster's labeled rows by their commonest classes."""
    there = sorted((place for place, count in enumerate(counts) if count), key=lambda place: -counts[place])
    said = [f"{counts[place]:,} of {classes[place]}" for place in there[:_MOST_NAMED]]
    rest = sum(counts[place] for place in there[_MOST_NAMED:])
    return ", ".join([*said, f"{rest:,} of others"] if rest else said) or "none"


def after(data: AmbiguityData) -> str:
    """What the classes in the end rest on."""
    if not data.asked:
        return "In the end"
    return (
        "After: what was settled"
        if data.outcome is not None and data.outcome.settled
        else "After the answers"
    )


def counts_columns(data: AmbiguityData) -> bool:
    """Whether anything on the page goes by a column, which has a number."""
    about = [] if data.noticed is None else [each.about for each in data.noticed.readings]
    about += [] if data.outcome is None else [each.about for each in data.outcome.readings]
    return any(each.startswith("column ") for each in about)


def known(outcome: Outcome) -> list[MeantShown]:
    """The readings of which anything is known that they go by."""
    return [each for each in outcome.readings if each.about or each.goes_by is not None or each.calls]


def meant(reading: MeantShown) -> str:
    """How far a reading is believed, and what is known of it."""
    said = f"believed to {percent(reading.belief, 0)}"
    if reading.about:
        said += f"; goes by {reading.about}"
    return f"{said}; reading {reading.scanned} of the scan" if reading.scanned else said
