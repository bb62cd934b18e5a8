"""Warnings of other libraries that users need not read, and their levels afterwards."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwater.extract.quiet import quiet


def test_warnings_are_held_back_inside_only_and_errors_never(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a.library.part")
    with quiet("a.library"):
        logger.warning("inside")
        logger.error("grave")
    logger.warning("outside")
    assert caplog.messages == ["grave", "outside"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiling_on_a_cpu_says_nothing_of_cuda(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 3), np.uint8))
    job = [str(tmp_path / "x.npy"), "--out", str(tmp_path / "s"), "--backbone", "pixels", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "headwater", "extract", *job, "--compile", "on"],
        env={
            **os.environ,
            "CUDA_HOME": str(tmp_path),
            "CUDA_VISIBLE_DEVICES": "",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # more would be processes that each load torch
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CUDA" not in done.stderr
