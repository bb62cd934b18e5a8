"""The final head on made-up rows of two features: what it learns from, and how sure it is."""

import numpy as np
import pytest

from headwater.heads.ambiguity.dealing import dealt
from headwater.heads.ambiguity.final_head import PseudoLabels, final_head, probabilities, tempered
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.bank.head_bank import HeadBank

ROWS = 400


def made(seed=0, crossed=0.5, rows=ROWS):
    """Vectors of two features; all rows' features, and the cells of unlabeled and target rows."""
    random = np.random.default_rng(seed)

    def draw(count, rate):
        first = random.integers(0, 2, count)
        cells = np.stack([first, np.where(random.random(count) < rate, 1 - first, first)], axis=1)
        x = 3.0 * cells.repeat(3, axis=1) + random.normal(0, 1, (count, 6))
        return x.astype(np.float32), cells

    (labeled, own), (unlabeled, one), (target, two) = draw(200, 0), draw(rows, crossed), draw(rows, crossed)
    problem = Problem(labeled, own[:, 0], unlabeled, target, (0, 1))
    return problem, np.concatenate([labeled, unlabeled, target]), np.concatenate([one, two])


def said(codes, sure=0.95):
    shares = np.eye(2)[codes]
    return sure * shares + (1 - sure) * (1 - shares)


def accuracy(head, problem, cells, column=0):
    codes = head.logits(problem.target).argmax(axis=1)
    return float((codes == cells[-len(codes) :, column]).mean())


@pytest.mark.parametrize("meant", [0, 1])
def test_it_classes_crossed_rows_as_the_surviving_reading_does(meant):
    problem, rows, cells = made()
    head = final_head(problem, {"x": rows}, PseudoLabels(said(cells[:, meant]), cells[:, 1 - meant], {}))
    assert accuracy(head, problem, cells, meant) > 0.97
    assert head.convergence.converged


def test_rare_crossed_rows_count_as_much_as_ordinary_ones():
    """With one row in 50 crossed, a head that weighs all rows alike goes by both features."""
    problem, rows, cells = made(crossed=0.02, rows=2000)
    crossed = cells[2000:, 0] != cells[2000:, 1]
    right = []
    for rival in (cells[:, 1], None):
        head = final_head(problem, {"x": rows}, PseudoLabels(said(cells[:, 0]), rival, {}))
        right.append((head.logits(problem.target).argmax(axis=1) == cells[2000:, 0])[crossed].mean())
    assert right[0] > 0.95
    assert right[0] > right[1] + 0.1


def test_rows_that_the_reading_is_unsure_of_are_not_learned_from():
    """The reading is wrong about a third of all rows, and says that it is unsure of them."""
    problem, rows, cells = made()
    wrong = np.random.default_rng(1).random(len(cells)) < 0.35
    codes = np.where(wrong, cells[:, 1], cells[:, 0])
    shares = np.where(wrong[:, None], said(codes, 0.7), said(codes, 0.95))
    head = final_head(problem, {"x": rows}, PseudoLabels(shares, cells[:, 1], {}))
    assert accuracy(head, problem, cells) > 0.97


def test_answers_count_whatever_the_reading_says_of_their_rows():
    problem, rows, cells = made()
    unsure = np.full((len(cells), 2), 0.5)
    crossed = np.flatnonzero(cells[ROWS:, 0] != cells[ROWS:, 1])[:40].tolist()
    answers = {item: int(cells[ROWS + item, 1]) for item in crossed}
    head = final_head(problem, {"x": rows}, PseudoLabels(unsure, None, answers))
    without = final_head(problem, {"x": rows}, PseudoLabels(unsure, None, {}))
    assert accuracy(head, problem, cells, 1) > accuracy(without, problem, cells, 1) + 0.1


def test_features_that_do_not_show_what_is_meant_are_left_alone():
    problem, rows, cells = made()
    noise = np.random.default_rng(2).normal(size=(len(rows), 4)).astype(np.float32)
    views = {"noise": noise, "x": rows, "more noise": noise[:, :2].copy()}
    pseudo = PseudoLabels(said(cells[:, 0]), cells[:, 1], {})
    head = final_head(problem, views, pseudo)
    assert head.weight.shape == (2, 12)
    assert not head.weight[:, :4].any()
    assert not head.weight[:, 10:].any()
    alone = final_head(problem, {"x": rows}, pseudo)
    np.testing.assert_allclose(head.weight[:, 4:10], alone.weight, rtol=1e-5)
    # Of features that are as good, both are used: their mean is the head.
    twice = final_head(problem, {"x": rows, "again": rows.copy()}, pseudo)
    np.testing.assert_allclose(twice.weight, np.tile(alone.weight / 2, 2), rtol=1e-5)
    both = np.column_stack([rows, rows])
    np.testing.assert_allclose(twice.logits(both), alone.logits(rows), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("accuracy", [0.6, 0.9, 0.99])
def test_a_tempered_head_is_as_sure_as_it_is_expected_to_be_right(accuracy):
    problem, rows, cells = made()
    head = final_head(problem, {"x": rows}, PseudoLabels(said(cells[:, 0]), cells[:, 1], {}))
    heated = tempered(head, problem.target, accuracy)
    shares = probabilities(heated, problem.target)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.max(axis=1).mean() == pytest.approx(accuracy, abs=1e-3)
    assert (heated.logits(problem.target).argmax(axis=1) == head.logits(problem.target).argmax(axis=1)).all()


def test_three_classes_and_no_unlabeled_rows_do():
    random = np.random.default_rng(5)
    codes = random.integers(0, 3, 700)
    rows = (4 * np.eye(3)[codes] + random.normal(0, 1, (700, 3))).astype(np.float32)
    problem = Problem(rows[:100], codes[:100], rows[:0], rows[100:], (3, 5, 8))
    shares = 0.9 * np.eye(3)[codes[100:]] + 0.1 / 3
    head = final_head(problem, {"x": rows}, PseudoLabels(shares, None, {0: int(codes[100])}))
    assert (head.logits(problem.target).argmax(axis=1) == codes[100:]).mean() > 0.97


def test_rows_kept_apart_are_of_all_classes_whatever_their_order():
    """Of classes dealt in turns, every fifth row would be of one class, which no view is then judged by."""
    random = np.random.default_rng(6)
    codes = np.arange(1000) % 5
    x = (4 * np.eye(5)[codes] + random.normal(0, 1, (1000, 5))).astype(np.float32)
    noise = random.normal(size=(1000, 30)).astype(np.float32)
    problem = Problem(x[:200], codes[:200], x[200:600], x[600:], tuple(range(5)))
    pseudo = PseudoLabels(0.9 * np.eye(5)[codes[200:]] + 0.02, None, {})
    head = final_head(problem, {"noise": noise, "x": x}, pseudo)
    assert not head.weight[:, :30].any()


def test_features_of_one_kind_are_trained_on_once(monkeypatch):
    problem, rows, cells = made()
    trained = []
    train = HeadBank.train
    monkeypatch.setattr(HeadBank, "train", lambda bank, specs: trained.extend(specs) or train(bank, specs))
    final_head(problem, {"x": rows}, PseudoLabels(said(cells[:, 0]), cells[:, 1], {}))
    assert len(trained) == 1


def test_folds_hold_their_share_of_each_class():
    codes = np.repeat([0, 1, 2], [50, 23, 7])
    folds = dealt(codes, 5, np.random.default_rng(0))
    for code in range(3):
        counts = np.bincount(folds[codes == code], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (folds != dealt(codes, 5, np.random.default_rng(1))).any()
