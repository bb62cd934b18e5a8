"""One loaded backbone ready for one device: batch size, eager pass, and the compiled one if it repays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from headwater.errors import RequestError
from headwater.extract.allocator import keep_freed_memory
from headwater.extract.channels import StageClock
from headwater.extract.compiling import COMPILED, Decision, Measured, Memory, compiled_forward, decide
from headwater.extract.forward import CpuForward, Forward, Normalised, prepare
from headwater.extract.weights import LoadedBackbone

CPU_BATCH = 16
CUDA_BATCH = 256


class Engine:
    """Makes the forward pass of `loaded`; its network is used up by the first pass that is made."""

    def __init__(
        self,
        loaded: LoadedBackbone,
        device: torch.device,
        precision: str,
        batch_size: int | None,
        compile: str,  # noqa: A002 - the command's word
    ) -> None:
        self.device, self.precision, self.compile = device, precision, compile
        self.batch = batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
        if device.type == "cpu":
            keep_freed_memory()
        self._loaded = loaded
        self.compile_seconds = 0.0
        self._shape = loaded.preprocessing.size
        self._memory = Memory(f"{loaded.backbone.name} {self._shape} {device.type}", precision, self.batch)

    @cached_property
    def module(self) -> Normalised:
        """The network with normalisation, folded and laid out for the device."""
        return prepare(self._loaded.network, self._loaded.preprocessing, self.precision, self.device)

    @cached_property
    def eager(self) -> Forward:
        """The pass that needs no compiler."""
        return self._wrap(self.module, "eager")

    def check_dim(self) -> None:
        """RequestError when the network's features are not of the width that the backbone says."""
        with torch.no_grad():
            image = torch.zeros((1, *self._shape, 3), dtype=torch.uint8, device=self.device)
            dim = self.module(image).shape[1]
        backbone = self._loaded.backbone
        if dim != backbone.dim:
            raise RequestError(
                f"the backbone {backbone.name!r} says dim={backbone.dim}, but its features have {dim} "
                f"numbers; say dim={dim} or correct its layer {backbone.layer!r}"
            )

    def decide(self, rows: int, began_with: str | None) -> Decision:
        """Whether to compile for a job of `rows` images; see `compiling.py` for the rule."""
        return decide(
            self.compile,
            module=self.module,
            forward=self.eager,
            shape=self._shape,
            rows=rows,
            memory=self._memory,
            began_with=began_with,
        )

    def forward(self, decision: Decision) -> tuple[Forward, str]:
        """The pass that was decided on, and a sentence about how it came about."""
        if decision.engine != COMPILED:
            return self.eager, decision.why
        forward, self.compile_seconds = compiled_forward(
            self._wrap, self.module, self.eager, self._shape, required=self.compile == "on"
        )
        if forward is self.eager:
            return forward, f"{decision.why}; compiling was not possible"
        return forward, f"{decision.why}; compiled in {self.compile_seconds:.0f} s"

    def learn(self, decision: Decision, backbone: StageClock) -> None:
        """Keep what a finished job met with for the next one's decision, when it measured both rates."""
        eager = decision.figures.get("eager")
        if eager and self.compile_seconds and backbone.rows:
            self._memory.remember(Measured(eager, backbone.rate, self.compile_seconds))

    def _wrap(self, module: Callable[[Tensor], Tensor], name: str) -> Forward:
        if self.device.type == "cuda":
            from headwater.extract.cuda import CudaForward  # noqa: PLC0415

            return CudaForward(module, self.batch, name, self.device)
        return CpuForward(module, self.batch, name)
