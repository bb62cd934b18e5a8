"""The device that either stage computes on, chosen by name; what is done there is the rooms' business."""

from __future__ import annotations

import torch

from headwater.errors import RequestError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a usable device, else the CPU; RequestError for one that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RequestError(f"{name!r} is no device that headwater runs on; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= (
        torch.cuda.device_count() if torch.cuda.is_available() else 0
    ):
        raise RequestError(f"there is no usable {name!r} on this machine; choose --device cpu or auto")
    return device
