"""Whether and how to compile the forward pass: decided by what was measured on this machine.

The rule, for `auto`: compiling is worth it when

    rows / eager rate  >  compile seconds + rows / compiled rate

The eager rate is measured on batches of the job's own shape. Compile seconds and compiled rate are what the
last compiled job met with the same network, batch, precision, torch and CPU: a small file in the user's cache
folder keeps them. Where nothing is remembered, two small convolution blocks are compiled and timed; seconds
for each operator and the gain of that probe, scaled to the operators there are, stand in for real figures.
Jobs that would be over before the eager rate is known are not measured at all, and those that would be over
before the probe is are not probed.

A store keeps to the engine it began with (a note in its plan), so that resuming changes no bit; saying `on`
or `off` overrides that.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from headwater.errors import HeadwaterError, RequestError
from headwater.extract.device import instruction_sets
from headwater.extract.forward import Forward, measured_rate
from headwater.extract.quiet import quiet

log = logging.getLogger(__name__)

MODES = ("auto", "on", "off")
EAGER, COMPILED = "eager", "inductor"
# Measuring costs about this many batches; a job of fewer is run, not measured.
_WORTH_MEASURING = 6
# Where nothing is remembered, finding out takes about this long; a shorter job is not worth it.
_PROBE_SECONDS = 20.0
# What torch raises when g++ is broken, a cache folder is another user's, or the network is beyond inductor.
_COMPILER_ERRORS = (TorchDynamoException, RuntimeError, OSError)
# Warns, when inductor loads it, that a machine with CUDA's files has no GPU: on a CPU that is no news.
_CUDA_LOGGER = "torch.utils.cpp_extension"
_FORGET_AFTER = 30 * 24 * 3600.0  # a busy day's figures must not decide for ever


@dataclass(frozen=True)
class Measured:
    """What one machine met with one network: images per second eager and compiled, seconds to compile."""

    eager: float
    compiled: float
    compile_seconds: float


@dataclass(frozen=True)
class Decision:
    """The engine chosen (`eager` or `inductor`), why in one sentence, and the figures it rests on."""

    engine: str
    why: str
    figures: Mapping[str, float]


def repays(rows: int, eager: float, compiled: float, compile_seconds: float) -> bool:
    """Whether `rows` images are sooner done by compiling first; rates in images per second."""
    return rows / eager > compile_seconds + rows / compiled


def decide(  # noqa: PLR0911 - one reason after another
    mode: str,
    *,
    module: nn.Module,
    forward: Forward,
    shape: tuple[int, int],
    rows: int,
    memory: Memory,
    began_with: str | None = None,
) -> Decision:
    """Choose the engine for `rows` images; `forward` is the eager pass, `began_with` the store's engine.

    RequestError for a mode that is not one of `MODES`.
    """
    if mode not in MODES:
        raise RequestError(f"compile is {' or '.join(MODES)}, not {mode!r}")
    if mode == "off":
        return Decision(EAGER, "compiling was switched off", {})
    if mode == "on":
        return Decision(COMPILED, "compiling was asked for", {})
    if began_with in (EAGER, COMPILED):
        return Decision(began_with, f"the store began with {began_with}", {})
    operators = count_operators(module)
    if operators == 0:
        return Decision(EAGER, "the network has nothing to compile", {})
    if rows <= _WORTH_MEASURING * forward.batch:
        return Decision(EAGER, f"{rows} images are done before the eager rate is known", {})
    if not has_compiler():
        return Decision(EAGER, "there is no C++ compiler on this machine", {})
    eager = measured_rate(forward, shape, seconds=2.0)
    known = memory.recall()
    if known is None and rows / eager < _PROBE_SECONDS:
        return Decision(EAGER, f"{rows / eager:.0f} s eager are less than a probe takes", {"eager": eager})
    if known is None:
        try:
            with quiet(_CUDA_LOGGER):
                per_operator, start_up, gain = probe_compiler(forward.batch, next(module.parameters()))
        except _COMPILER_ERRORS as error:
            return Decision(
                EAGER, f"compiling fails on this machine ({_first_line(error)})", {"eager": eager}
            )
        known = Measured(eager, eager * gain, start_up + per_operator * operators)
        source = "a probe"
    else:
        source = "earlier jobs here"
    # The gain is carried over as a ratio: the machine may be busier or freer now than it was then.
    compiled = eager * known.compiled / known.eager
    figures = {
        "eager": eager,
        "compiled": compiled,
        "compile_seconds": known.compile_seconds,
        "rows": float(rows),
    }
    worth = repays(rows, eager, compiled, known.compile_seconds)
    compiled_text = f"{known.compile_seconds:.0f} + {rows / compiled:.0f} s compiled"
    text = f"{rows / eager:.0f} s eager against {compiled_text}, by {source}"
    return Decision(COMPILED if worth else EAGER, text, figures)


def compile_module(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """`module` through inductor with its weights frozen; nothing is compiled before the first batch."""
    compiled: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False, options={"freezing": True})
    return compiled


def compiled_forward(
    make: Callable[[Callable[[Tensor], Tensor], str], Forward],
    module: nn.Module,
    eager: Forward,
    shape: tuple[int, int],
    *,
    required: bool,
) -> tuple[Forward, float]:
    """Compile `module` and run it once; `make(module, engine)` wraps it into the device's forward pass.

    Returns the pass and the seconds that compiling took. Where the compiler fails that is the eager pass
    and 0, or a HeadwaterError when compiling is `required`.
    """
    if not has_compiler():
        if required:
            raise HeadwaterError(
                "compiling needs a C++ compiler, and none is on the path (g++ or $CXX); install one, "
                "or use --compile off"
            )
        log.warning("there is no C++ compiler, the job goes on without")
        return eager, 0.0
    start = time.perf_counter()
    forward = make(compile_module(module), COMPILED)
    try:
        with quiet(_CUDA_LOGGER):
            forward.start(forward.allocate((eager.batch, *shape, 3)))()
    except _COMPILER_ERRORS as error:
        reason = _first_line(error)
        if required:
            raise HeadwaterError(f"compiling failed ({reason}); use --compile off") from error
        log.warning("compiling failed, the job goes on without: %s", reason)
        return eager, 0.0
    return forward, time.perf_counter() - start


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def probe_compiler(batch: int, like: Tensor) -> tuple[float, float, float]:
    """Seconds to compile one operator, seconds to start the compiler, and the gain, from two small blocks.

    A block is convolutions with batch norms and ReLUs, as most of an image network is, of the type and on the
    device of `like`.
    """

    def block(depth: int) -> nn.Module:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
        network = nn.Sequential(*layers).eval().requires_grad_(False)
        return network.to(like.device, like.dtype).to(memory_format=torch.channels_last)

    images = torch.rand(batch, 64, 28, 28).to(like).to(memory_format=torch.channels_last)

    def timed(module: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            start = time.perf_counter()
            module(images).sum().item()  # waits for the device
            return time.perf_counter() - start

    first = timed(compile_module(block(2)))  # pays for the compiler's start as well
    large = block(6)
    compiled = compile_module(large)
    per_operator = timed(compiled) / 6
    eager_time = min(timed(large) for _ in range(5))
    compiled_time = min(timed(compiled) for _ in range(5))
    return per_operator, max(first - 2 * per_operator, 0.0), max(eager_time / compiled_time, 1.0)


def count_operators(module: nn.Module) -> int:
    """How many convolutions and linear layers a network has: what its compile time grows with."""
    return sum(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules())


def has_compiler() -> bool:
    """Whether a C++ compiler for inductor is on the path."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "c++", "gcc", "cc"]))


class Memory:
    """The figures of earlier jobs for one network on this kind of machine, kept in the user's cache folder.

    A cache that cannot be read or written costs a probe and nothing else.
    """

    def __init__(self, network: str, precision: str, batch: int, file: Path | None = None) -> None:
        self.file = file or cache_folder() / "compile.json"
        parts = (
            network,
            precision,
            batch,
            torch.__version__,
            instruction_sets(),
            torch.get_num_threads(),
            platform.node(),
        )
        self.key = " | ".join(str(part) for part in parts)

    def recall(self) -> Measured | None:
        """What was measured last, None when nothing was."""
        entry = self._read().get(self.key)
        if not isinstance(entry, dict) or time.time() - entry.pop("when", 0) > _FORGET_AFTER:
            return None
        try:
            known = Measured(**entry)
        except TypeError:
            return None
        return known if min(asdict(known).values()) > 0 else None

    def remember(self, measured: Measured) -> None:
        """Keep these figures for the next job."""
        content = json.dumps(
            {**self._read(), self.key: {**asdict(measured), "when": time.time()}}, indent=1, sort_keys=True
        )
        temporary = self.file.with_suffix(f".{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(content)
            temporary.replace(self.file)
        except OSError as error:
            log.info("the compile figures cannot be kept in %s: %s", self.file, error)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def cache_folder() -> Path:
    """headwater's folder in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headwater"
