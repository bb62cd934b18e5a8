"""Network checkpoints read safely: `.pth`/`.pt` with nothing but tensors in it, and `.safetensors`.

Both stages read weights through this file. What a network does with them is not this file's business.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import RequestError
from headwater.store.files import explained_reading

if TYPE_CHECKING:
    import os

    from torch import Tensor

_WRAPPERS = ("model_state_dict", "state_dict", "model", "net", "network")
# Left behind by DataParallel, torch.compile and Lightning; only removed where every name carries it.
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    Takes a plain state dict, one wrapped as `{"model_state_dict" | "state_dict" | "model": …}` beside other
    entries, names with a `module.` prefix, and `.safetensors`. Raises RequestError when the file is missing,
    damaged, holds no state dict, or asks to run code while it is read (`weights_only=True` always).
    """
    path = Path(path)
    with explained_reading(path):
        if not path.is_file():
            raise RequestError(
                f"no checkpoint at {str(path)!r}; give the path of a .pth or .safetensors file"
            )
        # The libraries that read it say of a file they may not open that it is damaged.
        path.open("rb").close()
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _find_state_dict(content)
    if state is None:
        raise RequestError(
            f"{str(path)!r} holds no state dict (found {_describe(content)}); "
            "save the network with torch.save(model.state_dict(), path)"
        )
    return _without_prefixes(state)


def check_last_layer(
    state: Mapping[str, Tensor], layer: str, said: str, *, width: int | None = None, way_out: str = ""
) -> None:
    """RequestError where a checkpoint's last layer, if it has one, cannot be that of any network.

    Args:
        state: the tensors by name.
        layer: the dotted name of the last layer, such as `fc`.
        said: what to call the checkpoint.
        width: how many features the layer takes, where that is known.
        way_out: what to do about it; else to save the network again or leave the layer out.
    """
    weight, bias = (state.get(f"{layer}.{name}") for name in ("weight", "bias"))
    problem = ""
    if weight is not None and (weight.ndim < 2 or width not in (None, weight.shape[1])):
        takes = "features" if width is None else f"{width} features"
        problem = f"{layer}.weight of shape {tuple(weight.shape)}, which does not take {takes}"
    elif weight is not None and bias is not None and bias.shape != weight.shape[:1]:
        problem = (
            f"{layer}.weight of shape {tuple(weight.shape)} and {layer}.bias of shape "
            f"{tuple(bias.shape)}, which are for different numbers of classes"
        )
    elif bias is not None and bias.ndim != 1:
        problem = f"{layer}.bias of shape {tuple(bias.shape)}, which is no number for each class"
    if problem:
        way_out = way_out or (
            f"save the network again, or leave {layer} out of the file where no training starts at it"
        )
        raise RequestError(f"the weights {said!r} hold {problem}; {way_out}")


def state_dict_digest(state: Mapping[str, Tensor], *, leave_out: Iterable[str] = ()) -> str:
    """sha256 over names, types, shapes and bytes of all tensors, whatever file they came from.

    `leave_out`: name prefixes that do not count, such as `("fc.",)` for the layer that a head replaces.
    """
    import torch  # noqa: PLC0415

    prefixes = tuple(leave_out)
    digest = hashlib.sha256()
    for name in sorted(state):
        if prefixes and name.startswith(prefixes):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error


def _read_torch(path: Path) -> Any:
    import torch  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            # What torch guesses about a damaged file is said below in one sentence.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) or "Unsupported" in str(error):
            raise RequestError(
                f"{str(path)!r} holds more than tensors and was not opened, since reading it could run code; "
                "save the network with torch.save(model.state_dict(), path)"
            ) from error
        raise _damaged(path) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise _damaged(path) from error


def _find_state_dict(content: Any) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping):
        return None
    if _is_state_dict(content):
        return dict(content)
    for name in _WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and _is_state_dict(inner):
            return dict(inner)
    return None


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    import torch  # noqa: PLC0415

    return bool(content) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = True
    while found:
        found = False
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
                found = True
    return state


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        names = ", ".join(repr(name) for name in list(content)[:4])
        return f"a mapping of {names or 'nothing'}"
    return f"a {type(content).__name__}"


def _damaged(path: Path) -> RequestError:
    return RequestError(
        f"{str(path)!r} is damaged or no checkpoint; give a state dict saved by torch.save or safetensors"
    )
