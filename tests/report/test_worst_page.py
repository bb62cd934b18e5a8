"""A page about hundreds of small groups in a taxonomy: their worst K %, the curve and the levels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from headwater.cli.main import app
from headwater.heads import fit_many
from headwater.heads.evaluation import evaluate
from headwater.report import build_report
from headwater.report.data import Curve, Judged
from headwater.report.gather import gather
from headwater.report.page import render
from headwater.report.run import open_run
from headwater.store import import_features, set_levels

LEVELS = ("kingdom", "phylum", "family", "species")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads fitted on 240 species of 4 phyla, with 1 to 6 rows in train and 4 in test."""
    place = tmp_path_factory.mktemp("taxa")
    random = np.random.default_rng(0)
    phylum, family = np.arange(240) % 4, np.arange(240) % 40
    counts = np.concatenate([random.integers(1, 7, 240), np.full(240, 2), np.full(240, 4)])
    species = np.repeat(np.tile(np.arange(240), 3), counts)
    split = np.repeat(np.repeat(["train", "val", "test"], 240), counts)
    centre = random.normal(size=(4, 8))[phylum] + random.normal(size=(40, 8))[family] * 0.8
    features = centre[species] + random.normal(size=(len(species), 8))
    columns = {
        "kingdom": np.where(phylum < 2, "Animalia", "Plantae")[species],
        "phylum": np.array([f"p{code}" for code in phylum])[species],
        "family": np.array([f"f{code:02}" for code in family])[species],
        "species": np.array([f"<i>s{code:03}" for code in range(240)])[species],
    }
    np.savez(place / "made.npz", features=features.astype("f4"), split=split, **columns)
    store = place / "made.store"
    import_features(place / "made.npz", store)
    set_levels(store, LEVELS)
    names = ["ERM", "RWG"]
    fit_many(
        store,
        methods=[(name, {}) for name in names],
        target="phylum",
        groups=["species"],
        out=[place / "run" / f"{name}.safetensors" for name in names],
    )
    return place / "run"


def test_the_page_is_about_the_worst_shares(run: Path) -> None:
    data = gather(open_run(run))
    assert data.many
    assert data.gain is not None or data.baseline == data.best
    for method in data.methods:
        report = evaluate(run / method.file, run.parent / "made.store")
        assert method.area is not None
        assert method.curve is not None
        assert method.area.value == pytest.approx(report.worst_curve().area)
        assert method.curve.at(10).value == pytest.approx(report.worst_k(24))
        assert method.curve.low[0] < method.curve.accuracies[0] < method.curve.high[0]
    areas = [method.area.value for method in data.methods if method.area]
    assert areas == sorted(areas, reverse=True)
    assert len(data.groups) == len(data.methods[0].groups) == 15
    assert [level.level for level in data.levels] == ["kingdom", "phylum", "family"]
    baseline = evaluate(run / data.method(data.baseline).file, run.parent / "made.store")
    for level in data.levels:
        shares = [node.accuracies[0].value for node in level.nodes]
        assert shares == sorted(shares)
        assert min(shares) == pytest.approx(
            min(
                found.correct[at] / found.count[at]
                for found in baseline.by_node
                if found.level == level.level
                for at in range(len(found.names))
            )
        )
        assert all(len(node.accuracies) == len(level.heads) for node in level.nodes)

    page = build_report(run, run / "page.html").read_text()
    assert "in the worst 10\u201350\u202f% of groups." in page
    assert page.count('class="band') >= 2
    assert page.count("<details") == 3
    assert len(page) < 100_000
    assert "<i>s" not in page
    for path in re.findall(r' d="M([\d., ]+)Z?"', page):
        numbers = [float(number) for pair in path.split() for number in pair.split(",")]
        assert all(0 <= number <= 100 for number in numbers)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head fitted on 6 species of 2 phyla, two of which have no row in test."""
    place = tmp_path_factory.mktemp("few")
    species, split = np.arange(120) % 6, np.repeat(["train", "val", "test"], 40)
    split[(species > 3) & (split == "test")] = "train"
    features = np.eye(6)[species] + np.random.default_rng(0).normal(size=(120, 6))
    columns = {"phylum": np.array(["p", "q"])[species % 2], "species": np.array([*"abcdef"])[species]}
    np.savez(place / "made.npz", features=features.astype("f4"), split=split, **columns)
    import_features(place / "made.npz", place / "made.store")
    set_levels(place / "made.store", ("phylum", "species"))
    out = place / "run" / "ERM.safetensors"
    fit_many(place / "made.store", methods=[("ERM", {})], target="phylum", groups=["species"], out=[out])
    return out


def test_a_tenth_of_few_groups_is_not_said_to_be_certain(few: Path) -> None:
    page = build_report(few.parent, few.parent / "page.html").read_text()
    assert "The worst tenth is no more than 1 group here" in page
    assert "less so" not in page
    assert page.count('<tr class="group">') == 6  # so few are counted one by one, too


def _text(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", page).split())


def test_the_groups_that_the_figures_are_of_are_counted_and_said(few: Path) -> None:
    data = gather(open_run(few.parent))
    # Rows 80 to 119 are test, whose species follow each other; the last two were taken out of it.
    counts = sorted(sum(row % 6 == species for row in range(80, 120)) for species in range(4))
    assert data.judged == Judged(4, 2, counts[1])
    page = _text(render(data))
    assert "Take the K % of the 4 groups with images in test that a head is worst at" in page
    assert "average their accuracies; 2 others have none there and count in no figure. The worst" in page
    assert "as the images are few: read the intervals." in page
    assert "bad luck" not in page
    page = _text(render(replace(data, judged=Judged(4, 1, 4))))
    assert "; 1 other has none there and counts in no figure." in page
    page = _text(render(replace(data, judged=Judged(6, 0, 4))))
    assert "average their accuracies. The worst" in page


@pytest.mark.parametrize(("typical", "words"), [(1, "a single image there"), (3, "at most 3 images there")])
def test_groups_of_hardly_any_images_are_said_to_look_worse_than_they_are(
    few: Path, typical: int, words: str
) -> None:
    data = replace(gather(open_run(few.parent)), judged=Judged(31, 9, typical))
    page = _text(render(data))
    assert f"Half of the groups or more have {words}, and a group of so few is easily all wrong" in page
    assert "even one of nothing but 0.0 is no certainty about the groups." in page
    assert "read the intervals" not in page


def test_groups_without_rows_are_counted_and_no_worst_groups(few: Path) -> None:
    words = ["heads", "evaluate", str(few), str(few.parent.parent / "made.store")]
    shown = CliRunner().invoke(app, words).output
    assert "The worst K % of the groups" in shown
    assert "2 groups have no rows in test, and count in no figure: e, f" in shown
    assert not re.search(r"^[ef] +0", shown, re.MULTILINE)
    assert "train-weighted has no figure: 2 of the groups that train holds have no rows here" in shown
    said = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)["why_no_train_weighted"]
    assert said == "2 of the groups that train holds have no rows here"


def test_a_curve_names_its_places() -> None:
    curve = Curve((10.0, 20.0), (1, 2), (0.2, 0.4), (0.1, 0.3), (0.3, 0.5))
    assert (curve.at(20).value, curve.at(20).low, curve.at(20).high) == (0.4, 0.3, 0.5)


def test_the_command_line_drills_down_and_lists_no_more_than_asked(run: Path) -> None:
    words = ["heads", "evaluate", str(run / "ERM.safetensors"), str(run.parent / "made.store")]
    shown = CliRunner().invoke(app, [*words, "--by", "family", "--worst", "3"])
    assert shown.exit_code == 0
    assert "The worst K % of the groups" in shown.output
    assert "The worst of 40 at level family" in shown.output
    assert "The worst 3 of 240 groups" in shown.output
    assert len(shown.output.splitlines()) < 60
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert (found["groups"], len(found["by_group"])) == (240, 200)
    assert set(found["by_node"]) == {"kingdom", "phylum", "family"}
    assert found["by_node"]["phylum"]["nodes"] == 4
    assert len(found["worst_curve"]["low"]) == 41
    wrong = CliRunner().invoke(app, [*words, "--by", "familie"])
    assert "no level 'familie' above the groups (did you mean 'family'?)" in str(wrong.exception)
    numbered = [*words, "--worst", "3", "--by", "3"]
    assert CliRunner().invoke(app, numbered).output == shown.output
    by_name, by_number = (
        CliRunner().invoke(app, [*each, "--json"]).output
        for each in ([*words, "--worst", "3", "--by", "family"], numbered)
    )
    assert by_name == by_number
    assert list(json.loads(by_number)["by"]) == ["family"]
    for other in ("4", "species", "99", "0"):  # the level of the groups themselves, and none
        said = str(CliRunner().invoke(app, [*words, "--by", other]).exception)
        there = "(there is 1 'kingdom', 2 'phylum', 3 'family')"
        assert said == f"there is no level {other!r} above the groups {there}"
