"""A head merged into a network: torchvision loads it strictly, and its logits are the head's."""

from __future__ import annotations

import json
import os
import pickle
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models
from typer.testing import CliRunner

from headwater.checkpoints import load_state_dict, state_dict_digest
from headwater.cli.main import app
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads import export_head
from headwater.heads.checkpoint import HeadInfo, save_head
from headwater.heads.export import Exported
from headwater.heads.specs.head import Convergence, LinearHead

DONE = Convergence(True, 1, 0.0, 0.0)


def _network(name: str = "resnet18", classes: int = 1000, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = models.get_model(name, weights=None, num_classes=classes).eval()
    for module in network.modules():  # a batch norm of its own, so that a forgotten statistic shows
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def _digest(network: Any) -> str:
    """What extraction writes into a store's recipe: everything but the classifier and the counters."""
    state = {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    return state_dict_digest(state, leave_out=["fc."])


def _head_file(
    path: Path, recipe: dict[str, Any], dim: int = 512, classes: int = 3
) -> tuple[Path, LinearHead]:
    random = np.random.default_rng(0)
    head = LinearHead(
        random.normal(size=(classes, dim)).astype("f4"), random.normal(size=classes).astype("f4"), DONE
    )
    info = HeadInfo(
        classes=tuple(f"c{i}" for i in range(classes)),
        target="class",
        group_columns=(),
        group_names=(),
        train_counts=(),
        split="split",
        store_path="",
        store_fingerprint="f",
        store_recipe=recipe,
        method="ERM",
        settings={},
        seed=0,
    )
    save_head(path, head, info)
    return path, head


def _features(network: Any, images: torch.Tensor) -> np.ndarray:
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        return network(images).numpy()


@pytest.mark.parametrize(
    ("ending", "name"), [(".pth", "resnet18"), (".safetensors", "resnet18"), (".zip", "resnet50")]
)
def test_the_network_s_fc_is_the_head(ending: str, name: str, tmp_path: Path) -> None:
    network = _network(name, classes=13)  # the checkpoint's own fc is of another width
    dim = network.fc.in_features
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    recipe = {"backbone": name, "weights_sha256": _digest(network)}
    path, head = _head_file(tmp_path / "head.safetensors", recipe, dim=dim)
    out = tmp_path / f"merged{ending}"
    done = export_head(path, tmp_path / "resnet50.pth", out)
    assert (done.architecture, done.same_weights, done.replaced) == (name, True, 13)
    assert done.difference < 1e-5
    merged = out
    if ending == ".zip":
        with zipfile.ZipFile(out) as archive:
            assert archive.namelist() == ["resnet.pth"]
            assert archive.testzip() is None
            merged = Path(archive.extract("resnet.pth", tmp_path))
    state = torch.load(merged, weights_only=True) if merged.suffix == ".pth" else load_state_dict(merged)
    loaded = models.get_model(name, weights=None, num_classes=3).eval()
    loaded.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = loaded(images).numpy()
        cached = torch.randn(50, dim)
        np.testing.assert_allclose(
            loaded.fc(cached).numpy(), head.logits(cached.numpy()), rtol=1e-4, atol=1e-4
        )
    expected = head.logits(_features(network, images))
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def _case(tmp_path: Path, **recipe: Any) -> tuple[Path, Path, Any]:
    network = _network()
    torch.save({"epoch": 3, "model_state_dict": _prefixed(network.state_dict())}, tmp_path / "w.pth")
    recipe = {"backbone": "resnet18", "weights_sha256": _digest(network), **recipe}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    return _head_file(tmp_path / "head.safetensors", recipe)[0], tmp_path / "w.pth", network


def _prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def test_wrapped_weights_with_a_prefix_will_do(tmp_path: Path) -> None:
    head, weights, _ = _case(tmp_path)
    assert export_head(head, weights, tmp_path / "m.pth").same_weights is True


def test_the_answer_says_how_images_are_prepared(tmp_path: Path) -> None:
    recipe = {"resize": 256, "crop": [224, 192], "interpolation": "bicubic"}
    normal = {"mean": [0.4556, 0.4714, 0.37], "std": [0.5] * 3}
    head, weights, _ = _case(tmp_path, preprocessing=recipe | normal)
    words = ["heads", "export", str(head), "--weights", str(weights), "--out", str(tmp_path / "m.pth")]
    said = " ".join(CliRunner().invoke(app, words).stdout.split())
    assert said.endswith(
        "Prepare its images so: resize to shorter side 256 pixels (bicubic), crop the middle 224 x 192, "
        "scale RGB to 0 to 1, subtract mean (0.4556, 0.4714, 0.37), divide by std (0.5, 0.5, 0.5)"
    )
    found = json.loads(CliRunner().invoke(app, [*words, "--replace", "--json"]).stdout)
    assert found["preprocessing"] == recipe | normal
    assert "does not describe" in Exported(head, "", (), 0.0, None).described_preprocessing


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".zip"])
def test_a_refused_write_is_one_sentence(ending: str, tmp_path: Path) -> None:
    head, weights, _ = _case(tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(HeadwaterError, match="the file size limit was reached: could not write m"):
            export_head(head, weights, tmp_path / f"m{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list(tmp_path.glob("*m.*"))


def test_a_place_under_a_file_is_refused_before_the_merge(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="file' is a file, so"):
        export_head(tmp_path / "none", tmp_path / "none.pth", tmp_path / "file" / "m.pth")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    head, _, _ = _case(tmp_path)
    torch.save(_network(seed=1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(RequestError, match="holds other weights than those whose features the head"):
        export_head(head, tmp_path / "other.pth", tmp_path / "m.pth")
    assert not (tmp_path / "m.pth").exists()


def test_where_the_weights_are_unknown_it_warns(tmp_path: Path) -> None:
    head, weights, _ = _case(tmp_path, weights_sha256=None)
    with pytest.warns(HeadwaterWarning, match="does not say which weights"):
        assert export_head(head, weights, tmp_path / "m.pth").same_weights is None


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    head, weights, network = _case(tmp_path)
    state = network.state_dict()
    for change, sentence in (
        ({"layer1.0.conv1.weight": None}, "lacks 'layer1.0.conv1.weight'"),
        ({"layer9.weight": torch.zeros(1)}, "has the unknown 'layer9.weight'"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "has other shapes for 'conv1.weight'"),
    ):
        changed = {name: t for name, t in {**state, **change}.items() if t is not None}
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(RequestError, match=sentence):
            export_head(head, tmp_path / "changed.pth", tmp_path / "m.pth")
    with pytest.raises(RequestError, match=r"must end in \.pth"):
        export_head(head, weights, tmp_path / "m.onnx")
    small, _ = _head_file(tmp_path / "small.safetensors", {"backbone": "resnet18"}, dim=100)
    with pytest.raises(RequestError, match="takes 100 features and the fc of resnet18 takes 512"):
        export_head(small, weights, tmp_path / "m.pth")
    for backbone in ("pixels", "mobilenet_v3_small"):
        (tmp_path / "other.safetensors").unlink(missing_ok=True)
        other, _ = _head_file(tmp_path / "other.safetensors", {"backbone": backbone})
        with pytest.raises(RequestError, match=f"'{backbone}', and only torchvision networks"):
            export_head(other, weights, tmp_path / "m.pth")


def test_weights_whose_own_fc_contradicts_itself_are_refused(tmp_path: Path) -> None:
    head, _, network = _case(tmp_path)
    for shape, said in (((13, 512), "different numbers of classes"), ((9, 64), "does not take 512 features")):
        torch.save(
            {**network.state_dict(), "fc.weight": torch.zeros(shape), "fc.bias": torch.zeros(9)},
            tmp_path / "odd.pth",
        )
        with pytest.raises(RequestError, match=said):
            export_head(head, tmp_path / "odd.pth", tmp_path / "m.pth")


class _Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def test_a_malicious_pickle_is_not_opened(tmp_path: Path) -> None:
    head, _, _ = _case(tmp_path)
    witness = tmp_path / "witness"
    torch.save({"fc.weight": _Malicious(witness)}, tmp_path / "bad.pth")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(_Malicious(witness)))
    for name in ("bad.pth", "bad.pkl"):
        with pytest.raises(RequestError, match="holds more than tensors and was not opened"):
            export_head(head, tmp_path / name, tmp_path / "m.pth")
    assert not witness.exists()


def test_nothing_is_silently_replaced_and_nothing_wrong_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, weights, _ = _case(tmp_path)
    out = tmp_path / "m.pth"
    out.write_text("mine")
    with pytest.raises(RequestError, match="exists already"):
        export_head(head, weights, out)
    monkeypatch.setattr(
        "headwater.heads.export.LinearHead.logits", lambda _self, x: np.zeros((len(x), 3)) + 1
    )
    with pytest.raises(HeadwaterError, match="logits differ from the head's"):
        export_head(head, weights, out, replace=True)
    assert out.read_text() == "mine"
