"""How a scan of a data set is made as its user wants it; what it finds is tested elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from headwater.ambiguity import scan, scanning, solve, solving
from headwater.errors import RequestError
from tests.ambiguity.conftest import points, write


def test_rows_are_clustered_as_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows far from all others: k-means puts them somewhere, clusters by density leave them out."""
    monkeypatch.setattr("headwater.heads.ambiguity.scan.contradiction", lambda *given, **rest: None)
    made = points(100)
    made["X_unlabeled"][:2] = [[90.0, 0.0], [0.0, 90.0]]
    place = write(tmp_path / "points", made)
    assert (scan(place).found.cluster_of >= 0).all()
    assert (scan(place, clusterer="density").found.cluster_of[100:102] == -1).all()


def test_what_readings_of_vectors_go_by_is_named_where_it_is_one_column(tmp_path: Path) -> None:
    made = points(200)
    random = np.random.default_rng(0)
    for name in ("X_labeled", "X_unlabeled", "X_val"):
        made[name] = np.concatenate([random.normal(size=(200, 3)), made[name]], axis=1)
    page = tmp_path / "page.html"
    found = scan(write(tmp_path / "points", made), report=page)
    said = {each.name: each.target for each in found.found.readings}
    assert set(found.goes_by.values()) == {"column 3 of the rows", "column 4 of the rows"}
    unseen = np.asarray(made["X_val"])[found.found.unseen_target]
    for name, about in found.goes_by.items():
        column = int(about.split()[1])
        assert ((unseen[:, column] > 0) == said[name]).mean() > 0.95
        assert f"goes by {about}" in page.read_text(encoding="utf-8")
    told = {each["name"]: each["goes_by"] for each in found.summary()["readings"]}
    assert {name: about for name, about in told.items() if about} == found.goes_by
    # Spread over many columns, there is none to name.
    turn = np.linalg.qr(random.normal(size=(5, 5)))[0]
    for name in ("X_labeled", "X_unlabeled", "X_val"):
        made[name] = made[name] @ turn
    turned = scan(write(tmp_path / "turned", made))
    assert len(turned.found.readings) >= 2
    assert turned.goes_by == {}


def test_another_word_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"rows cannot be clustered by 'gmn' \(did you mean 'gmm'\?\)"):
        scan(tmp_path / "nowhere", clusterer=cast(Any, "gmn"))


@pytest.mark.parametrize("command", [scan, partial(solve, oracle="column")])
def test_all_is_computed_on_the_device_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., object]
) -> None:
    place = write(tmp_path / "points", points(100))
    with pytest.raises(RequestError, match="there is no usable 'cuda:7'"):
        command(tmp_path / "nowhere", device="cuda:7")
    asked: list[torch.device] = []

    def features(*given: Any, device: torch.device, **rest: Any) -> dict[str, Any]:
        asked.append(device)
        return {}

    def look(*given: Any, **rest: Any) -> None:
        asked.append(next(each for each in (*given, *rest.values()) if isinstance(each, torch.device)))
        raise RequestError("that was it")

    # A GPU of a machine that has one; nothing is computed on it.
    for room in (scanning, solving):
        monkeypatch.setattr(room, "choose_device", torch.device)
        monkeypatch.setattr(room, "features_of", features)
        monkeypatch.setattr(room, "look_for_ambiguity", look)
    monkeypatch.setattr(solving, "choose_oracle", lambda *given: (object(), None))
    with pytest.raises(RequestError, match="that was it"):
        command(place, device="cuda:7")
    assert asked == [torch.device("cuda:7")] * 2
