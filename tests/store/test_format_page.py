"""The format page tells the truth: its example readers work, and its rules give the files' own hashes."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import h5py
import numpy as np
import pytest
import xxhash

from headwater.store import annotate, pack


@pytest.fixture(scope="module")
def examples():
    page = files("headwater.store").joinpath("FORMAT.md").read_text()
    snippets = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    assert len(snippets) == 2
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "FORMAT.md", "exec"), names)
    return names


def test_the_example_readers_read_a_store(make, examples):
    made = make(failed={3: "x"}, keys=[b"caf\xe9".decode("utf-8", "surrogateescape"), *"abcdefghijklmnop"])
    annotate(made.path, {"path": made.keys, "n": range(17), "class": ["é", None, *["b"] * 15]})
    keys, features, good, columns = examples["read"](str(made.path))
    assert keys == made.keys
    np.testing.assert_array_equal(features, made.features)
    np.testing.assert_array_equal(good, made.status == 0)
    assert columns["class"] == ["é", None, *["b"] * 15]
    np.testing.assert_array_equal(columns["n"], range(17))
    mapped = examples["map_features"](made.path / "shard-00001.h5")
    np.testing.assert_array_equal(mapped, made.features[10:])


def test_the_page_s_hashes_are_the_files_own(make):
    made = make()
    plan = json.loads((made.path / "plan.json").read_bytes())

    def canonical(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    identity = {name: plan[name] for name in ("dtype", "recipe", "views")}
    assert plan["fingerprint"] == hashlib.sha256(canonical(identity)).hexdigest() == made.plan.fingerprint
    assert plan["keys_sha256"] == hashlib.sha256((made.path / "plan.keys").read_bytes()).hexdigest()
    checksum = plan.pop("checksum")
    assert checksum == f"xxh3_128:{xxhash.xxh3_128_hexdigest(canonical(plan))}"


def test_the_page_s_seal_is_the_files_own(make):
    made = make(views=1)
    for file in (*made.path.glob("*.h5"), pack(made.path, made.path.with_suffix(".h5"))):
        content = file.read_bytes()
        text = content[:4096].rstrip(b"\0")
        lines = text.decode("ascii").splitlines()
        kind = file.name.split("-")[0].split(".")[0].replace("made", "packed")
        assert lines[0] == f"headwater {kind} 1"
        assert lines[1] == f"xxh3_128 {xxhash.xxh3_128_hexdigest(content[4096:])}"
        assert lines[2] == f"bytes {len(content) - 4096}"
        assert lines[-1] == f"seal {xxhash.xxh3_64_hexdigest(text[: text.rindex(b'seal ')])}"
        with h5py.File(file, "r") as opened:
            assert opened.userblock_size == 4096
            for line in lines[3:-1]:
                word, name, offset, dtype, *shape = line.split(" ")
                assert word == "dataset"
                assert opened[name].id.get_offset() == int(offset)
                assert opened[name].dtype == np.dtype(dtype)
                assert opened[name].shape == tuple(map(int, shape))
