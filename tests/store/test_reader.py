"""Reading: every way of asking for rows gives what numpy gives on the same matrix, from any thread."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError, RequestError
from headwater.store import open_store, pack


@pytest.fixture(scope="module", params=["folder", "packed"])
def opened(request, tmp_path_factory, builder):
    made = builder(tmp_path_factory.mktemp("read") / "store", rows=43, dim=3, views=2, rows_per_shard=8)
    path = made.write()
    if request.param == "packed":
        path = pack(path, path.with_suffix(".h5"))
    return open_store(path), made


indexes = st.one_of(
    st.integers(-43, 42),
    st.slices(43),
    st.lists(st.integers(-43, 42), max_size=60).map(lambda rows: np.array(rows, dtype=np.int64)),
    st.lists(st.booleans(), min_size=43, max_size=43).map(np.array),
    st.lists(st.integers(0, 42), min_size=1, max_size=9).map(lambda rows: np.array(rows, np.uint8)),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=indexes, view=st.integers(0, 2))
def test_any_index_gives_what_numpy_gives(opened, index, view):
    store, made = opened
    features = store.features if view == 0 else store.augmented(view)
    truth = made.features if view == 0 else made.augmented[view - 1]
    found = features[index]
    np.testing.assert_array_equal(found, truth[index])
    assert found.dtype == truth.dtype


def test_other_index_forms(opened):
    store, made = opened
    np.testing.assert_array_equal(store.features[[5, 1, 5]], made.features[[5, 1, 5]])
    np.testing.assert_array_equal(store.features[[[5, 1], [40, 2]]], made.features[[[5, 1], [40, 2]]])
    np.testing.assert_array_equal(store.features[2:30, 1], made.features[2:30, 1])
    np.testing.assert_array_equal(store.features[[3, 33], :2], made.features[[3, 33], :2])
    assert store.features[4, 2] == made.features[4, 2]
    assert store.features[np.array([], np.int64)].shape == (0, 3)


@pytest.mark.parametrize("index", [43, -44, [0, 43], [-44], np.zeros(42, bool), [0.5]])
def test_rows_that_are_not_there_are_refused(opened, index):
    with pytest.raises(IndexError):
        opened[0].features[index]


def test_a_slice_within_one_file_is_a_read_only_view(opened):
    store, _ = opened
    part = store.features[9:15]
    assert part.base is not None
    assert not part.flags.writeable
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        part.flags.writeable = True
    assert store.features[0:43].flags.writeable == (not store.packed)


def test_blocks_cover_all_rows_once_and_in_order(opened):
    store, made = opened
    firsts, blocks = zip(*store.augmented(2).blocks(), strict=True)
    np.testing.assert_array_equal(np.concatenate(blocks), made.augmented[1])
    assert list(firsts) == [0] if store.packed else list(range(0, 43, 8))
    assert all(not block.flags.writeable for block in blocks)


def test_features_become_arrays(opened):
    store, made = opened
    assert np.asarray(store.features, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.array(store.features), made.features)
    assert store.features.shape == (43, 3)
    assert store.features.ndim == 2
    assert len(store.features) == 43


def test_views_out_of_range_are_refused(opened):
    for view in (0, 3, -1):
        with pytest.raises(RequestError, match="views 1 to 2, not view"):
            opened[0].augmented(view)


def test_views_keep_what_they_show_when_the_store_is_gone(make):
    made = make()
    part = open_store(made.path).features[3:7]
    np.testing.assert_array_equal(part, made.features[3:7])


def test_threads_read_the_same(make):
    made = make(rows=2000, dim=16, rows_per_shard=50)
    store = open_store(made.path)
    generator = np.random.default_rng(3)
    rows = [generator.integers(0, 2000, 300) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        for wanted, found in zip(rows, threads.map(store.features.__getitem__, rows), strict=True):
            np.testing.assert_array_equal(found, made.features[wanted])


_MANY = """
import resource, sys
import numpy as np
from headwater.store import open_store
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
store = open_store(sys.argv[1])
blocks = [block for _, block in store.features.blocks()]
print(len(blocks), int(store.ok.sum()), float(np.concatenate(blocks).astype(np.float64).sum()))
"""


def test_more_shards_than_a_process_may_open_files(make):
    made = make(rows=120, rows_per_shard=1)
    done = subprocess.run(
        [sys.executable, "-c", _MANY, str(made.path)], capture_output=True, text=True, check=True
    )
    blocks, good, total = done.stdout.split()
    assert (int(blocks), int(good)) == (120, 120)
    assert float(total) == pytest.approx(made.features.astype(np.float64).sum())


def test_opening_reads_no_shard(make):
    made = make()
    for shard in made.path.glob("shard-*"):
        shard.write_bytes(b"no longer a shard")
    store = open_store(made.path)
    assert len(store) == 25
    assert store.keys[24] == made.keys[24]
    with pytest.raises(
        HeadwaterError, match=r"shard-00002.h5 cannot be read: .*delete shard-00002.h5 and run"
    ):
        store.features[24]


def test_rows_by_key(make):
    made = make()
    store = open_store(made.path)
    wanted = [made.keys[7], made.keys[0], made.keys[7]]
    assert store.rows_of(wanted).tolist() == [7, 0, 7]
    assert store.rows_of([]).tolist() == []
    with pytest.raises(
        RequestError, match=r"no row with the key 'class 1/imag 7.jpg'; the nearest is 'class 1/image 7.jpg'"
    ):
        store.rows_of(["class 1/imag 7.jpg"])


def test_unfinished_stores_open_only_on_request(make):
    made = make(written=False, failed={12: "broken"})
    made.write(shards=[1])
    with pytest.raises(
        HeadwaterError, match="2 of 3 shards are missing; run the same extract command again to finish"
    ):
        open_store(made.path)
    store = open_store(made.path, unfinished=True)
    assert store.missing_shards == [0, 2]
    assert store.ok.tolist() == [False] * 10 + [True, True, False] + [True] * 7 + [False] * 5
    assert store.errors == [(12, "broken")]
    assert store.sizes[:10].tolist() == [[0, 0]] * 10
    np.testing.assert_array_equal(store.features[[13, 18]], made.features[[13, 18]])
    with pytest.raises(HeadwaterError, match="rows 0 to 9 are missing; run the same extract command again"):
        store.features[[13, 3]]


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x" * 5000)
    for name, said in (
        ("folder", "has no plan.json"),
        ("file", "not a store"),
        ("nothing", "there is no store"),
    ):
        with pytest.raises(RequestError, match=said):
            open_store(tmp_path / name)


def test_the_store_needs_no_torch():
    script = "import sys, headwater.store; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
