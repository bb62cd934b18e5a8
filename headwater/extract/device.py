"""Which device and which arithmetic a job runs on, and what the machine is called in its record."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

from headwater._version import __version__
from headwater.errors import RequestError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# bfloat16 without one of these is emulated, slower than float32 and less exact.
_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the device computes in it, else float32; any device can be told either.

    RequestError for any other name.
    """
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bfloat16()
        return "bfloat16" if fast else "float32"
    if name not in PRECISIONS:
        raise RequestError(f"{name!r} is no precision to compute in; choose auto, float32 or bfloat16")
    return name


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in its own instructions (AMX or AVX-512 BF16)."""
    return any(flag in cpu_flags() for flag in _BFLOAT16_FLAGS)


@cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux reports for the first processor; empty elsewhere."""
    return frozenset(_cpu_field("flags").split())


def instruction_sets() -> str:
    """The matrix instruction sets of this CPU, for people: such as `avx2 avx512f avx512_vnni`."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return " ".join(flag for flag in known if flag in cpu_flags()) or platform.machine()


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_record(device: torch.device) -> dict[str, Any]:
    """Machine and versions as plain JSON, for the run record."""
    import torchvision  # noqa: PLC0415

    record = {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "instruction_sets": instruction_sets(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "versions": {
            "headwater": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
    if device.type == "cuda":
        record["gpu"] = torch.cuda.get_device_name(device)
    return record


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
