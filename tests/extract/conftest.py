"""Images that most tests of whole jobs run over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eleven pictures of different content and size, three of them unreadable in different ways."""
    folder = tmp_path / "images"
    draw = np.random.default_rng(3)
    for number in range(11):
        file = folder / ("cat" if number % 2 else "dog") / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (30 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    (folder / "dog/02.png").write_bytes(b"")
    whole = (folder / "cat/03.png").read_bytes()
    (folder / "cat/03.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cat/07.png").unlink()
    (folder / "cat/07.png").mkdir()
    return folder
