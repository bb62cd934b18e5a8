"""Balance over a tree against recursion written out, and the sampler's head against plain PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import headwater as hw
from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import find_method, plan
from headwater.heads.methods.hierarchy import balanced_masses
from headwater.heads.methods.hierarchy_sampler import BalancedSampler, HierarchicalSampler
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.tasks.hierarchy import Hierarchy
from headwater.heads.tasks.task import Task
from headwater.store import Column, column_from_values
from headwater.taxonomy import Taxonomy

LEVELS = ("kingdom", "phylum", "species")
# Phyla 2 and 3 in the first kingdom, 4 in the second; the last species lies right below a kingdom.
PARENT = np.array([-1, -1, 0, 0, 1, 2, 2, 3, 4, 4, 4, 1])
LEVEL = np.array([1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3])
COUNTS = np.array([0, 0, 0, 0, 0, 6, 1, 3, 1, 2, 9, 4], dtype=float)
TREE = Taxonomy(PARENT, LEVEL, tuple(f"taxon {node}" for node in range(len(PARENT))), LEVELS)


def size(count: float, smoothing: float) -> float:
    return count / (count + smoothing) if count else 0.0


def shared(node: int, mass: float, counts: np.ndarray, temper: float, smoothing: float) -> dict[int, float]:
    """The mass of what lies below a node, by recursion."""

    def below(at: int) -> list[float]:
        return [counts[at], *(n for child in np.flatnonzero(at == PARENT) for n in below(child))]

    def claim(of: list[float]) -> float:
        groups = sum(size(n, smoothing) for n in of)
        return groups**temper * size(sum(of), smoothing) ** (1 - temper) if groups else 0.0

    children = [child for child in np.flatnonzero(node == PARENT) if any(below(child))]
    own = size(counts[node], smoothing) if node >= 0 else 0
    total = sum(claim(below(child)) for child in children) + own
    held = {node: mass * own / total} if own else {}
    for child in children:
        held |= shared(child, mass * claim(below(child)) / total, counts, temper, smoothing)
    return held


@given(
    st.lists(st.integers(0, 5), min_size=12, max_size=12).filter(any),
    st.floats(0, 1),
    st.sampled_from([0.0, 2.0]),
)
@settings(deadline=None, max_examples=50)
def test_every_node_shares_its_mass_among_its_children(
    counts: list[int], temper: float, smoothing: float
) -> None:
    found = balanced_masses(TREE, np.array(counts, dtype=float), "every", temper, smoothing)
    expected = np.zeros(len(PARENT))
    for node, mass in shared(-1, 1.0, np.array([*counts, 0.0]), temper, smoothing).items():
        expected[node] = mass
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_level_shares_the_mass_and_the_groups_below_share_by_size() -> None:
    # Of level 2 there are three phyla and, in place of one, the kingdom that a species lies right below.
    found = balanced_masses(TREE, COUNTS, 2)
    np.testing.assert_allclose(found[5:] * 4, [1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3, 1])
    tempered = balanced_masses(TREE, COUNTS, "kingdom", 0.5)
    np.testing.assert_allclose(tempered[:8].sum() / tempered.sum(), 3**0.5 / (3**0.5 + 4**0.5))
    for level in ("every", 1, "phylum"):
        np.testing.assert_allclose(balanced_masses(TREE, COUNTS, level, 1.0)[5:], 1 / 7)
        erm = balanced_masses(TREE, COUNTS, level, 1.0, 1e9)
        np.testing.assert_allclose(erm, COUNTS / COUNTS.sum(), atol=1e-6)
    smoothed = balanced_masses(TREE, COUNTS, "species", 0.3, 3.0)
    np.testing.assert_allclose(smoothed[5:] / smoothed[5], [1, 0.375, 0.75, 0.375, 0.6, 1.125, 4 / 7 * 1.5])
    few = balanced_masses(TREE, COUNTS, "phylum", 0.0, 2.0)  # phyla of 7, 3 and 12 images, a species of 4
    expected = np.array([7 / 9, 3 / 5, 12 / 14, 4 / 6])
    here = [few[[5, 6]].sum(), few[7], few[[8, 9, 10]].sum(), few[11]]
    np.testing.assert_allclose(here, expected / expected.sum())


@pytest.fixture
def taxa() -> Task:
    """Rows of the tree's species, each species' features around a point of its own, in train and test."""
    random = np.random.default_rng(0)
    species = np.concatenate([np.repeat(np.arange(12), COUNTS.astype(int) * 3), np.arange(5, 12)])
    split = np.where(np.arange(len(species)) < COUNTS.sum() * 3, "train", "test")
    features = random.normal(size=(12, 6))[species] * 2 + random.normal(size=(len(species), 6))
    parents = np.array(["", "", "", "", "", *(f"phylum {PARENT[node]}" for node in range(5, 12))])
    task = Task.from_arrays(
        features.astype(np.float32), parents[species], {"species": [f"s{code:02}" for code in species]}, split
    )
    node = np.array([int(name[-2:]) for name in task.group_names])
    return replace(task, hierarchy=Hierarchy(TREE, node, 2))


def weights_of(task: Task, **asked: Any) -> dict[int, float]:
    (spec,) = next(plan(task, "HierRW", asked).recipe)
    node = task.tree.node[task.groups[spec.rows.index]]
    total = spec.weights.values.sum()
    return {int(each): spec.weights.values[node == each].sum() / total for each in np.unique(node)}


def test_the_method_weighs_train_as_its_settings_say(taxa: Task) -> None:
    expected = shared(-1, 1.0, np.array([*(COUNTS * 3), 0.0]), 0.25, 2.0)
    found = weights_of(taxa, level="every", temper=0.25, smoothing=2.0)
    assert found == pytest.approx(expected)
    equal = {5: 1 / 8, 6: 1 / 8, 7: 1 / 4, 8: 1 / 12, 9: 1 / 12, 10: 1 / 12, 11: 1 / 4}
    for level in ("target", "phylum", 2, "2"):
        assert weights_of(taxa, level=level, temper=0.0) == pytest.approx(equal)
    (flat,) = next(plan(taxa, "RWG").recipe)
    for asked in ({"level": "species"}, {"temper": 1.0}):
        (spec,) = next(plan(taxa, "HierRW", asked).recipe)
        np.testing.assert_allclose(spec.weights.values * 7, flat.weights.values)


def test_augmented_views_change_no_balance(taxa: Task) -> None:
    views = np.stack([taxa.features + 1, taxa.features + 2])
    split = np.where(np.isin(np.arange(len(taxa.target)), taxa.splits["train"]), "train", "test")
    names = np.array(taxa.group_names)[taxa.groups]
    classes = np.array(taxa.classes)[taxa.target]
    viewed = replace(
        Task.from_arrays(taxa.features, classes, {"species": names}, split, views=views),
        hierarchy=taxa.hierarchy,
    )
    asked = {"level": "every", "temper": 0.5, "smoothing": 2.0}
    assert weights_of(viewed, **asked) == pytest.approx(weights_of(taxa, **asked))
    (spec,) = next(plan(viewed, "HierSampler", {"epochs": 30}, seed=1).recipe)
    (plain,) = next(plan(taxa, "HierSampler", {"epochs": 30}, seed=1).recipe)
    drawn = spec.rows.index[spec.minibatch.order.values]
    assert len(drawn) == len(plain.minibatch.order)
    assert set((drawn // viewed.images).tolist()) == {0, 1, 2}
    assert set(drawn % viewed.images) <= set(taxa.splits["train"])


def test_without_a_taxonomy_classes_share_alike_and_then_their_groups(task: Task) -> None:
    (spec,) = next(plan(task, "HierRW").recipe)
    groups = task.groups[spec.rows.index]
    assert [spec.weights.values[groups == code].sum() for code in range(4)] == pytest.approx([0.25] * 4)


def test_requests_that_cannot_be_met_are_one_sentence(taxa: Task, tmp_path: Path) -> None:
    for asked, words in (({"level": "genus"}, "no level 'genus'"), ({"level": 4}, "level 4 is out of range")):
        with pytest.raises(RequestError, match=words):
            next(plan(taxa, "HierRW", asked).recipe)
    torch.save({"fc.weight": torch.zeros(5, 6), "fc.bias": torch.zeros(5)}, tmp_path / "wide.pth")
    with pytest.raises(RequestError, match=r"shape \(5, 6\), and 4 classes on 6 features need \(4, 6\)"):
        next(plan(taxa, "HierSampler", {"start": str(tmp_path / "wide.pth")}).recipe)
    torch.save({"other": torch.zeros(5)}, tmp_path / "other.pth")
    with pytest.raises(RequestError, match="no last layer `fc`"):
        next(plan(taxa, "HierSampler", {"start": str(tmp_path / "other.pth")}).recipe)
    with pytest.raises(RequestError, match="a class and a group for each row"):
        HierarchicalSampler([0, 1], [0])
    fast = plan(taxa, "HierSampler", {"rate": 1e30, "l2": 1.0, "epochs": 20})
    with pytest.raises(RequestError, match=r"steps ran off .* 20 epochs; lower its rate, now 1e\+30"):
        run_recipes(taxa, [fast])
    for nodes, asked, words in (
        ([], {}, "the node of each row"),
        ([5, -1], {}, "row 1 has the node -1, and the tree has 0 to 11"),
        ([5, 12], {}, "row 1 has the node 12"),
        ([5], {"temper": 1.5}, "a temper from 0 to 1"),
        ([5], {"smoothing": -1.0}, "smoothing of at least 0"),
        ([5], {"rows": 0}, "a row to draw"),
        ([5], {"level": "genus"}, "no level 'genus'"),
    ):
        with pytest.raises(RequestError, match=words):
            BalancedSampler(TREE, nodes, **asked)


def test_a_group_without_a_place_in_the_tree_is_named(taxa: Task) -> None:
    node = taxa.tree.node.copy()
    node[2] = -1
    without = replace(taxa, hierarchy=Hierarchy(TREE, node, 2))
    with pytest.raises(RequestError, match="has no place in the taxonomy"):
        next(plan(without, "HierRW").recipe)


# Classes 2, 5 and 9: the smallest species have 2, 1 and 3 rows, so that 6, 4 and 6 rows may be drawn.
TARGET = np.array([2] * 10 + [5] * 14 + [9] * 9)
SPECIES = np.array([0] * 2 + [1] * 5 + [7] * 3 + [3] * 9 + [4] * 1 + [5] * 2 + [0] * 2 + [8] * 3 + [9] * 6)


def test_an_epoch_takes_turns_among_classes_until_one_runs_out() -> None:
    sampler = HierarchicalSampler(TARGET, SPECIES, random=3)
    assert len(sampler) == 4 * 3 + 1  # class 2 has its fifth turn, and then class 5 has no more
    seen: set[int] = set()
    epochs = []
    for _ in range(200):
        drawn = np.array(list(sampler))
        assert len(drawn) == len(sampler) == len(set(drawn))
        assert TARGET[drawn].tolist() == [2, 5, 9] * 4 + [2]
        of = {name: SPECIES[drawn[TARGET[drawn] == name]].tolist() for name in (2, 5, 9)}
        assert sorted(of[5]) == [0, 3, 4, 5]
        assert max(of[2].count(each) for each in (0, 1, 7)) == 2
        assert max(of[9].count(each) for each in (8, 9)) <= 3
        seen |= set(drawn.tolist())
        epochs.append(drawn)
    assert seen == set(range(len(TARGET)))
    assert any((epochs[0] != other).any() for other in epochs[1:])
    first = np.array([epoch[0] for epoch in epochs])
    # Shuffled over the species of a class: each of three is first as often, within five deviations.
    assert all(abs((SPECIES[first] == each).sum() - 200 / 3) < 34 for each in (0, 1, 7))
    assert np.array_equal(list(HierarchicalSampler(TARGET, SPECIES, random=3)), epochs[0])
    as_columns = Column("class", TARGET), column_from_values("species", SPECIES.astype(str).tolist())
    assert np.array_equal(list(HierarchicalSampler(*as_columns, random=3)), epochs[0])
    with pytest.raises(RequestError, match="column 'species' has no value in row 1;"):
        HierarchicalSampler([0, 1], column_from_values("species", ["a", None]))


NODES = np.random.default_rng(0).permutation(np.repeat(np.arange(12), COUNTS.astype(int)))


@pytest.mark.parametrize(("level", "temper", "smoothing"), [("every", 0.0, 0.0), ("every", 0.3, 2.0)])
@pytest.mark.parametrize("rows", [26, 7, 400])
def test_a_balanced_epoch_holds_each_nodes_part_but_for_less_than_a_row(
    level: str, temper: float, smoothing: float, rows: int
) -> None:
    masses = np.zeros(12)
    for node, mass in shared(-1, 1.0, np.array([*COUNTS, 0.0]), temper, smoothing).items():
        masses[node] = mass
    sampler = BalancedSampler(TREE, NODES, level=level, temper=temper, smoothing=smoothing, rows=rows)
    times, first = np.zeros((500, len(NODES)), dtype=int), []
    for epoch in times:
        drawn = np.array(list(sampler))
        assert len(drawn) == len(sampler) == rows
        np.add.at(epoch, drawn, 1)
        first.append(NODES[drawn[0]])
        counts = np.bincount(NODES, epoch, 12)
        assert (np.abs(counts - rows * masses) < 1 + 1e-9).all()
        for node in range(5, 12):
            assert np.ptp(epoch[node == NODES]) <= 1
    assert len(np.unique(times, axis=0)) > 1
    # On average no node is above or below its part, nor is a row of it, within five deviations of a row.
    parts = rows * masses[NODES] / COUNTS[NODES]
    assert np.abs(times.mean(axis=0) - parts).max() < 5 * 0.5 / 500**0.5
    of_first = np.bincount(first, minlength=12) / 500
    assert np.abs(of_first - masses).max() < 5 * 0.5 / 500**0.5


def test_a_balanced_sampler_takes_a_level_and_serves_a_loader() -> None:
    phyla = {5: 1 / 2, 6: 1 / 2, 7: 1, 8: 1 / 3, 9: 1 / 3, 10: 1 / 3, 11: 1}
    for level in ("phylum", 2, "2"):
        sampler = hw.heads.BalancedSampler(TREE, NODES, level=level, rows=2400, random=4)
        drawn = np.concatenate(list(DataLoader(range(26), batch_size=100, sampler=sampler)))
        counts = np.bincount(NODES[drawn], minlength=12)[5:]
        np.testing.assert_allclose(counts, [600 * share for share in phyla.values()], atol=1)
    again = hw.heads.BalancedSampler(TREE, NODES, level=2, rows=2400, random=4)
    assert np.array_equal(list(again), drawn)
    alike = BalancedSampler(TREE, NODES, smoothing=1e12, temper=1.0)
    assert sorted(alike) == list(range(26))


def test_the_head_is_what_plain_pytorch_trains_with_the_sampler(taxa: Task, tmp_path: Path) -> None:
    start = {"fc.weight": torch.randn(4, 6, generator=torch.manual_seed(1)), "fc.bias": torch.ones(4)}
    torch.save(start, tmp_path / "resnet.pth")
    asked = {"epochs": 5, "batch": 4, "rate": 0.05, "momentum": 0.5, "l2": 0.01}
    asked["start"] = str(tmp_path / "resnet.pth")
    planned = plan(taxa, "HierSampler", asked, seed=7)
    (fitted,) = run_recipes(taxa, [planned])

    train = taxa.splits["train"]
    random = hw.heads.methods.random_for(find_method("HierSampler"), 7)
    sampler = hw.heads.HierarchicalSampler(taxa.target[train], taxa.groups[train], random=random)
    data = TensorDataset(torch.tensor(taxa.features[train]), torch.tensor(taxa.target[train]))
    fc = torch.nn.Linear(6, 4)
    fc.load_state_dict({"weight": start["fc.weight"], "bias": start["fc.bias"]})
    decayed = {"params": [fc.weight], "weight_decay": 0.01}
    optimiser = torch.optim.SGD([decayed, {"params": [fc.bias]}], lr=0.05, momentum=0.5)
    for _ in range(5):
        for features, target in DataLoader(data, batch_size=4, sampler=sampler):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(fc(features), target).backward()
            optimiser.step()
    assert len(sampler) % 4  # an epoch's last batch is shorter
    np.testing.assert_allclose(fitted.head.weight, fc.weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(fitted.head.bias, fc.bias.detach().numpy(), atol=1e-5)
    assert np.abs(fitted.head.weight - start["fc.weight"].numpy()).max() > 0.05
    assert fitted.choices["rows_per_epoch"] == len(sampler)
    # That it stops after its epochs is the method, and nothing to warn of.
    assert (fitted.unconverged, fitted.convergence.converged, fitted.convergence.stepped) == (0, False, True)
    assert fitted.obstacle.startswith("stepped 5 epochs, as asked; gap to the optimum")


def test_the_worst_groups_are_drawn_toward_their_relatives_in_the_tasks_tree(taxa: Task) -> None:
    recipe = plan(taxa, "HierDRO", {"share": 0.4, "strength": 3.0, "l2": 0.1}).recipe
    (spec,) = next(recipe)
    (head,) = HeadBank(taxa.features, taxa.target, 4).train([spec])
    train = taxa.splits["train"]
    logits = head.logits(taxa.features[train]).astype(float)
    losses = -np.log(
        (np.exp(logits - logits[np.arange(len(train)), taxa.target[train]][:, None])).sum(1) ** -1
    )
    of, counts, sums = taxa.tree.node[taxa.groups[train]], np.zeros(12), np.zeros(12)
    for leaf, loss in zip(of, losses, strict=True):
        node = leaf
        while node >= 0:
            counts[node] += 1
            sums[node] += loss
            node = PARENT[node]
    drawn = np.zeros(13)
    drawn[-1] = losses.mean()  # what lies over the roots, their parent -1
    for node in range(12):
        drawn[node] = (sums[node] + 3 * drawn[PARENT[node]]) / (counts[node] + 3)
    worst = np.sort(drawn[5:12])[::-1]
    expected = (worst[0] + worst[1] + 0.8 * worst[2]) / 2.8
    scaled = head.weight * taxa.features[train].astype(float).std(axis=0)
    scaled -= scaled.mean(axis=0)  # of the columns' common part softmax knows nothing
    assert head.convergence.objective == pytest.approx(expected + 0.05 * (scaled**2).sum(), rel=2e-3)
    assert head.convergence.converged
    (single,) = next(plan(taxa, "HierDRO", {"share": 0.0, "strength": 0.0, "l2": 1.0}).recipe)
    assert single.risk.share is None
    assert single.risk.shrinking is None
