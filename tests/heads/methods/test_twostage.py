"""Methods in several rounds, on a bank that scipy solves: published formulas by hand, limiting cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.methods import plan
from headwater.heads.methods.cnc import contrast_weights
from headwater.heads.methods.disagreement import dropped_log_probabilities, most_of_every_class
from headwater.heads.methods.recipes import FittedHead, run_recipes
from headwater.heads.methods.stages import log_probabilities
from headwater.heads.specs.criterion import GeneralizedCrossEntropy
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty
from headwater.heads.tasks.task import Task
from tests.heads.methods.scipy_bank import RECORD, ScipyBank

Made = Callable[..., dict[str, Any]]


def run(
    task: Task, name: str, seed: int = 0, **settings: Any
) -> tuple[FittedHead, list[list[HeadSpec]], list[list[LinearHead]]]:
    """A method on the scipy bank: what it came to, what it asked for in each round, and what it was sent."""
    bank = ScipyBank(task)
    sent: list[list[LinearHead]] = []
    train = bank.train

    def keep(specs: Any) -> list[LinearHead]:
        sent.append(train(specs))
        return sent[-1]

    bank.train = keep  # type: ignore[method-assign]
    (fitted,) = run_recipes(task, [plan(task, name, settings, seed=seed)], bank=bank)
    return fitted, bank.calls, sent


def probabilities(task: Task, head: LinearHead, rows: np.ndarray) -> np.ndarray:
    z = task.features[rows].astype("f8") @ head.weight.T.astype("f8") + head.bias
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def same(found: LinearHead, expected: LinearHead, atol: float = 2e-3) -> None:
    """Whether two heads tell classes apart by the same logits."""
    for part in ("weight", "bias"):
        a, b = getattr(found, part), getattr(expected, part)
        np.testing.assert_allclose(a - a[:1], b - b[:1], atol=atol)


def worst_group(task: Task, head: LinearHead, rows: np.ndarray) -> float:
    right = head.predict(task.features[rows]) == task.target[rows]
    return min(right[task.groups[rows] == g].mean() for g in range(len(task.group_names)))


# AFR


def test_afr_splits_train_and_weights_the_second_part_as_published(task: Task) -> None:
    fitted, calls, sent = run(task, "AFR", gamma=6, strength=0.2, l2=0.01)
    (first,), (second,) = calls
    train = task.splits["train"]
    assert sorted([*first.rows.index, *second.rows.index]) == train.tolist()
    assert len(second.rows) == round(0.2 * len(train))
    assert first.penalty == Penalty(l2=0.01)
    codes = task.target[second.rows.index]
    p = probabilities(task, sent[0][0], second.rows.index)
    rarest = min((codes == 0).sum(), (codes == 1).sum())
    expected = [
        np.exp(-6 * p[i, y]) * rarest / sum(other == y for other in codes) for i, y in enumerate(codes)
    ]
    found = second.weights.values
    np.testing.assert_allclose(found / found.sum(), np.array(expected) / sum(expected), rtol=1e-4)
    assert second.anchor == sent[0][0]
    # λ‖W - W₀‖² and 1/(rate·steps)/2·‖W - W₀‖² over two columns, as λ + 1/20 times half the one column's
    assert second.penalty.l2 == pytest.approx(0.2 + 0.5 / (500 * 0.02))
    assert fitted.head == sent[1][0]


def test_afr_without_gamma_and_penalty_is_class_balanced_erm_on_the_second_part(noisy: Task) -> None:
    fitted, (_, (second,)), _ = run(noisy, "AFR", gamma=0, strength=0, stopping=0, share=0.6)
    rows = second.rows.index
    only = Task.from_arrays(noisy.features[rows], [noisy.classes[code] for code in noisy.target[rows]])
    same(fitted.head, run(only, "RWY", l2=0)[0].head)


def test_afr_far_from_its_anchor_costs_too_much_with_a_strong_penalty(task: Task) -> None:
    fitted, _, sent = run(task, "AFR", gamma=6, strength=1e6, l2=0.01)
    weight = fitted.head.weight - fitted.head.weight[:1]
    anchor = sent[0][0].weight - sent[0][0].weight[:1]
    np.testing.assert_allclose(weight, anchor, atol=1e-4)


def test_afr_is_tuned_by_the_worst_group_of_val(task: Task) -> None:
    settings = {"gamma": "0,5,15", "strength": "0.01,1", "l2": 0.01}
    fitted, calls, _ = run(task, "AFR", **settings)
    assert [len(call) for call in calls] == [1, 6]
    alone = {
        (g, s): run(task, "AFR", gamma=g, strength=s, l2=0.01)[0].head for g in (0, 5, 15) for s in (0.01, 1)
    }
    worst = {key: worst_group(task, head, task.splits["val"]) for key, head in alone.items()}
    best = max(worst, key=lambda key: worst[key])
    assert (fitted.choices["gamma"], fitted.choices["strength"]) == best
    assert fitted.choices["tuning_worst_group"] == pytest.approx(worst[best])
    same(fitted.head, alone[best], atol=1e-4)


def test_afr_reads_val_only_where_it_tunes(world: Made) -> None:
    made = world({"train": (20, 5, 5, 20), "test": (3, 3, 3, 3)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(RequestError, match="AFR needs rows in split 'val'"):
        plan(task, "AFR")
    plan(task, "AFR", {"gamma": 4, "strength": 0.1})
    made = world({"train": (1, 0, 5, 20), "val": (3, 3, 3, 3)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(
        RequestError, match=r"AFR needs at least 2 rows of every class in split 'train', and 'landbird'"
    ):
        plan(task, "AFR")


# SELF


@pytest.mark.parametrize("by", ["early-stop", "misclassified", "early-stop-misclassified"])
def test_self_picks_the_rows_of_most_disagreement_or_loss(task: Task, by: str) -> None:
    _, (first, (second,)), sent = run(task, "SELF", by=by, rows=12, early_l2=0.3)
    held_out = split_half(task)
    assert set(second.rows.index) <= set(held_out.tolist())
    final = probabilities(task, sent[0][0], held_out)
    other = probabilities(task, sent[0][-1], held_out)
    if by == "early-stop":
        assert [spec.penalty.l2 for spec in first] == [1e-3, 0.3]
        score = [
            sum(f * np.log(f / o) for f, o in zip(p, q, strict=True))
            for p, q in zip(final, other, strict=True)
        ]
    else:
        score = [-np.log(p[task.target[row]]) for p, row in zip(other, held_out, strict=True)]
        assert len(first) == (2 if by.startswith("early") else 1)
    top = {row for _, row in sorted(zip(score, held_out.tolist(), strict=True))[-12:]}
    assert set(second.rows.index) == top
    codes = task.target[second.rows.index]
    totals = [second.weights.values[codes == code].sum() for code in (0, 1)]
    assert totals == pytest.approx([totals[0]] * 2)
    assert second.anchor == sent[0][0]
    assert second.penalty.l2 == pytest.approx(0.4 / 2)


def split_half(task: Task) -> np.ndarray:
    """The rows that SELF holds out, as its spec with more rows than there are shows them."""
    _, (_, (spec,)), _ = run(task, "SELF", by="random", rows=10_000)
    assert len(spec.rows) == len(task.splits["val"]) // 2
    return spec.rows.index


def test_self_on_every_row_without_a_tie_is_retraining_on_val(noisy: Task) -> None:
    fitted, _, _ = run(noisy, "SELF", by="misclassified", rows=10_000, share=1, finetune=1e-9)
    same(fitted.head, run(noisy, "LLR-class", l2=0)[0].head)
    tied, _, sent = run(noisy, "SELF", rows=20, finetune=1e7)
    np.testing.assert_allclose(tied.head.weight, sent[0][0].weight, atol=1e-4)


def test_self_drops_as_many_features_as_it_is_told(task: Task) -> None:
    picked = [
        set(run(task, "SELF", by="dropout", rows=12, dropout=dropout)[1][1][0].rows.index.tolist())
        for dropout in (0.1, 0.9, 0.9)
    ]
    assert picked[0] != picked[1] == picked[2]  # by the seed alone
    assert picked[1] != set(split_half(task)[:12].tolist())


def test_a_class_that_would_be_missing_gets_its_most_interesting_row() -> None:
    interest = np.array([5.0, 9.0, 1.0, 8.0, 0.5, 0.7])
    codes = np.array([0, 0, 0, 0, 1, 1])
    assert most_of_every_class(interest, codes, 2).tolist() == [1, 5]
    assert most_of_every_class(interest, codes, 3).tolist() == [1, 3, 5]
    assert most_of_every_class(interest, np.array([0, 1, 0, 0, 1, 1]), 3).tolist() == [0, 1, 3]
    assert most_of_every_class(interest, codes, 1).tolist() == [1, 5]
    assert most_of_every_class(interest, codes, 99).tolist() == [0, 1, 2, 3, 4, 5]


def test_dropping_features_leaves_the_logits_right_on_average(task: Task) -> None:
    random = np.random.default_rng(0)
    head = LinearHead(random.normal(size=(2, 12)).astype("f4") / 9, np.float32([0.1, -0.3]), RECORD)
    rows = task.splits["val"][:5]
    drawn = np.mean([dropped_log_probabilities(task, head, rows, 0.5, random) for _ in range(6000)], axis=0)
    exact = log_probabilities(task, head, rows)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], exact[:, 1] - exact[:, 0], atol=0.08)
    one = dropped_log_probabilities(task, head, rows, 0.5, random)
    assert np.abs(one - exact).max() > 0.1


# LLR


@pytest.mark.parametrize(("name", "peer"), [("LLR-class", "RWY"), ("LLR-group", "RWG")])
def test_retraining_on_val_is_reweighting_where_val_is_train(task: Task, name: str, peer: str) -> None:
    found, ((spec,),), _ = run(task, name, l2=0.01, standardise=False)
    val = task.splits["val"]
    named = [task.group_names[group].split(",")[-1] for group in task.groups[val]]
    swapped = Task.from_arrays(task.features[val], [task.classes[c] for c in task.target[val]], named)
    expected, _, _ = run(swapped, peer, l2=0.01, standardise=False)
    same(found.head, expected.head, atol=1e-4)
    _, ((half,),), _ = run(task, name, share=0.5)
    assert len(half.rows) == len(val) // 2
    assert set(half.rows.index) < set(spec.rows.index) == set(val)


# JTT, LfF, CnC


def test_jtt_counts_the_first_heads_errors_many_times(task: Task) -> None:
    fitted, ((first,), (second,)), sent = run(task, "JTT", upweight=50, identification_l2=2)
    assert first.penalty.l2 == 2
    train = task.splits["train"]
    guess = probabilities(task, sent[0][0], train).argmax(axis=1)
    expected = [50 if g != y else 1 for g, y in zip(guess, task.target[train], strict=True)]
    assert second.weights.values.tolist() == expected
    assert second.rows.index.tolist() == train.tolist()
    assert fitted.choices["errors"] == expected.count(50) > 0
    plain, _, _ = run(task, "ERM", l2=0.01)
    same(run(task, "JTT", upweight=1, l2=0.01)[0].head, plain.head, atol=1e-4)


def test_lff_takes_turns_as_computed_naively(task: Task) -> None:
    fitted, calls, sent = run(task, "LfF", l2=0.02, biased_l2=0.1, rounds=2)
    (biased, plain), *later = calls
    assert biased.loss == GeneralizedCrossEntropy(0.7)
    assert biased.penalty.l2 == 0.1
    train = task.splits["train"]
    at = (np.arange(len(train)), task.target[train])
    b = -np.log(probabilities(task, sent[0][0], train)[at])
    for (spec,), previous in zip(later, [sent[0][1], *(heads[0] for heads in sent[1:])], strict=False):
        d = -np.log(probabilities(task, previous, train)[at])
        np.testing.assert_allclose(spec.weights.values, b / (b + d), rtol=1e-3)
        assert spec.penalty == plain.penalty
    assert len(later) == fitted.choices["rounds"] == 2
    assert not fitted.choices["settled"]


def test_lff_with_a_biased_head_that_is_not_biased_is_erm(task: Task) -> None:
    """With q → 0 the biased head's loss is cross-entropy: both heads agree and every weight is a half."""
    fitted, calls, _ = run(task, "LfF", l2=0.02, biased_l2=0.02, q=1e-6)
    np.testing.assert_allclose(calls[1][0].weights.values, 0.5, atol=1e-3)
    assert fitted.choices == {"rounds": 2, "settled": True}
    same(fitted.head, run(task, "ERM", l2=0.02)[0].head)


def test_contrasts_balance_the_predictions_within_each_class() -> None:
    codes = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    predicted = np.array([0, 0, 0, 2, 1, 1, 0, 2])
    weights = contrast_weights(codes, predicted)
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 1])


def test_cnc_without_contrasts_is_class_reweighting(world: Made) -> None:
    made = world({"train": (30, 5, 8, 40)}, signal=9.0)
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    fitted, (_, (second,)), _ = run(task, "CnC", identification_l2=0.01)
    assert fitted.choices["contrasts"] == 0
    _, ((peer,),), _ = run(task, "RWY")
    np.testing.assert_allclose(second.weights.values, peer.weights.values)


# The bank itself


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("AFR", {"gamma": 6, "strength": 0.1}),
        ("SELF", {"rows": 30}),
        ("SELF", {"rows": 30, "by": "dropout"}),
        ("LfF", {"l2": 0.05, "biased_l2": 0.05, "rounds": 3}),
        ("JTT", {"l2": 0.01}),
        ("CnC", {"l2": 0.01}),
        ("LLR-group", {"l2": 0.01}),
    ],
)
def test_the_bank_comes_to_what_scipy_does(task: Task, name: str, settings: dict[str, Any]) -> None:
    (found,) = run_recipes(task, [plan(task, name, settings, seed=1)], device="cpu")
    assert (found.unconverged, found.convergence.converged) == (0, True)
    expected = run(task, name, seed=1, **settings)[0]
    rows = np.arange(len(task.target))
    np.testing.assert_allclose(
        probabilities(task, found.head, rows), probabilities(task, expected.head, rows), atol=4e-3
    )
    assert {**found.choices, "tuning_worst_group": 0} == {**expected.choices, "tuning_worst_group": 0}


# What draws share


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("AFR", {"gamma": 4, "strength": 0.1}, {"gamma": 9, "strength": 0.3}),
        ("SELF", {"rows": 20, "finetune": 4}, {"rows": 100, "finetune": 40}),
        ("JTT", {"upweight": 4, "l2": 0.1}, {"upweight": 90, "l2": 0.2}),
        ("LfF", {"rounds": 4}, {"rounds": 9}),
        ("EIIL", {"adjustment": 1, "l2": 0.1}, {"adjustment": 4}),
        ("CnC", {"l2": 0.1}, {"l2": 0.3}),
    ],
)
def test_draws_of_one_seed_share_their_first_heads(
    task: Task, name: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first = [next(plan(task, name, each, seed=3).recipe) for each in (one, other)]
    assert first[0][0] == first[1][0]
    assert len(set(first[0] + first[1])) == len(set(first[0]))


def test_another_seed_splits_train_elsewhere(task: Task) -> None:
    specs = [next(plan(task, "AFR", seed=seed).recipe)[0] for seed in (0, 0, 1)]
    assert specs[0] == specs[1]
    assert specs[0].rows != specs[2].rows


@pytest.mark.parametrize("name", ["JTT", "CnC"])
def test_a_second_head_helps_the_worst_group(world: Made, name: str) -> None:
    made = world({"train": (200, 12, 12, 200), "val": (9, 9, 9, 9), "test": (150,) * 4}, signal=1.0)
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    plain, found = (run(task, each, l2=0.01)[0].head for each in ("ERM", name))
    rows = task.splits["test"]
    assert worst_group(task, plain, rows) + 0.05 < worst_group(task, found, rows)
