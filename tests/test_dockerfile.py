"""The Dockerfile's promises that can be read off it; `make image-check` builds it and runs the demo in it."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def _instructions() -> list[tuple[str, str]]:
    """All instructions as (name, rest), continuation lines joined, comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    logical = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    parts = [line.split(maxsplit=1) for line in logical if line.strip()]
    return [(name.upper(), rest.strip()) for name, rest in parts]


def _final_stage() -> list[tuple[str, str]]:
    instructions = _instructions()
    start = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[start:]


def _copied(rest: str) -> list[str]:
    """The sources of a COPY from the working tree; none for one from another stage."""
    words = rest.split()
    if any(word.startswith("--from=") for word in words):
        return []
    return [word for word in words if not word.startswith("--")][:-1]


def _only(instructions: list[tuple[str, str]], name: str) -> str:
    found = [rest for instruction, rest in instructions if instruction == name]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def test_runs_as_a_fixed_user_that_is_not_root() -> None:
    stage = _final_stage()
    user, _, group = _only(stage, "USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [name for name, _ in stage]
    assert "RUN" not in names[names.index("USER") :], "nothing is installed after the user changes"
    assert any(f"--uid {user} " in rest for name, rest in stage if name == "RUN")


def test_the_entry_point_is_a_command_that_the_package_installs() -> None:
    [command] = json.loads(_only(_final_stage(), "ENTRYPOINT"))
    assert command == "headwater"
    [point] = importlib.metadata.entry_points(group="console_scripts", name=command)
    assert point.value == "headwater.__main__:main"
    environment = _only(_final_stage(), "ENV")
    assert "PATH=/opt/headwater/bin:" in environment
    assert any("venv" in rest and "/opt/headwater " in rest for _, rest in _final_stage())


def test_images_and_stores_are_volumes_and_made_before_the_user_changes() -> None:
    volumes = json.loads(_only(_final_stage(), "VOLUME"))
    assert {"/images", "/stores"} <= set(volumes)
    [made] = [rest for name, rest in _final_stage() if name == "RUN" and "useradd" in rest]
    for volume in volumes:
        assert volume in made.split()


def test_code_is_copied_after_torch_is_installed() -> None:
    stage = _final_stage()
    [install] = [i for i, (name, rest) in enumerate(stage) if name == "RUN" and "--requirement" in rest]
    copies = [i for i, (name, rest) in enumerate(stage) if name == "COPY" and _copied(rest)]
    assert copies
    assert min(copies) > install
    assert not any(name == "ARG" for name, _ in stage[:install]), "a changed argument would install again"
    # What comes after must not reach for an index, or code changes would install more than code.
    later = [rest for name, rest in stage[install + 1 :] if name == "RUN" and "pip" in rest]
    assert later
    assert all("--no-deps" in rest and "--no-index" in rest for rest in later)


def test_every_copied_path_exists_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = {path for name, rest in _instructions() if name == "COPY" for path in _copied(rest)}
    assert {"headwater", "setup.cfg", "pyproject.toml"} <= copied
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_files_that_the_package_metadata_names_are_copied() -> None:
    metadata = configparser.RawConfigParser()
    metadata.read(ROOT / "setup.cfg")
    copied = [path for name, rest in _final_stage() if name == "COPY" for path in _copied(rest)]
    assert metadata["metadata"]["long_description"].removeprefix("file:").strip() in copied
    assert metadata["metadata"]["license_files"].strip() in copied


def test_the_variants_differ_by_the_base_image_and_one_extra() -> None:
    instructions = _instructions()
    arguments = dict(rest.split("=", 1) for name, rest in instructions if name == "ARG")
    assert set(arguments) == {"BASE", "EXTRA"}
    assert arguments["EXTRA"] == "gpu"
    assert re.match(r"nvidia/cuda:12\.\S+-runtime-", arguments["BASE"])
    for argument in arguments:
        used = [name for name, rest in instructions if f"${{{argument}}}" in rest]
        assert used == ["FROM" if argument == "BASE" else "RUN"]


def _requirements(extra: str) -> set[Requirement]:
    """What the `requirements` stage writes, by running its own Python."""
    [run] = [rest for name, rest in _instructions() if name == "RUN" and "configparser" in rest]
    words = shlex.split(run.replace("${EXTRA}", extra))
    assert words[:2] == ["python3", "-c"]
    program = words[2].replace("'/setup.cfg'", repr(str(ROOT / "setup.cfg")))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {Requirement(line) for line in result.stdout.splitlines() if line}


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_the_requirements_are_those_of_the_package(extra: str) -> None:
    expected = set()
    for text in importlib.metadata.requires("headwater") or []:
        requirement = Requirement(text)
        marker, requirement.marker = requirement.marker, None
        if marker is None or any(marker.evaluate({"extra": name}) for name in (extra, "demo", "hub")):
            expected.add(requirement)
    assert _requirements(extra) == expected
    names = {requirement.name for requirement in expected}
    assert {"torch", f"faiss-{extra}", "mlxtend"} <= names
    assert not {"faiss-cpu", "faiss-gpu"} <= names


def test_setuptools_in_the_image_is_what_the_build_system_asks_for() -> None:
    build = (ROOT / "pyproject.toml").read_text()
    [wanted] = re.findall(r'requires = \["(setuptools[^"]*)"\]', build)
    assert any(f'"{wanted}"' in rest for name, rest in _final_stage() if name == "RUN")
