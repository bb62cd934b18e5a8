"""The solvers' parts by themselves: rounds, interpolation and the span of few rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.heads.solvers.path import lagrange, levels
from headwater.heads.solvers.preconditioner import inverses
from headwater.heads.solvers.span import Span


@given(st.integers(1, 6), st.integers(0, 1000))
def test_interpolation_is_exact_for_polynomials(count, seed):
    rng = np.random.default_rng(seed)
    nodes = np.arange(count) + rng.uniform(-0.3, 0.3, count)
    polynomial = np.polynomial.Polynomial(rng.normal(size=count))
    assert lagrange(nodes, 2.2) @ polynomial(nodes) == pytest.approx(polynomial(2.2), rel=1e-6, abs=1e-6)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 7.0]), st.integers(0, 2), st.booleans()), min_size=1
    )
)
def test_every_head_is_in_one_round_and_path_ends_come_first(heads):
    l2, family, alone = (np.array(column) for column in zip(*heads, strict=True))
    rounds = levels(l2, family, alone)
    assert sorted(head for members in rounds for head in members) == list(range(len(heads)))
    for number in np.unique(family):
        path = [h for h in range(len(heads)) if family[h] == number and not alone[h] and l2[h] > 0]
        ordered = sorted(path, key=lambda h: l2[h])
        assert not ordered or {ordered[0], ordered[-1]} <= set(rounds[0])


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_span_keeps_logits_and_norms(repeat):
    x = torch.randn(10, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).repeat(repeat, 1)
    span = Span.of(x)
    assert span.rows.shape == (10 * repeat, 10)
    inner = torch.randn(10, 2, 3, dtype=torch.float64)
    outer = span.out(inner)
    torch.testing.assert_close(
        torch.einsum("nd,dkh->nkh", x, outer), torch.einsum("nr,rkh->nkh", span.rows, inner)
    )
    torch.testing.assert_close(outer.square().sum(), inner.square().sum())
    torch.testing.assert_close(span.into(outer), inner)


def test_hessians_that_rounding_made_indefinite_are_lifted_and_the_others_left_alone():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 6, 6))
    turned = np.linalg.qr(root)[0]
    hessians = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(6)
    values = np.array([1e4, 1.0, 0.1, 1e-3, -1e-3, -0.02])
    hessians[1] = (turned[1] * values) @ turned[1].T
    lift = np.full((3, 6), 1e-4)
    found = inverses(torch.tensor(hessians), torch.tensor(lift)).numpy()
    for head in (0, 2):
        np.testing.assert_allclose(found[head], np.linalg.inv(hessians[head] + 1e-4 * np.eye(6)), rtol=1e-6)
    back = np.linalg.eigvalsh(np.linalg.inv(found[1]))
    assert back.min() > 0
    added = back - np.sort(values)
    assert added.min() > 0.02  # the least power of ten that outweighs the rounding, the same everywhere
    assert added.max() < 0.2
