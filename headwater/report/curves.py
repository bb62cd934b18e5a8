"""Worst-K curves as SVG paths within a square of 100 by 100, and the axis that several of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headwater.report.data import Curve, MethodResult

_LEFT, _WIDTH, _TOP, _HEIGHT = 7.0, 91.0, 3.0, 84.0  # the square's place in the drawing, in percent of it
_STEP = 0.1


@dataclass(frozen=True)
class Axis:
    """Accuracies from `lowest` to `highest`; `ticks` and `percents` are places in the drawing and labels."""

    lowest: float
    highest: float
    first: float
    last: float
    ticks: tuple[tuple[str, str], ...]
    percents: tuple[tuple[str, str], ...]


def axis(methods: Sequence[MethodResult]) -> Axis:
    """An axis that holds the curves of all these methods with their intervals."""
    curves = [method.curve for method in methods if method.curve is not None]
    lowest = math.floor(min(min(curve.low) for curve in curves) / _STEP) * _STEP
    highest = min(1.0, math.ceil(max(max(curve.high) for curve in curves) / _STEP) * _STEP)
    highest = max(highest, lowest + _STEP)
    first, last = curves[0].percents[0], curves[0].percents[-1]
    steps = round((highest - lowest) / _STEP)
    every = 2 if steps > 6 else 1
    ticks = [lowest + step * _STEP for step in range(0, steps + 1, every)]
    tens = [k for k in curves[0].percents if k % 10 == 0]
    return Axis(
        lowest,
        highest,
        first,
        last,
        tuple(
            (f"{_TOP + _HEIGHT * (highest - tick) / (highest - lowest):.2f}", f"{100 * tick:.0f}")
            for tick in ticks
        ),
        tuple((f"{_LEFT + _WIDTH * (k - first) / (last - first):.2f}", f"{k:g}") for k in tens),
    )


def line(curve: Curve, frame: Axis) -> str:
    """The curve as a path."""
    return "M" + " ".join(_points(curve.percents, curve.accuracies, frame))


def band(curve: Curve, frame: Axis) -> str:
    """Its interval as a closed path: along the upper ends and back along the lower ones."""
    there = _points(curve.percents, curve.high, frame)
    back = _points(curve.percents, curve.low, frame)[::-1]
    return "M" + " ".join(there + back) + "Z"


def _points(percents: Sequence[float], accuracies: Sequence[float], frame: Axis) -> list[str]:
    width, height = frame.last - frame.first, frame.highest - frame.lowest
    return [
        f"{100 * (k - frame.first) / width:.2f},{100 * (frame.highest - accuracy) / height:.2f}"
        for k, accuracy in zip(percents, accuracies, strict=True)
    ]
