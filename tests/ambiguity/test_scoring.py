"""The contest's score against sums by hand, and the advice at its defaults."""

from __future__ import annotations

import pytest

from headwater.ambiguity.scoring import SETS, advise, score, set_named
from headwater.errors import RequestError


def test_what_is_not_handed_in_counts_its_default_and_what_is_its_accuracy() -> None:
    nothing = score({})
    usual = 1 + 1 + 1 + 2 + 1 + 2 + 1 + 2 + 3 + 3 + 3 + 4
    assert nothing.points == usual + 8 + 10
    assert nothing.total == pytest.approx(0.8 * usual + 0.5 * 18)
    some = score({3: 0.99, 888: 0.82, 456: 0.3})
    assert some.total == pytest.approx(nothing.total + 2 * 0.19 + 8 * 0.32 - 4 * 0.5)
    assert some.points == nothing.points
    assert score(dict.fromkeys(set(SETS) - {7}, 1.0)).total == nothing.points


def test_the_withdrawn_set_counts_only_when_handed_in() -> None:
    assert score({7: 0.5}).points == score({}).points + 1
    assert score({7: 0.5}).total == pytest.approx(score({}).total + 0.5)


@pytest.mark.parametrize("accuracies", [{11: 0.9}, {3: 1.1}, {3: float("nan")}, {3: -0.1}])
def test_no_such_set_and_no_such_accuracy(accuracies: dict[int, float]) -> None:
    with pytest.raises(RequestError, match=r"no set 11|between 0 and 1"):
        score(accuracies)


@pytest.mark.parametrize(
    ("expected", "number", "submit"),
    [(0.79, None, False), (0.81, None, True), (0.75, 6, False), (0.6, 888, True), (0.49, 999, False)],
)
def test_handing_in_is_advised_above_the_set_s_default_only(
    expected: float, number: int | None, submit: bool
) -> None:
    advice = advise(expected, None if number is None else SETS[number])
    assert advice.submit is submit
    assert f"{100 * expected:.0f} % expected" in advice.text
    assert ("50 %" if number in (888, 999) else "80 %") in advice.text


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (0.7999, "do not hand it in: a little less than 80 % expected is below the 80 %"),
        (0.8001, "hand it in: a little more than 80 % expected is above the 80 %"),
        (0.8, "hand it in: 80 % expected is no less than the 80 %"),
    ],
)
def test_advice_does_not_say_that_a_share_is_below_itself(expected: float, said: str) -> None:
    assert advise(expected).text.startswith(said)


def test_what_is_not_settled_is_judged_by_how_low_it_may_be() -> None:
    low = advise(0.87, SETS[6], unsettled_low=0.68)
    assert not low.submit
    assert "it may be as low as 68 %" in low.text
    assert advise(0.87, SETS[888], unsettled_low=0.68).submit
    assert advise(0.99, SETS[6], unsettled_low=0.97).submit


def test_a_set_is_known_by_its_folder_s_name_only_where_all_of_it_fits() -> None:
    assert set_named("03_mnist_constant_image_random_row") == SETS[3]
    assert set_named("888_vehicle_animal") == SETS[888]
    assert set_named("08_mnist_sum_noise_level") == SETS[8]
    for other in ("03_cats", "halves", "3", "2024_mnist_cc", ""):
        assert set_named(other) is None
