"""The package as a user gets it: built into a wheel, installed elsewhere, run from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "headwater", tree / "headwater", ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, tree],
        check=True,
    )
    return next(out.glob("headwater-*.whl"))


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "headwater"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    with zipfile.ZipFile(wheel) as archive:
        missing = {name for name in tracked if name} - set(archive.namelist())
    assert missing == set()


def test_the_installed_package_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import headwater; print(headwater.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(site)
    shown = subprocess.run(
        [sys.executable, "-m", "headwater", "--help"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for command in ("extract", "store", "heads", "report", "demo"):
        assert command in shown.stdout


def test_help_costs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['headwater', '--help']\n"
        "from headwater.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'h5py', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_public_names_exist() -> None:
    import headwater

    for name in headwater.__all__:
        assert getattr(headwater, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = headwater.nonsense


def test_the_readme_is_finished_and_its_files_exist() -> None:
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"@[A-Z]+@", text)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 4
    for link in links:
        assert (ROOT / link).exists(), link
