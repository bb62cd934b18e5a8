"""A report's data made by hand, for the tests of the page and of the sentences."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from headwater.report.data import (
    Estimate,
    Extraction,
    Gallery,
    Group,
    GroupResult,
    MethodResult,
    MethodTried,
    Picture,
    ReportData,
    RulePick,
    Stage,
    Sweep,
    Tried,
)

GROUPS = ("curved, clouds", "curved, stripes", "straight, clouds", "straight, stripes")
COUNTS = {
    "train": (47, 890, 269, 14),
    "val": (119, 119, 34, 34),
    "test": (574, 574, 163, 163),
}


def picture(colour: int = 0) -> str:
    """A tiny image as a data URI."""
    pixels = np.full((112, 112, 3), (40 + 20 * colour) % 256, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP")
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def method(name: str, accuracies: tuple[float, ...], *, converged: bool = True) -> MethodResult:
    """A head with the given accuracies on the test groups of `COUNTS`."""
    counts = COUNTS["test"]
    correct = [round(a * n) for a, n in zip(accuracies, counts, strict=True)]
    groups = tuple(
        GroupResult(g, n, c, Estimate(c / n, max(0.0, c / n - 0.04), min(1.0, c / n + 0.03)))
        for g, n, c in zip(GROUPS, counts, correct, strict=True)
    )
    shares = [c / n for c, n in zip(correct, counts, strict=True)]
    worst = min(range(4), key=lambda i: shares[i])
    overall = sum(correct) / sum(counts)
    return MethodResult(
        name=name,
        method=name,
        file=f"{name}.safetensors",
        worst_group=GROUPS[worst],
        worst=Estimate(shares[worst], max(0.0, shares[worst] - 0.06), min(1.0, shares[worst] + 0.05)),
        overall=Estimate(overall, overall - 0.01, overall + 0.01),
        balanced=Estimate(
            float(np.mean(shares)), float(np.mean(shares)) - 0.01, float(np.mean(shares)) + 0.01
        ),
        train_weighted=Estimate(0.97, 0.96, 0.98),
        groups=groups,
        converged=converged,
        convergence_note="" if converged else "stopped after 500 iterations, gap 3.1e-04",
        iterations=41,
        seconds=1.234,
        trained=27,
        unconverged=0 if converged else 1,
        settings="l2=0.01",
        choices="l1 = 0.0316",
    )


def report_data() -> ReportData:
    """A small, plausible report with a picture gallery and one head that did not converge."""
    methods = (
        method("DFR-val", (0.885, 0.93, 0.94, 0.873)),
        method("SUBG", (0.854, 0.943, 0.933, 0.853)),
        method("DFR-tr", (0.86, 0.95, 0.95, 0.841), converged=False),
        method("RWG", (0.848, 0.99, 0.982, 0.626)),
        method("RWY", (0.75, 1.0, 1.0, 0.411)),
        method("SUBY", (0.74, 0.997, 0.993, 0.387)),
        method("ERM", (0.754, 1.0, 0.988, 0.313)),
    )
    pictures = tuple(
        Picture(
            picture(i),
            f"test/{i:05d}.jpg",
            "straight",
            "curved",
            "straight" if i % 3 else "curved",
            i % 3 > 0,
        )
        for i in range(12)
    )
    return ReportData(
        title="class by texture: headwater report",
        identity="0123456789abcdef",
        target="class",
        group_columns=("texture",),
        split="test",
        splits=("train", "val", "test"),
        split_rows={split: sum(counts) for split, counts in COUNTS.items()},
        classes=(
            Group("curved", {s: n[0] + n[1] for s, n in COUNTS.items()}),
            Group("straight", {s: n[2] + n[3] for s, n in COUNTS.items()}),
        ),
        groups=tuple(Group(g, {s: n[i] for s, n in COUNTS.items()}) for i, g in enumerate(GROUPS)),
        total_classes=2,
        total_groups=4,
        group_note="",
        left_out="",
        methods=methods,
        baseline="ERM",
        best="DFR-val",
        extraction=Extraction(
            source="demo/images",
            store="demo/digits.store",
            rows=3000,
            failed=2,
            failures=(("train/00012.jpg", "the file is empty"), ("val/\\xff.png", "it is no image")),
            backbone="efficientnet_lite0",
            weights="IMAGENET1K_V1",
            layer="_fc",
            dim=1280,
            dtype="float16",
            views=0,
            fingerprint="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            device="cpu",
            engine="eager fp32 channels_last",
            machine="2 cores",
            seconds=74.2,
            rate=40.4,
            runs=1,
            stages=(
                Stage("source", 8121.0, False),
                Stage("decode", 1130.0, False),
                Stage("backbone", 43.0, True),
                Stage("writer", 51230.0, False),
            ),
        ),
        galleries=(Gallery("ERM", GROUPS[3], 112, 163, 97, "DFR-val", pictures),),
        gallery_note="",
        about="Digits on textures.",
        note="",
        level=0.95,
        commands=("headwater extract demo/images --out demo/digits.store", "headwater report demo/run"),
        versions={"headwater": "0.1.0", "python": "3.11"},
    )


def hostile(data: ReportData, text: str) -> ReportData:
    """The same report with `text` in the place of everything that comes from the user's files."""
    first = data.methods[0]
    evil = replace(
        first,
        worst_group=text,
        settings=text,
        choices=text,
        convergence_note=text,
        groups=(replace(first.groups[0], name=text), *first.groups[1:]),
    )
    return replace(
        data,
        title=text,
        target=text,
        group_columns=(text,),
        about=text,
        note=text,
        gallery_note=text,
        left_out=text,
        group_note=text,
        classes=(replace(data.classes[0], name=text), *data.classes[1:]),
        groups=(replace(data.groups[0], name=text), *data.groups[1:]),
        methods=(evil, *data.methods[1:]),
        extraction=replace(
            data.extraction, source=text, store=text, backbone=text, failures=((text, text),), engine=text
        ),
        galleries=(
            replace(
                data.galleries[0],
                group=text,
                pictures=(
                    replace(data.galleries[0].pictures[0], key=text, truth=text, predicted=text, other=text),
                ),
            ),
        ),
        commands=(text,),
    )


def sweep() -> Sweep:
    """A small sweep over the methods of `report_data`, with an oracle and one head that did not converge."""
    random = np.random.default_rng(0)
    methods = []
    for each in report_data().methods:
        tried = tuple(
            Tried(
                overall=float(np.clip(each.overall.value + random.normal(0, 0.03), 0, 1)),
                worst=float(np.clip(each.worst.value + random.normal(0, 0.08), 0, 1)),
                converged=i != 3,
                chosen=i == 0,
            )
            for i in range(12)
        )
        methods.append(MethodTried(each.name, tried, each.overall.value, each.worst.value))
    best = report_data().methods[0]
    rules = tuple(
        RulePick(
            rule=name,
            looks_at=looks_at,
            why="it is what is wanted",
            honest=name != "oracle",
            used=name == "worst_group",
            method=best.name,
            settings="C=0.1, penalty=l1",
            figure=0.9 - 0.01 * i,
            unit="likelihood" if name == "overall" else "accuracy",
            worst=best.worst.value - 0.02 * i,
            spread=0.011,
            overall=best.overall.value,
            cost=0.013 + 0.02 * i,
        )
        for i, (name, looks_at) in enumerate(
            (
                ("worst_group", "worst group on val"),
                ("worst_class", "worst class on val, no groups known"),
                ("overall", "average on val"),
                ("oracle", "worst group on test"),
            )
        )
    )
    base = report_data().methods[-1]
    return Sweep(
        methods=tuple(methods),
        rules=rules,
        rule="worst_group",
        settings=24,
        seeds=3,
        heads=72,
        unconverged=6,
        seconds=31.5,
        lowest_overall=0.6,
        baseline_overall=base.overall.value,
        baseline_worst=base.worst.value,
        skipped=(("GroupDRO", "it needs the group of every row in split 'train'"),),
    )
