"""Packing, importing, exporting: nothing is lost on the way or overwritten, damage is not passed on."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from headwater.errors import HeadwaterError, RequestError
from headwater.store import (
    Plan,
    annotate,
    draw_split,
    export,
    import_features,
    info,
    open_store,
    pack,
    verify,
)


@pytest.fixture
def full(make):
    """A store with everything: views, failed rows, odd keys, columns of all kinds with missing values."""
    keys = [*(f"class {row % 3}/image {row}.jpg" for row in range(23)), "line\nbreak", "caf\udce9.jpg"]
    made = make(keys=keys, views=2, failed={3: "no image", 24: "empty file"})
    annotate(
        made.path,
        {
            "path": keys,
            "class": [f"class {row % 3}" for row in range(25)],
            "place": ["water" if row % 2 else "land" for row in range(24)] + [None],
            "n": [None, *range(1, 25)],
            "real": [0.5 * row for row in range(24)] + [None],
        },
    )
    draw_split(made.path, {"train": 0.5, "test": 0.5})
    return made


def assert_same(one, other):
    """Two stores hold the same, down to annotations, errors and plans."""
    assert one.plan == other.plan
    assert one.keys.tolist() == other.keys.tolist()
    np.testing.assert_array_equal(np.asarray(one.features), np.asarray(other.features))
    for view in range(1, one.views + 1):
        np.testing.assert_array_equal(np.asarray(one.augmented(view)), np.asarray(other.augmented(view)))
    assert one.errors == other.errors
    np.testing.assert_array_equal(one.sizes, other.sizes)
    np.testing.assert_array_equal(one.status, other.status)
    assert one.annotations.names == other.annotations.names
    for name, column in one.annotations.items():
        np.testing.assert_array_equal(column.values, other.annotations[name].values)
        assert column.categories == other.annotations[name].categories


def test_a_packed_file_reads_like_its_folder_and_unpacks_into_the_same_bytes(full, tmp_path):
    packed = pack(full.path, tmp_path / "packed.h5")
    assert verify(packed).ok
    assert_same(open_store(full.path), open_store(packed))
    assert open_store(packed).runs == open_store(full.path).runs
    report = import_features(packed, tmp_path / "unpacked")
    assert (report.rows, report.failed, report.already_done) == (25, 2, False)
    assert_same(open_store(full.path), open_store(tmp_path / "unpacked"))
    for file in full.path.glob("*.h5"):
        assert file.read_bytes() == (tmp_path / "unpacked" / file.name).read_bytes()
    assert [run.get("job") for run in open_store(tmp_path / "unpacked").runs] == [None, "unpack"]
    assert verify(tmp_path / "unpacked").ok
    assert import_features(packed, tmp_path / "unpacked").already_done
    with pytest.raises(RequestError, match="packed already"):
        pack(packed, tmp_path / "twice.h5")


def test_a_store_is_known_by_its_rows_wherever_they_are(full, tmp_path):
    content = open_store(full.path).content
    packed = pack(full.path, tmp_path / "packed.h5")
    import_features(packed, tmp_path / "unpacked")
    shutil.copytree(full.path, tmp_path / "copy")
    annotate(tmp_path / "copy", {"path": full.keys, "more": ["x"] * len(full.keys)})
    for place in (packed, tmp_path / "unpacked", tmp_path / "copy"):
        assert open_store(place).content == content
    before = full.features[0, 0].copy()
    full.features[0, 0] += 1
    full.write(tmp_path / "other")
    full.features[0, 0] = before
    renamed = dataclasses.replace(full, keys=[f"{key}.png" for key in full.keys])
    renamed.plan = Plan.for_keys(
        renamed.keys,
        recipe=full.plan.recipe,
        dim=full.plan.dim,
        dtype=full.plan.dtype,
        views=full.plan.views,
        rows_per_shard=full.plan.rows_per_shard,
    )
    renamed.write(tmp_path / "renamed")
    for place in (tmp_path / "other", tmp_path / "renamed"):
        assert open_store(place).fingerprint == open_store(full.path).fingerprint
        assert open_store(place).content != content
        assert open_store(pack(place, tmp_path / f"{place.name}.h5")).content == open_store(place).content
    (tmp_path / "copy" / "shard-00001.h5").write_bytes(b"torn")
    with pytest.raises(HeadwaterError, match=r"shard-00001.h5 cannot be read: .*delete shard-00001.h5"):
        _ = open_store(tmp_path / "copy").content


def test_packing_twice_gives_the_same_bytes(full, tmp_path):
    assert pack(full.path, tmp_path / "a.h5").read_bytes() == pack(full.path, tmp_path / "b.h5").read_bytes()


def test_damage_is_not_packed(full, tmp_path):
    shard = full.path / "shard-00001.h5"
    content = bytearray(shard.read_bytes())
    content[content.index(full.features[11].tobytes())] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        HeadwaterError, match=r"shard-00001.h5 is damaged: .*delete shard-00001.h5 and run the same"
    ):
        pack(full.path, tmp_path / "packed.h5")
    assert [file for file in tmp_path.iterdir() if "packed" in file.name] == []


def test_nothing_is_overwritten(full, tmp_path):
    for name in ("there.h5", "there.npz", "there.parquet"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(RequestError, match="exists already"):
            (pack if name.endswith("h5") else export)(full.path, tmp_path / name)
        assert (tmp_path / name).read_text() == "precious"
    with pytest.raises(RequestError, match="no folder"):
        pack(full.path, tmp_path / "nowhere" / "packed.h5")


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_exported_files_come_back_as_the_good_rows(full, tmp_path, ending):
    good = [row for row in range(25) if row not in (3, 24)]
    assert export(full.path, tmp_path / f"out.{ending}") == 23
    import_features(tmp_path / f"out.{ending}", tmp_path / "again")
    before, after = open_store(full.path), open_store(tmp_path / "again")
    assert after.keys.tolist() == before.keys[good].tolist()
    np.testing.assert_array_equal(np.asarray(after.features), full.features[good])
    assert after.annotations.names == before.annotations.names
    for name, column in before.annotations.items():
        kept = column.take(np.array(good))
        if name == "n" and ending == "npz":  # whole numbers with missing ones become real
            np.testing.assert_array_equal(after.annotations[name].values, [np.nan, *(g for g in good if g)])
        else:
            np.testing.assert_array_equal(after.annotations[name].values, kept.values)
            assert after.annotations[name].categories == kept.categories
    assert verify(tmp_path / "again").ok


def test_numpy_and_arrow_read_the_exports(full, tmp_path):
    export(full.path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert arrays["features"].dtype == np.float16
        np.testing.assert_array_equal(arrays["features"][3:], full.features[4:24])
        assert arrays["place"][:2].tolist() == ["land", "water"]
    export(full.path, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist()[:3] == [None, 1, 2]
    assert table["features"].to_pylist()[0] == full.features[0].astype(np.float32).tolist()


def test_the_layout_of_retraining_scripts(full, tmp_path):
    rows = export(full.path, tmp_path / "dfr.npz", "dfr", target="class", groups=["place"])
    store = open_store(full.path)
    kept = store.ok & ~store.annotations["place"].missing
    assert rows == kept.sum() == 23
    with np.load(tmp_path / "dfr.npz") as arrays:
        assert sorted(arrays) == sorted(
            f"{a}_{s}" for a in ("embeddings", "g", "keys", "p", "y") for s in ("test", "train")
        )
        total = 0
        for split in ("train", "test"):
            for place, key in enumerate(arrays[f"keys_{split}"].tolist()):
                row = store.keys.tolist().index(key)
                np.testing.assert_array_equal(arrays[f"embeddings_{split}"][place], full.features[row])
                assert store.annotations["split"].texts()[row] == split
                y, p, g = (int(arrays[f"{name}_{split}"][place]) for name in "ypg")
                assert (y, p, g) == (row % 3, row % 2, row % 3 * 2 + row % 2)
                total += 1
        assert total == 23
    report = import_features(tmp_path / "dfr.npz", tmp_path / "again")
    assert set(report.columns) == {"split", "y", "p", "g"}
    again = open_store(tmp_path / "again")
    rows_before = store.rows_of(again.keys.tolist())
    np.testing.assert_array_equal(np.asarray(again.features), full.features[rows_before])
    assert again.annotations["split"].texts() == [
        store.annotations["split"].texts()[row] for row in rows_before
    ]
    assert again.annotations["y"].values.tolist() == (rows_before % 3).tolist()


def test_the_retraining_layout_without_keys(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        f"embeddings_{split}": generator.standard_normal((n, 5), np.float32)
        for split, n in (("train", 4), ("val", 3))
    }
    arrays |= {"y_train": np.arange(4), "y_val": np.arange(3), "p_train": np.ones(4, int)}
    np.savez(tmp_path / "dfr.npz", **arrays)
    import_features(tmp_path / "dfr.npz", tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.keys.tolist() == [*(f"train/{row}" for row in range(4)), *(f"val/{row}" for row in range(3))]
    assert store.annotations["split"].texts() == ["train"] * 4 + ["val"] * 3
    assert store.annotations["y"].values.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert store.annotations["p"].missing.tolist() == [False] * 4 + [True] * 3
    np.testing.assert_array_equal(store.features[4:], arrays["embeddings_val"])
    assert store.dtype == np.float32


def test_plain_arrays(tmp_path):
    features = np.random.default_rng(0).standard_normal((6, 3))
    features[2, 1] = np.nan
    np.save(tmp_path / "f.npy", features)
    report = import_features(tmp_path / "f.npy", tmp_path / "npy")
    assert (report.rows, report.failed) == (6, 1)
    store = open_store(tmp_path / "npy")
    assert store.keys.tolist() == list("012345")
    assert store.errors == [(2, "the imported features were not finite")]
    np.testing.assert_array_equal(store.features[3:], features[3:].astype(np.float32))
    assert verify(tmp_path / "npy").ok
    np.savez(
        tmp_path / "f.npz",
        X=features[:2],
        paths=np.array(["b", "a"]),
        labels=np.array([1, 0]),
        odd=np.zeros(7),
    )
    report = import_features(tmp_path / "f.npz", tmp_path / "npz", dtype="float16")
    assert (report.columns, report.left_out) == (("labels",), ("odd",))
    store = open_store(tmp_path / "npz")
    assert (store.keys.tolist(), store.dtype) == (["b", "a"], np.float16)
    assert store.annotations["labels"].values.tolist() == [1, 0]


def test_repeating_an_import_does_nothing_and_another_is_refused(tmp_path):
    for name, seed in (("a.npy", 0), ("b.npy", 1)):
        np.save(tmp_path / name, np.random.default_rng(seed).standard_normal((6, 3)))
    assert not import_features(tmp_path / "a.npy", tmp_path / "store").already_done
    assert import_features(tmp_path / "a.npy", tmp_path / "store").already_done
    with pytest.raises(RequestError, match=r"another recipe \(recipe.imported.sha256"):
        import_features(tmp_path / "b.npy", tmp_path / "store")


@pytest.mark.parametrize("kind", ["fixed", "list", "columns"])
def test_parquet_features_in_any_shape(tmp_path, kind):
    features = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    if kind == "columns":
        columns = {f"f{number}": features[:, number] for number in (*range(10, 12), *range(10))}
    else:
        flat = pa.array(features.reshape(-1))
        lists = (
            pa.FixedSizeListArray.from_arrays(flat, 12)
            if kind == "fixed"
            else pa.ListArray.from_arrays(pa.array(range(0, 61, 12), pa.int32()), flat)
        )
        columns = {"embedding": lists}
    table = pa.table(
        {**columns, "path": list("edcba"), "class": ["x", None, "y", "x", "x"], "age": [1, 2, 3, 4, 5]}
    )
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    import_features(tmp_path / "t.parquet", tmp_path / "store")
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(np.asarray(store.features), features)
    assert store.keys.tolist() == list("edcba")
    assert store.annotations["class"].texts() == ["x", None, "y", "x", "x"]
    assert store.annotations["age"].values.tolist() == [1, 2, 3, 4, 5]


def test_files_without_features_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 2)), b=np.zeros((3, 2)))
    np.savez(tmp_path / "pickled.npz", features=np.array([{}], dtype=object))
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "large.npy", np.full((2, 2), 1e6))
    (tmp_path / "torn.npz").write_bytes(b"PK torn")
    (tmp_path / "text.h5").write_text("x")
    parquet.write_table(pa.table({"path": ["a"], "n": [1]}), tmp_path / "none.parquet")
    parquet.write_table(pa.table({"features": [[1.0], [1.0, 2.0]]}), tmp_path / "uneven.parquet")
    for name, said in (
        ("two.npz", "no single array of features"),
        ("pickled.npz", "pickled"),
        ("flat.npy", "shape"),
        ("torn.npz", "cannot be read"),
        ("text.h5", "is neither"),
        ("none.parquet", "holds no features"),
        ("uneven.parquet", "2 different lengths"),
        ("missing.npz", "no file"),
    ):
        with pytest.raises(RequestError, match=said):
            import_features(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(
        RequestError, match=r"values up to 1e\+06, which float16 cannot hold; import as float32"
    ):
        import_features(tmp_path / "large.npy", tmp_path / "out", dtype="float16")
    with pytest.raises(RequestError, match="not as 'int8'"):
        import_features(tmp_path / "large.npy", tmp_path / "out8", dtype="int8")


def test_what_info_says(full):
    found = info(full.path, top=2)
    assert (found["rows"], found["failed_rows"], found["shards"], found["finished"]) == (25, 2, 3, True)
    assert found["failed"] == [
        {"key": full.keys[3], "error": "no image"},
        {"key": full.keys[24], "error": "empty file"},
    ]
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["class"]["values"] == [{"value": "class 0", "rows": 9}, {"value": "class 1", "rows": 8}]
    assert (columns["class"]["distinct"], columns["place"]["missing"]) == (3, 1)
    assert (columns["real"]["least"], columns["real"]["greatest"]) == (0, 11.5)
    assert found["recipe"] == {"weights": {"sha256": "00"}}
    assert found["runs"] == [{"images_per_second": 12.5}]
    (full.path / "shard-00002.h5").unlink()
    unfinished = info(full.path)
    assert (unfinished["finished"], unfinished["missing_shards"], unfinished["missing_rows"]) == (
        False,
        [2],
        5,
    )
    assert unfinished["failed_rows"] == 1


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("none.npy", np.zeros((0, 3)), r"none.npy' holds 0 rows of features; give a file that has some"),
        (
            "objects.npy",
            np.array([[1, None]], object),
            r"holds pickled Python objects, .*; save",
        ),
        ("table.csv", np.zeros((2, 2)), r"neither a .npz, .npy or .parquet file of features nor a packed"),
    ],
)
def test_a_file_without_features_is_refused_and_leaves_nothing(tmp_path, name, array, said):
    with (tmp_path / name).open("wb") as file:
        if name.endswith(".csv"):
            np.savetxt(file, array, delimiter=",")
        else:
            np.save(file, array, allow_pickle=True)
    with pytest.raises(RequestError, match=said):
        import_features(tmp_path / name, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_under_a_file_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((6, 3)))
    with pytest.raises(RequestError, match=r"a.npy' is a file, so .*store' cannot be in it; choose another"):
        import_features(tmp_path / "a.npy", tmp_path / "a.npy" / "store")
    store = import_features(tmp_path / "a.npy", tmp_path / "store").path
    for write, name in ((pack, "packed.h5"), (export, "f.npz")):
        with pytest.raises(RequestError, match=r"a.npy' is a file, so .* cannot be in it; choose another"):
            write(store, tmp_path / "a.npy" / name)
