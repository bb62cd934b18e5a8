"""A task of made-up features drawn down a real taxonomy: what the benchmarks of hierarchies run on.

`SPECIES` in the environment names a CSV with a row for each species and a column for each of its seven levels
(that of iNat2021 has 10,000); without it a taxonomy of the same shape is invented. Nothing is measured here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.heads.tasks.hierarchy import Hierarchy
from headwater.heads.tasks.task import Task
from headwater.taxonomy import LEVELS, Taxonomy, from_columns, read_table

SHAPE = (3, 13, 51, 273, 1_103, 4_900, 10_000)
"""Nodes by level of iNat2021, from kingdom to species."""

TARGET = 2  # the level of the classes: phylum
LATENT = 128  # directions in which taxa differ
# How far a node lies from its parent, by level; siblings have all but the last step in common.
DISTANCE = (2.0, 3.0, 3.0, 3.0, 2.5, 2.5, 2.5)
LOOKS = 80  # of those directions, the ones that a look-alike has from the taxon that it looks like
ALIKE = ("family", "genus", "species")  # what looks alike is a whole taxon
POPULARITY = 0.6  # deviation, at every level, of the logarithm of how often a taxon is photographed
_BLOCK = 10_000


@dataclass(frozen=True)
class World:
    """How large a simulated task is; `val` rows are taken from the `train` rows, never a species' last."""

    dim: int = 2048
    species: int = 10_000
    train: int = 100_000
    val: int = 0
    test_per_species: int = 10
    lookalikes: float = 0.1


def invented(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> tuple[Taxonomy, NDArray[np.int64]]:
    """A taxonomy with so many nodes by level, and the node of each species; large taxa grow larger."""
    random = np.random.default_rng(seed)
    above = np.zeros(1, dtype=np.int64)
    paths = np.zeros((1, 0), dtype=np.int64)
    for count in shape:
        # Every taxon has a child; the others go where children already are.
        parents = list(range(len(above)))
        for _ in range(count - len(above)):
            parents.append(parents[random.integers(len(parents))])
        above = np.arange(count)
        paths = np.column_stack([paths[np.array(parents)], above])
    names = {
        level: [f"{level.title()}{each:05d}" for each in paths[:, number]]
        for number, level in enumerate(LEVELS)
    }
    return from_columns(names, one_parent="species")


def taxonomy() -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of `SPECIES`, or an invented one, and the node of each species."""
    place = os.environ.get("SPECIES")
    return read_table(place, LEVELS) if place else invented()


def origin() -> str:
    """Which of the two it is, for the notes of a benchmark."""
    place = os.environ.get("SPECIES")
    return "that of SPECIES" if place else "invented, of the shape of iNat2021's, as SPECIES is not set"


def simulate(seed: int, world: World | None = None) -> Task:
    """Phyla to be told apart, species as groups: splits train, val (if asked for) and test.

    A node of the tree lies in a random direction from its parent, in a space of LATENT directions; a share of
    the species have their place in LOOKS of these from a genus of another phylum. Images scatter around their
    species, most in few directions. Features are rectified mixtures of that space with noise, float16 as a
    store has them. How many images of a species train has is drawn down the tree too, at least one; test has
    the same number of each.
    """
    world = world or World()
    random = np.random.default_rng(seed)
    tree, leaves = taxonomy()
    if world.species < len(leaves):
        leaves = random.permutation(leaves)[: world.species]
    order = {int(node): place for place, node in enumerate(tree.nodes_at("species"))}
    leaves = np.array(sorted(leaves.tolist(), key=order.__getitem__))
    phyla = [int(node) for node in tree.nodes_at(TARGET) if (tree.ancestors(leaves, TARGET) == node).any()]
    of_leaf = np.array([phyla.index(int(node)) for node in tree.ancestors(leaves, TARGET)])

    place = _places(tree, random)
    centre = place[leaves]
    like = _look_alikes(tree, leaves, world.lookalikes, random)
    centre[like >= 0, :LOOKS] = place[like[like >= 0], :LOOKS]

    counts = _counts(tree, leaves, world.train, random)
    of_train = np.repeat(np.arange(len(leaves)), counts)
    groups = np.concatenate([of_train, np.repeat(np.arange(len(leaves)), world.test_per_species)])
    train = np.arange(len(of_train))
    val = _held_out(of_train, world.val, random)
    splits = {
        "train": np.setdiff1d(train, val),
        "val": val,
        "test": np.arange(len(of_train), len(groups)),
    }
    return Task(
        features=_features(centre, groups, world.dim, seed),
        target=of_leaf[groups],
        classes=tuple(tree.names[node] for node in phyla),
        groups=groups,
        group_names=tuple(tree.names[node] for node in leaves),
        domains=groups,
        splits={name: rows for name, rows in splits.items() if len(rows)},
        target_name="phylum",
        group_columns=("species",),
        hierarchy=Hierarchy(tree, leaves, TARGET),
        groups_may_lack_rows=True,
    )


def _places(tree: Taxonomy, random: np.random.Generator) -> NDArray[np.float32]:
    """Where each node lies, (nodes, LATENT): a random step from its parent."""
    reach = np.asarray(DISTANCE)[tree.level - 1, None] / np.sqrt(LATENT)
    place = (random.standard_normal((len(tree), LATENT)) * reach).astype(np.float32)
    for level in range(2, len(LEVELS) + 1):
        nodes = np.flatnonzero(tree.level == level)
        place[nodes] += place[tree.parent[nodes]]
    return place


def _look_alikes(
    tree: Taxonomy, leaves: NDArray[np.int64], share: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """For every leaf the genus of another phylum that it looks like, (leaves,), -1 for none.

    Whole families, whole genera and single species do, in equal parts of `share` of the leaves.
    """
    phylum, genera = tree.ancestors(leaves, TARGET), np.unique(tree.parent[leaves])
    of_genus = tree.ancestors(genera, TARGET)
    like = np.full(len(leaves), -1, dtype=np.int64)
    for number, level in enumerate(ALIKE, start=1):
        taxon = tree.ancestors(leaves, level)
        for each in random.permutation(np.unique(taxon)):
            if (like >= 0).sum() >= number / len(ALIKE) * share * len(leaves):
                break
            here = np.flatnonzero(taxon == each)
            like[here] = random.choice(genera[of_genus != phylum[here[0]]])
    return like


def _counts(
    tree: Taxonomy, leaves: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Images per species, at least one, `rows` in all; relatives tend to be photographed alike often."""
    liking = POPULARITY * random.standard_normal(len(tree))
    for level in range(2, len(LEVELS) + 1):
        nodes = np.flatnonzero(tree.level == level)
        liking[nodes] += liking[tree.parent[nodes]]
    chance = np.exp(liking[leaves])
    return 1 + random.multinomial(rows - len(leaves), chance / chance.sum())


def _held_out(groups: NDArray[np.int64], rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of `rows` rows drawn among all but the first of each group."""
    first = np.zeros(len(groups), dtype=bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return np.sort(random.permutation(np.flatnonzero(~first))[:rows])


def _features(
    centre: NDArray[np.float32], groups: NDArray[np.int64], dim: int, seed: int
) -> NDArray[np.float16]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(LATENT, dim, generator=generator) / LATENT**0.5
    spread = 2.0 * torch.arange(1, LATENT + 1) ** -0.25  # images differ most in light, pose, background
    centres = torch.from_numpy(centre)
    features = np.empty((len(groups), dim), dtype=np.float16)
    for first in range(0, len(groups), _BLOCK):
        here = torch.from_numpy(groups[first : first + _BLOCK])
        latent = centres[here] + spread * torch.randn(len(here), LATENT, generator=generator)
        noise = 0.5 * torch.randn(len(here), dim, generator=generator)
        features[first : first + len(here)] = torch.relu(latent @ mixing + noise).half().numpy()
    return features
