"""The config of the contest's own solution, six keys, in this project's terms.

It trained the last layer of a ResNet50 by SGD with a balanced sampler, from a checkpoint, and ran the network
over the images in every epoch. Here the features are kept, so that its ever new crops are one centre crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from headwater.checkpoints import check_last_layer, load_state_dict
from headwater.errors import RequestError
from headwater.printable import meant
from headwater.workflow.marked import Marked, Place

KEYS = ("num_epochs", "lr", "batch_size", "logs_dir", "num_workers", "checkpoint_path")
SOURCE_KEYS = ("data_path", "train_path")
SOURCE = "train"
"""Where the solution looked for its images, in the folder that it was started from."""

METHOD = "HierSampler"
CROPS = (
    "the contest's solution drew a new crop of every image in every epoch, with the network in training "
    "mode; here every epoch sees the centre crop as the network in evaluation mode does"
)
_LEAST = {"num_epochs": 1, "batch_size": 1, "num_workers": 0}
_DEFAULTS = {"num_epochs": 20, "lr": 0.01, "batch_size": 1024, "num_workers": 0}


def is_contest(marked: Marked) -> bool:
    """Whether a file holds any of the contest's keys; RequestError where it holds others beside them."""
    keys = list(marked.values)
    if not any(key in (*KEYS, *SOURCE_KEYS) for key in keys):
        return False
    foreign = [key for key in keys if key not in (*KEYS, *SOURCE_KEYS)]
    if foreign:
        own = next(key for key in keys if key not in foreign)
        raise marked.error(
            (foreign[0],),
            f"{foreign[0]!r} cannot stand beside {own!r}{meant(foreign[0], (*KEYS, *SOURCE_KEYS))}; a file "
            f"in the contest's own form holds {', '.join(KEYS)} and {SOURCE_KEYS[0]} alone",
        )
    return True


def in_full(marked: Marked, source: str | None = None) -> dict[str, Any]:
    """What the keys ask for as a config of this project; RequestError for what they cannot hold."""
    given = marked.values
    for key in ("logs_dir", "checkpoint_path"):
        if key not in given:
            raise marked.error((), f"the key {key!r} is missing; the contest's form has {', '.join(KEYS)}")
    for key in ("logs_dir", "checkpoint_path", *SOURCE_KEYS):
        if key in given and not isinstance(given[key], str):
            raise marked.error((key,), f"{key} cannot be {given[key]!r}: it should be a path")
    numbers = {key: _number(marked, key) for key in _DEFAULTS}
    images = source or next((given[key] for key in SOURCE_KEYS if key in given), SOURCE)
    return {
        "out": given["logs_dir"],
        "extract": {
            "source": images,
            "weights": given["checkpoint_path"],
            "preprocess": "inat-contest",
            "workers": numbers["num_workers"] or None,
        },
        "split": {"train": 1.0},
        "target": "phylum",
        "groups": ["species"],
        "fit": {
            "methods": {
                METHOD: {
                    "epochs": numbers["num_epochs"],
                    "rate": numbers["lr"],
                    "batch": numbers["batch_size"],
                    "start": given["checkpoint_path"],
                }
            }
        },
        "export": {"out": f"{given['logs_dir']}/resnet.pth"},
    }


def own_place(place: Place, marked: Marked) -> Place:
    """The contest's own key for a place in the config that `in_full` makes of it."""
    if place == ("extract", "source"):
        return next(((key,) for key in SOURCE_KEYS if key in marked.values), ())
    keys = {"extract": "checkpoint_path", "export": "checkpoint_path", "fit": "num_epochs", "out": "logs_dir"}
    return (keys[str(place[0])],) if place and place[0] in keys else ()


def check_start(marked: Marked, checkpoint: str, classes: Sequence[str]) -> None:
    """RequestError where the checkpoint's last layer, at which the solution started, is for other classes."""
    path = marked.values["checkpoint_path"]
    state = load_state_dict(checkpoint)
    way_out = "give a checkpoint of these classes, or a config with `fit` to start at zero"
    try:
        check_last_layer(state, "fc", path, way_out=way_out)
    except RequestError as error:
        raise marked.error(("checkpoint_path",), str(error)) from error
    last = state.get("fc.bias")
    if last is None or len(last) != len(classes):
        has = "no fc" if last is None else f"an fc for {len(last)} classes"
        raise marked.error(
            ("checkpoint_path",),
            f"{path!r} has {has}, at which training would start, and the images have {len(classes)} classes; "
            f"{way_out}",
        )


def _number(marked: Marked, key: str) -> float:
    value: Any = marked.values.get(key, _DEFAULTS[key])
    number = math.nan
    with suppress(TypeError, ValueError):
        number = math.nan if isinstance(value, bool) else float(value)
    whole = key != "lr"
    fits = math.isfinite(number) and (
        number >= _LEAST[key] and number == int(number) if whole else number > 0
    )
    if not fits:
        what = f"a whole number, {_LEAST[key]} or more" if whole else "a number above 0"
        raise marked.error((key,), f"{key} cannot be {value!r}: it should be {what}")
    return int(number) if whole else number
