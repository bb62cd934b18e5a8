"""Network checkpoints: every usual wrapping gives the same tensors, and what could run code stays shut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headwater.checkpoints import load_state_dict, state_dict_digest
from headwater.errors import HeadwaterError, RequestError

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([1.0, 2.0])}


def _with(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        _with("module."),
        _with("_orig_mod.module."),
        {"model_state_dict": _with("module."), "epoch": 3, "optimizer": {"lr": 0.1}},
        {"state_dict": _with("model.")},
        {"model": STATE, "args": ["a"]},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_usual_wrappings_give_the_tensors(content: object, zipped: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = load_state_dict(tmp_path / "w.pth")
    assert set(found) == set(STATE)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, STATE[name], rtol=0, atol=0)


def test_safetensors_and_a_shared_part_of_a_prefix(tmp_path: Path) -> None:
    mixed = {"module.a": torch.ones(2), "b": torch.zeros(1)}
    save_file(mixed, tmp_path / "w.safetensors")
    assert set(load_state_dict(tmp_path / "w.safetensors")) == set(mixed)  # not all names carry it


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"whatever")

    def refused(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refused)
    with pytest.raises(HeadwaterError, match=rf"{name}' may not be read; change its permissions"):
        load_state_dict(tmp_path / name)


def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save(STATE, tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_bytes(b"hello world this is no checkpoint")
    (tmp_path / "text.safetensors").write_bytes(b"hello world this is no checkpoint")
    for name, sentence in (
        ("whole.pth", "holds more than tensors and was not opened"),
        ("none.pth", "holds no state dict"),
        ("cut.pth", "damaged or no checkpoint"),
        ("empty.pth", "damaged or no checkpoint"),
        ("text.pth", "damaged or no checkpoint"),
        ("text.safetensors", "damaged or no checkpoint"),
        ("absent.pth", "no checkpoint at"),
    ):
        with pytest.raises(RequestError, match=sentence) as error:
            load_state_dict(tmp_path / name)
        assert "\n" not in str(error.value)


def test_the_digest_is_of_the_tensors_not_of_the_file(tmp_path: Path) -> None:
    torch.save(_with("module."), tmp_path / "a.pth")
    save_file(STATE, tmp_path / "b.safetensors")
    one, other = load_state_dict(tmp_path / "a.pth"), load_state_dict(tmp_path / "b.safetensors")
    assert state_dict_digest(one) == state_dict_digest(other)
    changed = {**STATE, "fc.bias": torch.tensor([1.0, 3.0])}
    assert state_dict_digest(changed) != state_dict_digest(STATE)
    assert state_dict_digest(changed, leave_out=["fc."]) == state_dict_digest(STATE, leave_out=["fc."])
    renamed = {"conv.weight": STATE["conv.weight"], "fc.b": STATE["fc.bias"]}
    assert state_dict_digest(renamed) != state_dict_digest(STATE)
    reshaped = {**STATE, "conv.weight": STATE["conv.weight"].reshape(3, 2)}
    assert state_dict_digest(reshaped) != state_dict_digest(STATE)
