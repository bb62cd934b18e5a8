"""`headwater store …` as a person runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from headwater.cli.main import main
from headwater.store import annotate, import_features, open_store

ROWS = 30


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def headwater(monkeypatch, capfd):
    """Run the command in this process: as its own it would spend most of its time on starting."""

    def run(*arguments: object, columns: int = 100) -> Done:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["headwater", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((ROWS, 4)).astype(np.float32)
    features[7] = np.nan
    keys = np.array([f"images/{row}\n.jpg" for row in range(ROWS)])
    np.savez(tmp_path / "f.npz", features=features, keys=keys, label=np.arange(ROWS) % 2)
    import_features(tmp_path / "f.npz", tmp_path / "birds.store")
    return tmp_path / "birds.store"


def test_from_import_to_export(headwater, store, tmp_path):
    done = headwater("store", "import", tmp_path / "f.npz", "--out", tmp_path / "again")
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported: 30 rows, 1 failed, columns label" in done.stdout
    done = headwater("store", "import", tmp_path / "f.npz", "--out", tmp_path / "again", "--json")
    assert json.loads(done.stdout)["already_done"] is True

    done = headwater("store", "split", store, "train=0.5", "test=0.5", "--stratify", "label", "--json")
    parts = json.loads(done.stdout)["parts"]
    assert [part["part"] for part in parts] == ["train", "test"]
    assert sum(part["rows"] for part in parts) == ROWS - 1

    lines = [f'"images/{row}\n.jpg",{row % 3}x\n' for row in range(ROWS)]
    (tmp_path / "place.csv").write_text("path,place\n" + "".join(lines))
    done = headwater("store", "annotate", store, tmp_path / "place.csv")
    assert done.stdout == f"added place to {store}\n"

    done = headwater("store", "info", store, "--json")
    found = json.loads(done.stdout)
    assert [column["name"] for column in found["columns"]] == ["label", "split", "place"]

    done = headwater("store", "pack", store, "--out", tmp_path / "birds.h5")
    assert done.returncode == 0
    layout = ("--format", "dfr", "--target", "label", "--groups", "place,split")
    done = headwater("store", "export", tmp_path / "birds.h5", "--out", tmp_path / "dfr.npz", *layout)
    assert f"exported 29 rows of {tmp_path / 'birds.h5'}" in done.stdout
    assert set(np.load(tmp_path / "dfr.npz")["p_train"].tolist()) <= set(range(6))

    done = headwater("store", "annotate", store, "--drop", "place,label")
    assert done.stdout == f"dropped place, label from {store}\n"


@pytest.mark.parametrize("columns", [60, 160])
def test_info_reads_well_at_any_width(headwater, store, columns):
    done = headwater("store", "info", store, columns=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= columns for line in done.stdout.splitlines())
    for said in ("failed rows", "label", "fingerprint", r"images/7\n.jpg", "not finite"):
        assert said in done.stdout


def test_verify_lists_what_is_wrong_and_the_way_out(headwater, store):
    done = headwater("store", "verify", store)
    assert (done.returncode, done.stdout) == (
        0,
        f"{store}: 5 files, 30 rows, 1 of them failed: nothing is wrong\n",
    )
    shard = store / "shard-00000.h5"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 4
    shard.write_bytes(content)
    done = headwater("store", "verify", store)
    assert done.returncode == 1
    assert done.stdout.startswith(
        "wrong: shard-00000.h5 is damaged: its bytes have changed since they were written"
    )
    assert "; delete shard-00000.h5 and run the same" in done.stdout
    assert done.stdout.endswith(": 1 thing is wrong\n")
    done = headwater("store", "verify", store, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["what"].startswith("shard-00000.h5 is damaged")


def test_a_torn_index_is_rebuilt(headwater, store):
    (store / "index.h5").write_bytes(b"torn")
    assert headwater("store", "verify", store).returncode == 1
    assert headwater("store", "verify", store, "--rebuild-index").returncode == 0
    assert headwater("store", "verify", store).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["info", "nowhere"], 2, "there is no store at nowhere"),
        (["annotate", "STORE"], 2, "nothing to do"),
        (["annotate", "STORE", "missing.csv"], 2, "there is no table at missing.csv"),
        (["info", "no\nwhere"], 2, "there is no store at no\\nwhere"),
        (["split", "STORE", "train"], 2, "'train' is no part of a split"),
        (["split", "STORE", "train=.5", "train=.5"], 2, "the part 'train' is given twice; give every part"),
        (["export", "STORE", "--out", "x.txt"], 2, "no format '.txt'"),
        (["export", "STORE", "--out", "x.npz", "--format", "dfr"], 2, "needs a target column"),
        (["import", "missing.npz", "--out", "x"], 2, "no file at missing.npz"),
    ],
)
def test_wrong_requests_are_one_sentence_and_exit_2(headwater, store, arguments, code, said):
    done = headwater("store", *(store if argument == "STORE" else argument for argument in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_unfinished_work_exits_1_in_a_process_of_its_own(store):
    (store / "shard-00000.h5").unlink()
    arguments = [
        sys.executable,
        "-m",
        "headwater",
        "store",
        "export",
        str(store),
        "--out",
        str(store / "x.npz"),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "run the same extract command again to finish" in done.stderr
    assert done.stderr.count("\n") == 1


def test_levels_are_said_and_shown_as_a_tree(headwater, store, tmp_path):
    keys = open_store(store).keys.tolist()
    kinds = ["bird", "fish", None]
    table = {"path": keys, "kind": [kinds[n % 3] for n in range(ROWS)]}
    table["sort"] = [None if n % 3 == 2 else f"{kinds[n % 3]} {n % 5}" for n in range(ROWS)]
    annotate(store, table)
    done = headwater("store", "info", store, "--depth", "kind")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no levels of a taxonomy; name the columns that are, from the root, with" in done.stderr
    done = headwater("store", "annotate", store, "--levels", "kind,sort")
    assert done.stdout == f"levels of {store}, from the root: 2 kind, 10 sort\n"
    # Row 7 failed; it would be a fish.
    counts = {"bird": 10, "fish": 9, "fish 2": 1}
    for width in (80, 32):
        done = headwater("store", "info", store, "--depth", "1", columns=width)
        lines = [line.split() for line in done.stdout[done.stdout.index("taxonomy") :].splitlines()]
        assert lines[1:4] == [["images", "sort"], ["bird", "10", "5"], ["fish", "9", "5"]]
        assert max(map(len, done.stdout.splitlines())) <= width
        assert "10 images without a place in the taxonomy" in " ".join(done.stdout.split())
        assert "fingerprint" not in done.stdout
        assert len(done.stdout.splitlines()) < 12
    found = json.loads(headwater("store", "info", store, "--depth", "sort", "--json").stdout)
    assert found["levels"] == ["kind", "sort"]
    tree = found["taxonomy"]
    assert (tree["levels"][1], tree["images_without"]) == ({"name": "sort", "nodes": 10}, 10)
    seen = {node["name"]: node["images"] for kind in tree["nodes"] for node in (kind, *kind["children"])}
    assert {name: seen[name] for name in counts} == counts
    assert (len(seen), sum(node["images"] for node in tree["nodes"])) == (12, 19)
    for given, says in (
        ("genus", "no level 'genus'; its levels are kind, sort"),
        ("3", "level 3 is out of range"),
    ):
        done = headwater("store", "info", store, "--depth", given)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
    (tmp_path / "kinds.csv").write_text("kind,realm\nBird,air\nant,earth\n")
    for option in ("--replace", "--allow-missing"):
        done = headwater("store", "annotate", store, tmp_path / "kinds.csv", "--by", "kind", option)
        assert done.returncode == 2
        assert "no value in column 'kind'" in done.stderr
        assert "the column has 'bird' and 1 more, the table has 'Bird' and 1 more" in done.stderr
        assert "differ only by letter case" in done.stderr
    (tmp_path / "kinds.csv").write_text("kind,realm\nbird,air\nfish,water\nant,earth\n")
    done = headwater(
        "store", "annotate", store, tmp_path / "kinds.csv", "--by", "kind", "--levels", "realm,kind,sort"
    )
    assert done.stdout.splitlines() == [
        f"added realm to {store}",
        f"levels of {store}, from the root: 2 realm, 2 kind, 10 sort",
    ]
    annotate(store, {"path": keys, "form": [f"{n % 2}" for n in range(ROWS)]})
    done = headwater("store", "annotate", store, "--levels", "realm,form")
    assert done.stdout.splitlines() == [
        f"levels of {store}, from the root: 2 realm, 6 form",
        "2 names stand in several places, which are nodes of their own, such as the form '0' under no "
        "parent, air and 1 more",
        "no longer levels, as they were before: kind, sort",
    ]
    headwater("store", "annotate", store, "--levels", "realm,kind,sort")
    done = headwater("store", "annotate", store, "--levels", "kind,sort,kin")
    assert (done.returncode, "no column 'kin' for a level" in done.stderr) == (2, True)
    assert open_store(store).annotations.levels == ("realm", "kind", "sort")
    annotate(store, {"path": keys, "root": ["all"] * ROWS, "epithet": ["x"] * ROWS})
    done = headwater("store", "annotate", store, "--levels", "root,kind,epithet")
    assert "1 name stands in several places" in done.stdout


def test_an_annotation_is_made_whole_or_not_at_all(headwater, store, tmp_path):
    species = tmp_path / "species.csv"
    annotate(store, {"path": open_store(store).keys.tolist(), "species": ["ab"[n % 2] for n in range(ROWS)]})
    species.write_text("species,family,genus,form\na,F,A,a x\nb,F,B,a x\n")
    before = (store / "annotations.h5").read_bytes()
    for wrong, says in (
        (("--levels", "family,genuss,species"), "no column 'genuss' for a level"),
        (("--levels", "family,genus,form"), "stands under two parents, 'F_A' and 'F_B'; correct one"),
        (("--levels", "genus,species,genus"), "a level is named twice"),
        (("--drop", "species,nothing"), "no column 'nothing' to drop"),
        (("--drop", "species"), "no column 'species'"),
        (("--drop", "label", "--levels", "label,species"), "no column 'label' for a level"),
    ):
        done = headwater("store", "annotate", store, species, "--by", "species", *wrong)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert says in done.stderr
        assert (store / "annotations.h5").read_bytes() == before
    right = ("--levels", "family,genus,species", "--drop", "label")
    done = headwater("store", "annotate", store, species, "--by", "species", *right)
    assert done.stdout.splitlines() == [
        f"dropped label from {store}",
        f"added family, genus, form to {store}",
        f"levels of {store}, from the root: 1 family, 2 genus, 2 species",
    ]
    found = open_store(store).annotations
    assert (found.levels, "label" in found) == (("family", "genus", "species"), False)
    assert found["genus"].texts()[:3] == ["A", "B", "A"]


def test_a_table_of_edges_makes_levels(headwater, store, tmp_path):
    kinds = ["cat", "oak", "7", None]
    annotate(store, {"path": open_store(store).keys.tolist(), "kind": [kinds[n % 4] for n in range(ROWS)]})
    edges = tmp_path / "edges.csv"
    edges.write_text("parent,child,source\nmammal,cat,a\nanimal,mammal,b\nplant,oak,b\n1,7,c\nanimal,ant,\n")

    def run(*options):
        return headwater("store", "annotate", store, edges, "--edges", *options)

    for options, says in (
        (("--by", "kind", "--levels", "a,b"), "make 3 levels down to the values of 'kind', and 2 are named"),
        (("--by", "kind", "--levels", "a,b,kind"), "the values of 'kind' lie at several levels"),
        (("--by", "class"), "the store has no column 'class'"),
        ((), "--edges wants a table with the columns child and parent"),
    ):
        done = run(*options)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
    done = run("--by", "kind")
    assert done.stdout.splitlines() == [
        f"added level 1, level 2, level 3 to {store}",
        f"levels of {store}, from the root: 3 level 1, 3 level 2, 1 level 3",
    ]
    opened = open_store(store).annotations
    lines = {"cat": ("animal", "mammal", "cat"), "oak": ("plant", "oak", None), "7": ("1", "7", None)}
    lines[None] = (None, None, None)
    for number, level in enumerate(opened.levels):
        assert opened[level].texts() == [lines[kinds[n % 4]][number] for n in range(ROWS)]
    # Where all end at one level, the column is that level itself.
    edges.write_text("child,parent\ncat,animal\noak,plant\n7,plant\n")
    done = run("--by", "kind", "--levels", "realm,kind")
    assert done.stdout.splitlines()[0] == f"added realm to {store}"
    assert open_store(store).annotations.levels == ("realm", "kind")
    for text, says in (
        ("child,parent\ncat,animal\n", "leaves out 2 of the values in column 'kind'"),
        ("child,parent\ncat,a\ncat,b\n", "'cat' has two parents, 'a' and 'b'"),
        ("child,parent\nx,y\n", "has no value of column 'kind'; name another by --by"),
        ("child,above\ncat,a\n", "has no column 'parent'; a table of edges has child and parent"),
    ):
        edges.write_text(text)
        done = run("--by", "kind")
        assert (done.returncode, says in done.stderr, done.stderr.count("\n")) == (2, True, 1)
    edges.write_text("child,parent\ncat,animal\n")
    done = run("--by", "kind", "--allow-missing", "--replace", "--levels", "realm,kind name")
    assert done.returncode == 0
    assert open_store(store).annotations["realm"].texts()[:4] == ["animal", None, None, None]
