"""How a scan of a data set is made as its user wants it; what it finds is tested elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from headwater.ambiguity import scan
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


def test_another_word_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"rows cannot be clustered by 'gmn' \(did you mean 'gmm'\?\)"):
        scan(tmp_path / "nowhere", clusterer=cast(Any, "gmn"))
