"""The benchmarks, shrunk: they run, and what they write is what they measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import __main__ as command
from benchmarks.common import Claim, alternate, median


def test_names_are_listed_and_unknown_ones_refused(capsys):
    assert command.main([]) == 0
    assert "store" in [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert command.main(["nothing"]) == 2
    assert "no benchmark 'nothing'; there are: " in capsys.readouterr().err


def test_claims_and_medians():
    assert Claim.at_least("a", 2, 2) == Claim("a", 2.0, ">= 2", True)
    assert not Claim.at_least("a", 1.99, 2).holds
    assert Claim.at_most("a", 1.2, 1.2).holds
    assert not Claim.at_most("a", 1.21, 1.2).holds
    assert Claim.more_than("a", 0.01, 0) == Claim("a", 0.01, "> 0", True)
    assert not Claim.more_than("a", 0.0, 0).holds
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5


def test_sides_take_turns():
    order: list[str] = []
    times = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("store", 5),
        ("extract", 5),
        ("heads", 3),
        ("pacs", 7),
        ("grid", 2),
        ("dfr", 3),
        ("sweep", 6),
        ("inat", 17),
        ("hackathon42", 8),
    ],
)
def test_a_benchmark_runs(name, claims, tmp_path, capsys):
    pytest.importorskip("openvino")  # the peer of one claim, in the extra `bench`
    assert command.main([name, "--quick", "--json", str(tmp_path / "figures.json")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "figures.json").read_text())
    assert {"machine", "rows", "claims"} <= set(found)
    assert {"cpu", "cores", "amx", "avx512_bf16", "avx512_vnni", "memory_gib", "torch"} <= set(
        found["machine"]
    )
    assert len(found["claims"]) == claims
    for claim in found["claims"]:
        sign, target = claim["target"].split()
        assert claim["holds"] == (
            claim["value"] >= float(target) if sign == ">=" else claim["value"] <= float(target)
        )
        assert " ".join(claim["name"].split(":")[0].split()[:3]) in printed  # long names wrap
    if name == "store":
        written = {row["writer"]: row["seconds"] for row in found["rows"] if "writer" in row}
        ratio = next(claim["value"] for claim in found["claims"] if claim["name"].startswith("writing"))
        assert ratio == pytest.approx(written["np.save, one file a shard"] / written["store"])
