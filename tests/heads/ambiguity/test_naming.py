"""Hypotheses that are grouped anew keep their names, by who their readings are."""

import numpy as np

from headwater.heads.ambiguity.beliefs import Hypothesis
from headwater.heads.ambiguity.naming import named_alike


def group(name, *members):
    nothing = np.zeros((1, 2), dtype=np.float32)
    return Hypothesis(name, members, nothing, nothing, 0.1)


def names(old, new, used=()):
    found, taken = named_alike(old, new, set(used))
    assert [each.members for each in found] == [each.members for each in new]
    assert taken >= {each.name for each in (*old, *found)} | set(used)
    return [each.name for each in found]


def test_a_hypothesis_keeps_its_name_where_another_has_become_the_largest():
    old = [group("A", 0, 1, 2), group("B", 3, 4)]
    assert names(old, [group("A", 3, 4, 5, 6, 7), group("B", 0, 1, 2)]) == ["B", "A"]


def test_new_readings_alone_get_a_new_name_and_so_does_the_smaller_part_of_one_that_split():
    old = [group("A", 0, 1, 2), group("B", 3, 4)]
    new = [group("A", 5, 6, 7), group("B", 0, 2), group("C", 3, 4), group("D", 1)]
    assert names(old, new) == ["C", "A", "B", "D"]


def test_where_two_become_one_it_is_called_as_the_larger_and_the_other_name_is_not_given_again():
    old = [group("A", 0, 1, 2), group("B", 3, 4)]
    assert names(old, [group("A", 0, 1, 2, 3, 4), group("B", 5)]) == ["A", "C"]
    assert names([group("A", 0)], [group("A", 0), group("B", 1)], used={"A", "B"}) == ["A", "C"]


def test_names_go_on_after_z():
    old = [group(chr(ord("A") + place), place) for place in range(26)]
    assert names(old, [*old, group("A", 26), group("A", 27)])[26:] == ["A1", "B1"]
