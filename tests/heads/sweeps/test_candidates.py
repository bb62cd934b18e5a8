"""Which settings a sweep tries: as many different ones as were asked for, where there are so many."""

import pytest

from headwater.heads.methods import find_method
from headwater.heads.sweeps.candidates import Wanted, candidates
from headwater.heads.sweeps.folds import cross_fits
from headwater.heads.tasks.task import Task


def settings_of(task: Task, name: str, draws: int, seed: int = 0) -> list[dict[str, object]]:
    found, _ = candidates(task, Wanted((name,), draws), cross_fits(task), seed)
    return [dict(each.settings) for each in found]


@pytest.mark.parametrize("seed", range(8))
def test_a_small_space_gives_all_it_has_and_no_more(task: Task, seed: int) -> None:
    values = find_method("CV-GroupDRO").space["l2"].values  # type: ignore[union-attr]
    published = find_method("CV-GroupDRO").defaults()["l2"]
    for draws in (1, 2, len({published, *values}), 50):
        found = [each["l2"] for each in settings_of(task, "CV-GroupDRO", draws, seed)]
        assert found[0] == published
        assert len(found) == len(set(found)) == min(draws, len({published, *values}))
    assert set(found) == {published, *values}


def test_fewer_draws_are_the_first_of_more(task: Task) -> None:
    many = settings_of(task, "RWG", 12)
    assert len(many) == 12
    assert settings_of(task, "RWG", 5) == many[:5]
    assert settings_of(task, "RWG", 5, seed=1) != many[:5]
