"""What the benchmark makes of records of trials, and the clusters that it tries beside us."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.hackathon42 import medoids
from benchmarks.hackathon42.judging import claims, tables
from benchmarks.hackathon42.new_sorts import CHANGES
from benchmarks.hackathon42.trials import BESIDE, OURS, Asked, Features, Trial, attempt, methods
from headwater.heads.ambiguity.problem import Problem


def _record(part="sets", method=OURS, **given):
    known = dict.fromkeys(Trial.__dataclass_fields__) | {"id": 1, "seed": 0, "size": 1.0, "labeled_rate": 0.0}
    found = {"accuracy": 0.999, "crossed": 0.999, "worst": 0.99, "labels": 5, "seconds": 9.0, "name": "n"}
    said = {"noticed": True, "settled": True, "expected": 0.99, "advised": True}
    return {**known, **found, **said, "part": part, "method": method, **given}


def _scanned(true, estimated, alarm=True):
    return _record("scan", true=true, estimated=estimated, is_ambiguous=alarm, score=float(alarm))


def _held(records):
    return {claim.name: claim.holds for claim in claims(records)}


def test_a_scan_that_never_warns_does_not_pass():
    silent = _held([_scanned(0.0, 0.0, False), _scanned(0.1, 0.0, False), _scanned(0.5, 0.0, False)])
    assert silent == {
        "false alarms of the scan": True,
        "alarms of the scan at mix rate 0.10": False,
        "estimate of the mix rate 0.10 off by": False,
        "alarms of the scan at mix rate 0.50": False,
        "estimate of the mix rate 0.50 off by": False,
    }
    assert all(_held([_scanned(0.0, 0.0, False), _scanned(0.1, 0.14), _scanned(0.02, 0.011)]).values())
    assert not _held([_scanned(0.02, 0.031)])["estimate of the mix rate 0.02 off by"]
    assert not _held([_scanned(0.0, 0.0, True)])["false alarms of the scan"]


def test_new_subtypes_are_a_sort_of_their_own_that_is_not_to_be_called_ambiguous():
    records = [
        _scanned(0.0, 0.0, alarm) | {"variant": name, "id": 0}
        for name, alarm in zip(CHANGES, (True, False, False, False, False, False), strict=True)
    ]
    by_sort, alarms = tables(records)
    assert [row[:2] for row in by_sort.rows] == [("not ambiguous: new subtypes", pytest.approx(1 / 6))]
    assert {row[0] for row in alarms.rows} == set(CHANGES)
    assert not _held(records)["false alarms of the scan"]
    assert _held(records[1:])["false alarms of the scan"]


def test_one_bad_seed_is_not_hidden_by_the_mean():
    seeds = [
        _record("rates", seed=seed, mix_rate=0.1, accuracy=0.9 if seed == 4 else 1.0) for seed in range(5)
    ]
    held = _held(seeds)
    assert held["set 1 at mix rate 0.1: mean accuracy"]
    assert not held["set 1 at mix rate 0.1: lowest accuracy of a seed"]
    seeds = [_record(id=12, family="slant", seed=s, accuracy=0.9 if s == 4 else 1.0) for s in range(5)]
    held = _held(seeds)
    assert held["hidden feature slant: mean accuracy"]
    assert not held["hidden feature slant: lowest accuracy of a seed"]


def test_advising_against_everything_does_not_pass():
    held = _held([_record(advised=False, noticed=False), _record(id=6, advised=False, accuracy=0.75)])
    assert held["set 6: share advised to hand in"]
    assert not held["sets that can be settled: share advised to hand in"]
    assert not held["sets that can be settled: share called ambiguous"]


@pytest.mark.parametrize(("worst", "ahead"), [(0.9, True), (0.8, False)])
def test_level_is_not_ahead(worst, ahead):
    records = [_record("pacs", task="dogs", worst=worst), _record("pacs", "DivDis", task="dogs", worst=0.8)]
    assert _held(records) == {"dogs: worst group ahead of DivDis by": ahead}


def test_tables_show_whoever_was_tried():
    beside = [
        _record(method=name, noticed=None, advised=None) for name in methods(Trial("sets", 1, 0), BESIDE)
    ]
    assert {"clusters", "clusters + readings"} <= set(BESIDE)
    (table,) = tables(beside)
    assert [row[1] for row in table.rows] == [OURS, *BESIDE]


def _blobs(rows=120):
    """Four far cells of two features; labeled rows are of the two in which both agree."""
    random = np.random.default_rng(0)
    cells = {
        name: random.integers(0, 2, (count, 2))
        for name, count in {"labeled": rows, "unlabeled": 3 * rows, "target": rows}.items()
    }
    cells["labeled"][:, 1] = cells["labeled"][:, 0]
    x = {
        name: (8.0 * each + random.standard_normal(each.shape)).astype(np.float32)
        for name, each in cells.items()
    }
    problem = Problem(x["labeled"], cells["labeled"][:, 0], x["unlabeled"], x["target"], (0, 1))
    return problem, cells["target"]


@pytest.mark.parametrize("meant", [0, 1])
def test_answers_about_medoids_carry_to_their_clusters(meant):
    problem, cells = _blobs()
    asked = Asked(cells[:, meant])
    found = medoids.solve(problem, {}, asked, budget=5, seed=0)
    assert (found.labels == cells[:, meant]).mean() > 0.98
    assert (
        cells[list(found.answers), 0] != cells[list(found.answers), 1]
    ).all()  # only what labels never show
    assert 2 <= len(asked.items) == len(found.answers) <= 5
    without = medoids.solve(problem, {}, asked, budget=0, seed=0)
    assert without.answers == {}
    assert (without.labels == cells[:, meant]).mean() < 0.9


def test_clusters_are_unseen_where_labeled_rows_are_missing_beyond_chance():
    codes = np.repeat([0, 1, 0, 1, 2], [50, 50, 40, 30, 60])
    assert medoids.unseen_clusters(codes, 100, 3) == [2]
    assert medoids.unseen_clusters(np.repeat([0, 1, 0, 1], 50), 100, 2) == []


def test_clusters_are_tried_as_any_method_is():
    trial = Trial("sets", 0, 0, size=0.15)
    made = trial.generate()
    for method in ("clusters", "clusters + readings"):
        found = attempt(trial, method, made, Features(made, trial.seed))
        assert 0.7 < found["accuracy"] <= 1
        assert found["labels"] <= 5
