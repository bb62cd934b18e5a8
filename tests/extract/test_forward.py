"""The forward pass agrees with plain torch, and compiling is chosen exactly when measured figures say so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms import functional as peer

from headwater.devices import choose_device
from headwater.errors import HeadwaterError
from headwater.extract import Backbone, Preprocessing, compiling
from headwater.extract.compiling import COMPILED, EAGER, Decision, Measured, Memory, decide, repays
from headwater.extract.device import choose_precision
from headwater.extract.engine import Engine
from headwater.extract.forward import CpuForward, fold_batch_norms, prepare
from headwater.extract.weights import load_backbone

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(resize=64, crop=64)


def by_hand(network: nn.Module, crops: np.ndarray) -> np.ndarray:
    """Float32, contiguous, not folded, torchvision's own normalisation."""
    images = torch.stack([peer.to_tensor(crop) for crop in crops])
    with torch.no_grad():
        features: np.ndarray = network(peer.normalize(images, PREPROCESSING.mean, PREPROCESSING.std)).numpy()
    return features


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


def network() -> nn.Module:
    """ResNet18 with batch norms that do something, and no classifier."""
    torch.manual_seed(1)
    made = resnet18(weights=None)
    made.fc = nn.Identity()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", None)])
def test_features_agree_with_plain_torch(crops: np.ndarray, precision: str, tolerance: float | None) -> None:
    wanted = by_hand(network(), crops)
    forward = CpuForward(prepare(network(), PREPROCESSING, precision, CPU), 4, EAGER)
    features = forward.start(crops)()
    assert features.dtype == np.float32
    assert features.shape == (4, 512)
    assert cosines(features, wanted).min() >= 0.999
    if tolerance is not None:
        np.testing.assert_allclose(features, wanted, rtol=tolerance, atol=tolerance)


def test_folding_leaves_no_batch_norm_and_no_difference() -> None:
    folded = fold_batch_norms(network())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(folded(images), network()(images), rtol=1e-4, atol=1e-4)


def test_a_network_that_cannot_be_traced_runs_as_it_is() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(images).mean((2, 3)) if images.sum() > -1e9 else images

    module = Branching()
    assert fold_batch_norms(module) is module


def test_a_rows_features_do_not_depend_on_its_neighbours(crops: np.ndarray) -> None:
    forward = CpuForward(prepare(network(), PREPROCESSING, "float32", CPU), 4, EAGER)
    together = forward.start(crops)()
    for row in range(4):
        alone = np.zeros_like(crops)
        alone[row] = crops[row]
        np.testing.assert_array_equal(forward.start(alone)()[row], together[row])


def small() -> nn.Module:
    layers = [
        nn.Conv2d(3, 16, 3, 2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    ]
    return nn.Sequential(*layers)


SMALL = Backbone("small", small, PREPROCESSING, dim=16, layer="5")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiled_pass_agrees_and_is_remembered(
    crops: np.ndarray, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = load_backbone(SMALL, "random")
    wanted = by_hand(load_backbone(SMALL, "random").network, crops)
    engine = Engine(loaded, CPU, "float32", 4, "on")
    decision = Decision(COMPILED, "a test", {"eager": 10.0})
    forward, said = engine.forward(decision)
    assert forward.engine == COMPILED
    assert "compiled in" in said
    np.testing.assert_allclose(forward.start(crops)(), wanted, rtol=1e-3, atol=1e-4)

    from headwater.extract.channels import StageClock

    clock = StageClock("backbone")
    clock.add(2.0, 50)
    engine.learn(decision, clock)
    known = Engine(loaded, CPU, "float32", 4, "auto")._memory.recall()
    assert known is not None
    assert (known.eager, known.compiled) == (10.0, 25.0)
    assert known.compile_seconds == engine.compile_seconds > 0


class Clockwork:
    """A forward pass that claims a rate: no time passes but what the test says."""

    ahead, engine = 0, EAGER

    def __init__(self, batch: int) -> None:
        self.batch = batch


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def say(*, eager: float, probe: tuple[float, float, float] | None = None, compiler: bool = True) -> None:
        def probed(*_: Any) -> tuple[float, float, float]:
            assert probe is not None, "a probe was made that must not be"
            return probe

        monkeypatch.setattr(compiling, "measured_rate", lambda *_, **__: eager)
        monkeypatch.setattr(compiling, "probe_compiler", probed)
        monkeypatch.setattr(compiling, "has_compiler", lambda: compiler)

    return say


def choose(
    tmp_path: Path, rows: int, *, mode: str = "auto", began_with: str | None = None, known: Any = None
) -> Decision:
    memory = Memory("net", "float32", 16, tmp_path / "compile.json")
    if known is not None:
        memory.remember(known)
    module = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(50)])
    return decide(
        mode,
        module=module,
        forward=Clockwork(16),  # type: ignore[arg-type]
        shape=(8, 8),
        rows=rows,
        memory=memory,
        began_with=began_with,
    )


def test_the_break_even_point() -> None:
    # 10/s against 20/s after 30 s: equal at 600 rows (60 s against 30 + 30).
    assert not repays(599, 10, 20, 30)
    assert not repays(600, 10, 20, 30)
    assert repays(601, 10, 20, 30)
    assert not repays(10**9, 10, 10, 30)


@pytest.mark.parametrize(("rows", "engine"), [(599, EAGER), (601, COMPILED)])
def test_what_earlier_jobs_met_with_decides(
    tmp_path: Path, measured: Callable[..., None], rows: int, engine: str
) -> None:
    measured(eager=10.0)
    decision = choose(tmp_path, rows, known=Measured(10.0, 20.0, 30.0))
    assert decision.engine == engine
    assert "earlier jobs" in decision.why


def test_a_machine_half_as_free_as_then_keeps_the_ratio(
    tmp_path: Path, measured: Callable[..., None]
) -> None:
    measured(eager=5.0)
    assert choose(tmp_path, 310, known=Measured(10.0, 20.0, 30.0)).engine == COMPILED  # 62 s against 30 + 31


@pytest.mark.parametrize(("rows", "engine"), [(640, EAGER), (680, COMPILED)])
def test_a_probe_stands_in_where_nothing_is_known(
    tmp_path: Path, measured: Callable[..., None], rows: int, engine: str
) -> None:
    measured(eager=10.0, probe=(0.5, 8.0, 2.0))  # 50 operators: 33 s, twice the rate: equal at 660 rows
    decision = choose(tmp_path, rows)
    assert decision.engine == engine
    assert decision.figures["compile_seconds"] == pytest.approx(33.0)
    assert decision.figures["compiled"] == pytest.approx(20.0)


def test_short_jobs_are_neither_measured_nor_probed(tmp_path: Path, measured: Callable[..., None]) -> None:
    measured(eager=float("nan"))
    assert choose(tmp_path, 96).engine == EAGER
    measured(eager=10.0)  # 19 s: a probe would take as long
    assert choose(tmp_path, 190).engine == EAGER


def test_no_compiler_means_eager_by_itself_and_an_error_when_asked_for(
    tmp_path: Path, measured: Callable[..., None]
) -> None:
    measured(eager=10.0, compiler=False)
    assert choose(tmp_path, 10**6).engine == EAGER
    loaded = load_backbone(SMALL, "random")
    engine = Engine(loaded, CPU, "float32", 4, "on")
    with pytest.raises(HeadwaterError, match=r"C\+\+ compiler.*--compile off"):
        engine.forward(engine.decide(1000, None))


def test_a_store_keeps_the_engine_it_began_with_unless_told_otherwise(
    tmp_path: Path, measured: Callable[..., None]
) -> None:
    measured(eager=10.0)
    assert choose(tmp_path, 10, began_with=COMPILED).engine == COMPILED
    assert choose(tmp_path, 10**6, began_with=EAGER).engine == EAGER
    assert choose(tmp_path, 10**6, began_with=EAGER, mode="on").engine == COMPILED
    assert choose(tmp_path, 10**6, began_with=COMPILED, mode="off").engine == EAGER


def test_a_damaged_or_old_memory_is_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "deep/compile.json"
    memory = Memory("net", "float32", 16, file)
    assert memory.recall() is None
    memory.remember(Measured(1.0, 2.0, 3.0))
    assert memory.recall() == Measured(1.0, 2.0, 3.0)
    assert Memory("other", "float32", 16, file).recall() is None
    entries = json.loads(file.read_text())
    entries[memory.key]["when"] -= 40 * 24 * 3600
    file.write_text(json.dumps(entries))
    assert memory.recall() is None
    for text in ("", "[]", "{", json.dumps({memory.key: {"eager": 1}}), json.dumps({memory.key: 3})):
        file.write_text(text)
        assert memory.recall() is None
    Memory("net", "float32", 16, Path("/proc/none/compile.json")).remember(Measured(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("avx2 avx512f avx512_vnni", "float32"),
        ("avx512f amx_bf16 amx_tile", "bfloat16"),
        ("avx512_bf16", "bfloat16"),
    ],
)
def test_bfloat16_is_for_processors_that_have_it(flags: str, precision: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("headwater.extract.device.cpu_flags", lambda: frozenset(flags.split()))
    assert choose_precision("auto", CPU) == precision
    assert choose_precision("float32", CPU) == "float32"
    assert choose_device("cpu") == CPU
