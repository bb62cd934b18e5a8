"""Runs to ask for: images drawn in the contest's layout, a config over a small store; what came of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.store import Plan, ShardRows, StoreWriter
from headwater.workflow import RunResult, run_config

TAXA = {  # in the contest's layout; two genera are called Rosa, and two Parus
    "Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris": (200, 90, 90),
    "Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_rubellus": (220, 110, 80),
    "Animalia_Chordata_Aves_Passeriformes_Paridae_Parus_major": (40, 60, 220),
    "Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_pica": (10, 10, 160),
    "Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_major": (30, 200, 40),
    "Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_canina_canina": (60, 230, 90),
    "Plantae_Bryophyta_Bryopsida_Hypnales_Hypnaceae_Rosa_alba": (150, 250, 10),
    "Fungi_Ascomycota_Lecanoromycetes_Lecanorales_Parmeliaceae_Parus_niger": (230, 230, 240),
}
PHYLA = [
    "Animalia_Annelida",
    "Animalia_Chordata",
    "Fungi_Ascomycota",
    "Plantae_Bryophyta",
    "Plantae_Tracheophyta",
]


METHODS = "fit:\n  methods: {ERM: , RWG: {l2: 0.1}}"
BIRDS = """\
out: run
store: birds.store
annotate: {table: places.csv}
split: {train: 0.5, val: 0.25, test: 0.25}
groups: place
report: false
fit:
  methods: {ERM: , RWG: {l2: 0.1}}
"""


def draw_images(root: Path, each: int, *phyla: str) -> None:
    """So many images of every taxon, or of those of some phyla."""
    random = np.random.default_rng(0)
    for number, (taxon, colour) in enumerate(TAXA.items()):
        if phyla and not taxon.startswith(phyla):
            continue
        folder = root / f"{number:05}_{taxon}"
        folder.mkdir(parents=True)
        for image in range(each):
            pixels = np.array(colour) + random.normal(0, 25, (40, 56, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype("u1")).save(folder / f"{image}.png")


def ran(text: str) -> RunResult:
    Path("cfg.yaml").write_text(text)
    return run_config("cfg.yaml")


def steps(result: RunResult) -> dict[str, bool]:
    return {said.step: said.changed for said in result.steps}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """When every file was last written, and which file it is."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def write_store(path: Path, keys: list[str], features: NDArray[np.float32]) -> None:
    plan = Plan.for_keys(keys, recipe={"backbone": "pixels"}, dim=features.shape[1], dtype="float32")
    with StoreWriter(path, plan, keys) as writer:
        zeros = np.zeros(len(keys), dtype=np.int32)
        writer.write(0, ShardRows(features, None, zeros.astype("u1"), [""] * len(keys), zeros, zeros))
        writer.finish({})
