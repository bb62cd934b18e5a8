"""The peers do what their papers say, trials count and keep, and claims follow from records."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from benchmarks import __main__ as command
from benchmarks.hackathon42 import judging, measuring, peers, trials
from benchmarks.hackathon42.bound import bound
from benchmarks.hackathon42.new_sorts import CHANGES
from benchmarks.hackathon42.sets import make
from benchmarks.hackathon42.trials import OURS, Asked, Trial, judge, perform_all


def test_mutual_information_is_that_of_the_classes_drawn():
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, (2, 500))
    codes[1, :250] = codes[0, :250]
    one_hot = [torch.eye(3)[torch.from_numpy(each)] for each in codes]
    assert float(peers.mutual_information(*one_hot)) == pytest.approx(mutual_info_score(*codes), abs=1e-5)
    assert float(peers.mutual_information(one_hot[0], torch.full((500, 3), 1 / 3))) == pytest.approx(
        0, abs=1e-6
    )


def test_the_most_disputed_rows_are_asked_about_and_the_head_that_is_right_is_kept():
    first = np.array([0.9, 0.9, 0.9, 0.9, 0.2])
    second = np.array([0.8, 0.1, 0.3, 0.9, 0.1])
    found = np.stack([np.column_stack([1 - p, p]) for p in (first, second)], axis=1)
    asked = []

    def ask(item):
        asked.append(item)
        return 0

    said = peers._settle(found, ask, 2)
    assert asked == [1, 2]
    assert said.labels.tolist() == [1, 0, 0, 1, 0]
    assert said.asked == 2


@pytest.mark.parametrize(("name", "questions"), [("linear on labeled", 0), ("DivDis", 5), ("D-BAT", 5)])
def test_peers_ask_no_more_than_they_may(name, questions):
    made = make(0, 0)
    asked = Asked(made.target_labels)
    found = judge(made, peers.PEERS[name](made.problem, asked, budget=5, seed=0).labels)
    assert len(asked.items) == questions
    assert found["accuracy"] > 0.6
    if name == "DivDis":  # its own toy
        assert found["crossed"] > 0.85


def test_a_second_head_disagrees_only_where_it_is_told_to():
    """D-BAT by its definition: both fit the labels, and they part on unlabeled rows that leave it open."""
    made = make(0, 1, mix_rate=1.0, target_rate=1.0)
    found = []

    def keep(probabilities, ask, budget):
        found.append(probabilities)
        return peers.Said(probabilities[:, 0].argmax(axis=1), 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "_settle", keep)
        patch.setattr(peers, "DISAGREEMENT", 1.0)
        peers.dbat(made.problem, lambda item: 0, budget=5, seed=0)
    first, second = found[0].argmax(axis=2).T
    assert (first != second).mean() > 0.9


def test_the_bound_knows_all_labels_but_those_of_the_target():
    made = make(0, 0)
    assert (bound(made, {}) == made.target_labels).mean() > 0.98
    hidden = replace(made, unlabeled_cells=made.unlabeled_cells[:, ::-1])  # the other feature's labels
    assert (bound(hidden, {}) == made.target_labels).mean() < 0.8


def test_figures_of_a_trial():
    made = make(0, 0, size=0.2)
    codes = made.target_cells[:, made.meant]
    assert judge(made, codes) == {"accuracy": 1.0, "crossed": 1.0, "worst": 1.0}
    other = judge(made, made.target_cells[:, 1 - made.meant])
    assert other == {"accuracy": 0.5, "crossed": 0.0, "worst": 0.0}
    asked = Asked(codes)
    assert [asked(item) for item in (0, 1, 2, 3, 4, 4)] == codes[[0, 1, 2, 3, 4, 4]].tolist()
    with pytest.raises(AssertionError, match="sixth"):
        asked(5)


def test_a_run_that_was_stopped_goes_on(monkeypatch, tmp_path):
    kept = tmp_path / "records.jsonl"
    tried = []

    def attempt(trial, method, made, features):
        tried.append((trial.seed, method))
        return {"accuracy": 1.0}

    monkeypatch.setattr(trials, "attempt", attempt)
    wanted = [Trial("sets", 0, seed, size=0.02) for seed in range(3)]
    run = perform_all(wanted, ["DivDis"], kept)
    list(itertools.islice(run, 3))
    run.close()
    assert tried == [(0, OURS), (0, "DivDis"), (1, OURS), (1, "DivDis")]
    with kept.open("a") as file:
        file.write('{"part": "sets", "id"')  # torn by the stop
    tried.clear()
    found = list(perform_all(wanted, ["DivDis"], kept))
    assert tried == [(2, OURS), (2, "DivDis")]
    assert sorted((each["seed"], each["method"]) for each in found) == sorted(
        (seed, method) for seed in range(3) for method in (OURS, "DivDis")
    )
    tried.clear()
    assert len(list(perform_all(wanted, ["DivDis", "D-BAT"], kept))) == 9
    assert tried == [(seed, "D-BAT") for seed in range(3)]
    assert len(list(perform_all([Trial("sets", 0, 0, size=0.03)], [], kept))) == 1
    assert tried[3:] == [(0, OURS)]  # another size is another trial


def _record(method, **figures):
    trial = {"part": "sets", "id": 1, "seed": 0, "family": None, "variant": None, "mix_rate": None}
    plain = {"labeled_rate": 0.0, "size": 1.0, "task": None, "name": "mnist_cc", "method": method}
    told = {"accuracy": 0.99, "crossed": 0.98, "worst": 0.9, "labels": 5, "seconds": 3.0}
    return {
        **trial,
        **plain,
        **told,
        "settled": True,
        "expected": 0.99,
        "advised": True,
        "noticed": True,
        **figures,
    }


def test_claims_follow_from_records():
    records = [
        _record(OURS),
        _record(OURS, seed=1, accuracy=0.95, seconds=70.0),
        _record("DivDis", accuracy=1.0),
        _record(OURS, id=6, name="mnist_sum", accuracy=0.75, advised=False),
        _record(OURS, part="pacs", id=999, task="a/b", worst=0.8),
        _record("DivDis", part="pacs", id=999, task="a/b", worst=0.7),
        _record("DivDis linear", part="pacs", id=999, task="a/b", worst=0.85),
        _record(OURS, part="scan", true=0.0, estimated=0.1, is_ambiguous=True),
        _record(OURS, part="scan", true=0.5, estimated=0.0, labeled_rate=0.5, is_ambiguous=False),
        _record(OURS, part="scan", true=0.5, estimated=0.4, is_ambiguous=True),
    ]
    found = {each.name: (round(each.value, 6), each.holds) for each in judging.claims(records)}
    assert found == {
        "set 1: mean accuracy": (0.97, False),
        "set 1: lowest accuracy of a seed": (0.95, False),
        "set 1: most seconds": (70.0, False),
        "set 6: share advised to hand in": (0.0, True),
        "a/b: worst group ahead of DivDis by": (-0.05, False),
        "false alarms of the scan": (0.5, False),
        "alarms of the scan at mix rate 0.50": (1.0, True),
        "estimate of the mix rate 0.50 off by": (0.1, False),
        "sets that can be settled: share advised to hand in": (1.0, True),
        "sets that can be settled: share called ambiguous": (1.0, True),
    }


def test_every_seed_tries_every_set_and_family():
    wanted = measuring.trials_of(("sets",), [1, 6, 12, 13], 2)
    by_seed = [[each for each in wanted if each.seed == seed] for seed in range(2)]
    for each in by_seed:
        assert [one.id for one in each].count(1) == 1
        assert {one.variant for one in each if one.id == 6} == {None, "dimmed"}
        assert [one.family for one in each if one.family] == list(measuring.FAMILIES)
    assert {(one.family, one.id) for one in wanted if one.family} == {
        (family, number) for family in measuring.FAMILIES for number in (12, 13)
    }


def test_the_scan_tries_every_change_of_plain_sets_with_each_seed():
    wanted = [each for each in measuring.trials_of(("scan",), [0, 1], 2) if each.variant is not None]
    assert [(each.variant, each.seed) for each in wanted] == [(n, s) for s in range(2) for n in CHANGES]
    assert not [each for each in measuring.trials_of(("scan",), [1], 1) if each.variant is not None]


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_change_is_of_other_rows_of_its_classes_and_crosses_nothing(name):
    made = Trial("scan", 0, 3, variant=name).generate()
    problem, change = made.problem, CHANGES[name]
    assert made.mix_rate == 0
    assert len(problem.labeled) == 400
    codes = problem.labels, made.unlabeled_cells[:, 0]
    for values, mine, part in zip(
        (problem.labeled, problem.unlabeled), codes, ("labeled", "others"), strict=True
    ):
        for code in (0, 1):
            if change is None:
                moved = np.linalg.norm(values[mine == code, 1:].mean(axis=0)) > 0.8
                assert moved == (code == 1 and part == "others")
                continue
            share = getattr(change, part) if code in change.classes else 0.0
            assert values[mine == code, 1 + code].mean() == pytest.approx(3 * share, abs=0.45)
        assert (mine == (values[:, 0] > 2.5)).mean() > 0.97


def test_parts_and_sets_are_chosen_in_the_environment(monkeypatch, tmp_path, capsys):
    seen = []

    def attempt(trial, method, made, features):
        seen.append((trial.part, trial.id, trial.seed, method))
        return {
            name: _record(method)[name] for name in ("accuracy", "crossed", "worst", "labels", "seconds")
        } | {
            "settled": True,
            "expected": 0.9,
            "advised": True,
            "noticed": True,
        }

    monkeypatch.setattr(trials, "attempt", attempt)
    for name, value in {"PARTS": "sets", "SETS": "0", "PEERS": "D-BAT", "KEEP": str(tmp_path / "k")}.items():
        monkeypatch.setenv(name, value)
    place = tmp_path / "figures.json"
    assert command.main(["hackathon42", "--seeds", "2", "--json", str(place)]) == 0
    assert seen == [("sets", 0, seed, method) for seed in range(2) for method in (OURS, "D-BAT")]
    rows = json.loads(place.read_text())["rows"]
    assert [(row["set"], row["method"]) for row in rows] == [
        ("0 toy_dataset", OURS),
        ("0 toy_dataset", "D-BAT"),
    ]
    assert command.main(["store", "--seeds", "2"]) == 2
    assert "store cannot run with 2 seeds" in capsys.readouterr().err
