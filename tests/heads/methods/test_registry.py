"""What the register of methods says and draws: spaces, settings, and which splits a method reads."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.heads.methods import draw_settings, find_method, methods, parse_settings, random_for
from headwater.heads.methods.registry import Needs, check_needs
from headwater.heads.methods.spaces import Among, Integers, Linspace, LogUniform, Space, Uniform
from headwater.heads.tasks.task import Task

SPACES = [
    Among(("l1", "l2")),
    Among((20, 100, 500)),
    Linspace(4, 20, 33),
    Uniform(-0.5, 0.5),
    LogUniform(1e-5, 10.0),
    Integers(2, 10),
]


def holds(space: Space, value: Any) -> bool:
    """Whether a value lies in a space, said independently of how it is drawn."""
    if isinstance(space, Among):
        return value in space.values
    if isinstance(space, Linspace):
        steps = (value - space.low) / (space.high - space.low) * (space.count - 1)
        return type(value) is float and 0 <= round(steps) < space.count and abs(steps - round(steps)) < 1e-9
    assert isinstance(space, (Uniform, LogUniform, Integers))
    kind = int if isinstance(space, Integers) else float
    return type(value) is kind and space.low <= value <= space.high


@pytest.mark.parametrize("space", SPACES, ids=str)
@given(seed=st.integers(0, 2**32), points=st.integers(1, 50))
def test_what_is_drawn_or_laid_out_lies_in_the_space(space: Space, seed: int, points: int) -> None:
    assert holds(space, space.sample(np.random.default_rng(seed)))
    laid_out = space.grid(points)
    assert all(holds(space, value) for value in laid_out)
    assert 1 <= len(laid_out) <= points
    assert len(set(laid_out)) == len(laid_out)
    json.dumps(laid_out)  # plain Python values


def test_draws_are_as_even_as_the_space_says() -> None:
    random = np.random.default_rng(0)
    whole = Counter(Integers(2, 5).sample(random) for _ in range(4000))
    assert sorted(whole) == [2, 3, 4, 5]
    assert all(850 < count < 1150 for count in whole.values())
    names = Counter(Among(("a", "b")).sample(random) for _ in range(4000))
    assert 1850 < names["a"] < 2150
    numbers = np.array([Uniform(2, 6).sample(random) for _ in range(4000)])
    assert np.histogram(numbers, [2, 3, 4, 5, 6])[0] == pytest.approx(1000, abs=150)
    logs = np.array([math.log10(LogUniform(1e-3, 10).sample(random)) for _ in range(4000)])
    assert np.histogram(logs, [-3, -2, -1, 0, 1])[0] == pytest.approx(1000, abs=150)


def test_grids_run_from_end_to_end() -> None:
    assert LogUniform(1e-3, 10).grid(5) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert LogUniform(1e-5, 10).grid(2) == [1e-5, 10]
    assert LogUniform(0.01, 1).grid(1) == pytest.approx([0.1])
    assert Uniform(0, 1).grid(3) == [0, 0.5, 1]
    assert Integers(2, 10).grid(3) == [2, 6, 10]
    assert Integers(2, 4).grid(50) == [2, 3, 4]
    assert Linspace(4, 20, 33).grid(5) == [4, 8, 12, 16, 20]
    assert list(Linspace(4, 20, 33).grid(100)) == np.linspace(4, 20, 33).tolist()
    assert Among((20, 100, 500)).grid(2) == [20, 500]
    assert Among((20, 100, 500)).grid(9) == [20, 100, 500]
    with pytest.raises(ValueError, match="at least one point"):
        Uniform(0, 1).grid(0)


def test_every_space_describes_itself() -> None:
    assert [space.describe() for space in SPACES] == [
        "l1 or l2",
        "20 or 100 or 500",
        "33 values from 4 to 20",
        "-0.5 to 0.5",
        "1e-05 to 10, logarithmic",
        "2 to 10, whole",
    ]


def test_draws_depend_on_seed_and_method_alone() -> None:
    def draws(name: str, seed: int, count: int) -> list[dict[str, Any]]:
        random = random_for(find_method(name), seed, "settings")
        return [draw_settings(find_method(name), random) for _ in range(count)]

    assert draws("ERM", 0, 3) == draws("erm", 0, 8)[:3]
    assert draws("ERM", 0, 3) != draws("ERM", 1, 3)
    assert draws("ERM", 0, 3) != draws("RWG", 0, 3)
    assert len({draw["l2"] for draw in draws("ERM", 0, 50)}) == 50


def test_a_recipes_stream_is_not_that_of_its_settings() -> None:
    found = find_method("SUBG")
    assert random_for(found, 3).random() == random_for(found, 3).random()
    assert random_for(found, 3).random() != random_for(found, 3, "settings").random()


def test_every_draw_and_every_grid_is_a_setting_the_method_takes() -> None:
    for found in methods().values():
        assert set(found.space) <= set(found.settings.model_fields)
        random = random_for(found, 0, "settings")
        for _ in range(50):
            drawn = draw_settings(found, random)
            assert json.loads(json.dumps(drawn)) == drawn
            parsed = parse_settings(found, drawn).model_dump()
            for key, value in drawn.items():
                assert parsed[key] in (value, (value,))  # one value of a setting that takes several
        for name, space in found.space.items():
            for value in space.grid(7):
                parse_settings(found, {name: value})


def test_every_method_says_what_it_is() -> None:
    for found in methods().values():
        assert found.summary
        assert found.paper
        assert found.space
        assert found.needs(parse_settings(found, {})).describe()


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (Needs(classes_on=("train",)), "no groups"),
        (Needs(groups_on=("train",)), "groups on train"),
        (Needs(splits=("train",), groups_on=("val",)), "groups on val"),
        (Needs(groups_on=("train", "val")), "groups on train and val"),
        (Needs(classes_on=("train", "val")), "no groups; reads val"),
        (Needs(groups_on=("train",), classes_on=("val",)), "groups on train; reads val"),
    ],
)
def test_needs_say_which_groups_and_which_other_splits(needs: Needs, said: str) -> None:
    assert needs.describe() == said


def test_needs_say_which_splits_are_read() -> None:
    def reads(name: str, **settings: object) -> tuple[str, ...]:
        found = find_method(name)
        return found.needs(parse_settings(found, settings)).reads

    assert reads("ERM") == ("train",)
    assert reads("DFR-val") == ("train", "val")
    assert reads("DFR-val", scaler="val") == ("val",)
    assert reads("DFR-tr") == ("train", "val")
    assert reads("DFR-tr", C=0.1) == ("train",)  # nothing to tune, so val stays unseen


def test_a_split_that_is_read_in_any_way_must_exist(task: Task) -> None:
    for needs in (Needs(splits=("vall",)), Needs(classes_on=("vall",)), Needs(groups_on=("vall",))):
        with pytest.raises(RequestError, match="M needs rows in split 'vall'"):
            check_needs(task, "M", needs)


# The table's order; not every method need be there.
TABLE = """
    ERM RWG RWY SqrtReWeight CBLoss SUBG SUBY DFR-val DFR-tr AFR SELF LLR-class LLR-group GroupDRO CVaR-DRO
    Chi2-DRO JTT LfF EIIL GEORGE CnC Focal LDAM BSoftmax LogitAdjustment Mixup LISA IRM CORAL MMD CRT
    ReWeightCRT CV-GroupDRO DivDis ACE D-BAT HierRW HierSampler HierDRO
"""


def test_the_methods_come_in_the_order_of_the_table() -> None:
    table = TABLE.split()
    assert [name for name in methods() if name in table] == [name for name in table if name in methods()]
