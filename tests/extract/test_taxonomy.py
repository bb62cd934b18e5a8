"""Folder names become class, split and the seven taxonomy columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from headwater.errors import RequestError
from headwater.extract import extract_features
from headwater.extract.taxonomy import folder_columns
from headwater.store import open_store
from headwater.taxonomy import LEVELS

WORM = "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"
MOTH = "01234_Animalia_Arthropoda_Insecta_Lepidoptera_Noctuidae_Xestia_c-nigrum"
APPLE = "09999_Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Malus_\u00d7domestica"


@pytest.mark.parametrize(
    ("keys", "columns"),
    [
        (["cat/1.jpg", "dog/2.jpg"], {"class": ["cat", "dog"]}),
        (["1.jpg", "2.jpg"], {}),
        (["1.jpg", "cat/2.jpg"], {"class": [None, "cat"]}),
        (["cat/1.jpg"], {"class": ["cat"]}),
        (["images/cat/1.jpg", "images/dog/1.jpg"], {"class": ["cat", "dog"]}),
        (["a/b/cat/1.jpg", "a/b/dog/1.jpg"], {"class": ["cat", "dog"]}),
        (
            ["cat/indoors/1.jpg", "cat/outdoors/1.jpg", "dog/1.jpg"],
            {"class": ["cat/indoors", "cat/outdoors", "dog"]},
        ),
        (
            ["train/cat/1.jpg", "val/cat/1.jpg", "test/dog/1.jpg"],
            {"split": ["train", "val", "test"], "class": ["cat", "cat", "dog"]},
        ),
        (
            ["Training/cat/1.jpg", "VALIDATION/cat/1.jpg", "valid/dog/1.jpg"],
            {"split": ["train", "val", "val"], "class": ["cat", "cat", "dog"]},
        ),
        (
            ["data/train/cat/1.jpg", "data/test/dog/1.jpg"],
            {"split": ["train", "test"], "class": ["cat", "dog"]},
        ),
        (["train/cat/1.jpg", "train/dog/1.jpg"], {"split": ["train", "train"], "class": ["cat", "dog"]}),
        (["train/1.jpg", "test/1.jpg"], {"split": ["train", "test"]}),
        (
            ["labeled/cat/1.jpg", "Unlabelled/1.jpg", "target/1.jpg"],
            {"split": ["labeled", "unlabeled", "target"], "class": ["cat", None, None]},
        ),
        (["test/1.jpg", "exam/1.jpg"], {"class": ["test", "exam"]}),  # not all are splits: a class named test
        (["train/cat/1.jpg", "stray.jpg"], {"split": ["train", None], "class": ["cat", None]}),
        ([], {}),
    ],
)
def test_layouts(keys: list[str], columns: dict[str, list[str | None]]) -> None:
    assert folder_columns(keys) == columns


def test_inaturalist_folders_fill_the_seven_levels() -> None:
    columns = folder_columns([f"{WORM}/1.jpg", f"{WORM}/2.jpg", f"{MOTH}/3.jpg", f"{APPLE}/4.jpg"])
    assert columns["taxon"] == [WORM, WORM, MOTH, APPLE]
    assert [columns[level][0] for level in LEVELS] == [
        "Animalia",
        "Annelida",
        "Clitellata",
        "Haplotaxida",
        "Lumbricidae",
        "Lumbricus",
        "Lumbricus terrestris",
    ]
    assert columns["class"] == ["Clitellata", "Clitellata", "Insecta", "Magnoliopsida"]
    assert columns["species"][2:] == ["Xestia c-nigrum", "Malus \u00d7domestica"]
    assert list(columns) == ["taxon", *LEVELS]


def test_inaturalist_folders_below_splits() -> None:
    columns = folder_columns([f"train/{WORM}/1.jpg", f"val/{MOTH}/1.jpg"])
    assert columns["split"] == ["train", "val"]
    assert columns["species"] == ["Lumbricus terrestris", "Xestia c-nigrum"]


def test_one_species_alone_is_still_a_taxon() -> None:
    assert folder_columns([f"{WORM}/1.jpg"])["phylum"] == ["Annelida"]


def test_epithets_that_repeat_stay_two_species() -> None:
    other = WORM.replace("Lumbricus", "Eisenia").replace("00000", "00001")
    columns = folder_columns([f"{WORM}/1.jpg", f"{other}/1.jpg"])
    assert columns["species"] == ["Lumbricus terrestris", "Eisenia terrestris"]


def test_an_epithet_of_several_words() -> None:
    columns = folder_columns([f"{WORM}_var_alba/1.jpg"])
    assert columns["species"] == ["Lumbricus terrestris var alba"]
    assert columns["genus"] == ["Lumbricus"]


@pytest.mark.parametrize("stray", ["cat/1.jpg", "00001_Animalia_Annelida/1.jpg", "00001_a_b_c_d_e_f_g/1.jpg"])
def test_a_folder_of_another_kind_among_taxa_is_named(stray: str) -> None:
    name = stray.partition("/")[0]
    with pytest.raises(
        RequestError, match=f"the folder '{name}' is not named like .*, as 2 folders here are"
    ):
        folder_columns([f"{WORM}/1.jpg", f"{MOTH}/1.jpg", stray])
    with pytest.raises(RequestError, match="species\\), and neither are 1 more, as 1 folder here are"):
        folder_columns([f"{WORM}/1.jpg", stray, f"s{stray}"])
    assert list(folder_columns([stray])) == ["class"]


def test_a_species_under_two_parents_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    other = WORM.replace("Lumbricidae", "Lumbricides").replace("00000", "00001")
    for splits in (("", ""), ("train/", "val/")):
        keys = [f"{splits[0]}{WORM}/1.jpg", f"{splits[1]}{other}/1.jpg", f"{splits[0]}{MOTH}/1.jpg"]
        with pytest.raises(
            RequestError,
            match=r"species 'Lumbricus terrestris' stands under two parents,"
            r" '.*_Lumbricidae_Lumbricus' and '.*_Lumbricides_Lumbricus'; correct one",
        ):
            folder_columns(keys)
    for folder in (WORM, other):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / folder / "1.png")
    with pytest.raises(RequestError, match="stands under two parents"):
        extract_features(tmp_path / "images", tmp_path / "s", backbone="pixels")
    assert not (tmp_path / "s").exists()
    # Twice in one place it is one species, and in two kingdoms two.
    again = WORM.replace("00000", "00001")
    plant = "00002_Plantae_Tracheophyta_Pinopsida_Pinales_Araucariaceae_Lumbricus_terrestris"
    columns = folder_columns([f"{name}/1.jpg" for name in (WORM, again, plant)])
    assert columns["species"] == ["Lumbricus terrestris"] * 3


def test_an_image_beside_the_taxa_has_none() -> None:
    columns = folder_columns([f"{WORM}/1.jpg", "1.jpg"])
    assert columns["taxon"] == [WORM, None]
    assert columns["species"] == ["Lumbricus terrestris", None]


def test_names_that_are_no_utf8_become_text() -> None:
    columns = folder_columns(["caf\udce9/1.jpg", "cafe/1.jpg"])
    assert columns == {"class": ["caf\\xe9", "cafe"]}
    columns["class"][0].encode()  # type: ignore[union-attr]


def test_a_store_of_taxa_remembers_its_levels_and_a_stray_folder_stops_it_at_once(tmp_path: Path) -> None:
    for folder in (WORM, MOTH):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / folder / "1.png")
    extract_features(tmp_path / "images", tmp_path / "s", backbone="pixels")
    assert open_store(tmp_path / "s").annotations.levels == LEVELS
    (tmp_path / "images/cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/cat/1.png")
    with pytest.raises(RequestError, match="the folder 'cat' is not named like 00000_Animalia"):
        extract_features(tmp_path / "images", tmp_path / "t", backbone="pixels")
    assert not (tmp_path / "t").exists()
