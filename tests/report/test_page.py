"""The page against its data: what it says, what it may load, and what other people's names can do to it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from headwater.report.data import Estimate
from headwater.report.page import render
from headwater.report.words import answer, difference, headline, percent, unconverged
from tests.report.sample import GROUPS, hostile, method, report_data, sweep

_VOID = {"meta", "br", "img", "link", "input", "hr", "line", "circle", "path", "rect"}


class Page(HTMLParser):
    """Reads a page strictly: every element that opens must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, heading: str) -> list[list[str]]:
        found = [table for table in self.tables if table[0][0] == heading]
        assert len(found) == 1
        return [[" ".join(cell.split()) for cell in row] for row in found[0]]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(report_data()))


def test_the_headline_is_the_finding(page):
    data = report_data()
    erm = data.method("ERM")
    line = headline(data)
    assert percent(erm.overall.value) in line
    assert percent(erm.worst.value) in line
    assert erm.worst_group in line
    assert " ".join(line.split()) in page.text
    assert "DFR-val" in answer(data)
    assert "overlap" not in answer(data)


def test_a_gain_within_the_intervals_is_not_claimed():
    data = report_data()
    near = replace(data.method("DFR-val"), worst=Estimate(0.34, 0.28, 0.40))
    methods = tuple(near if m.name == "DFR-val" else m for m in data.methods)
    assert "overlap" in answer(replace(data, methods=methods))


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((-0.033, -0.078, 0.013), "3.3 points less than ERM (7.8 less to 1.3 more)"),
        ((0.02, -0.005, 0.04), "2.0 points more than ERM (0.5 less to 4.0 more)"),
        ((0.02, 0.011, 0.029), "2.0 points more than ERM (1.1\u20132.9)"),
        ((-0.03, -0.05, -0.011), "3.0 points less than ERM (1.1\u20135.0)"),
        ((-0.03, None, None), "3.0 points less than ERM"),
        ((0.0, -0.085, 0.085), "no difference from ERM (8.5 points less to 8.5 more)"),
        ((-0.0004, -0.02, 0.011), "no difference from ERM (2.0 points less to 1.1 more)"),
        ((0.0004, 0.0001, 0.0007), "no difference from ERM (0.0\u20130.1 points more)"),
        ((0.0006, -0.01, 0.02), "0.1 points more than ERM (1.0 less to 2.0 more)"),
        ((0.0, 0.0, 0.0), "no difference from ERM"),
        ((0.0, None, None), "no difference from ERM"),
    ],
)
def test_a_difference_is_said_without_signs(gain, words):
    assert difference(Estimate(*gain), "ERM") == words


def _picked(worse: Estimate, gain: Estimate | None = None, aim: Estimate | None = None):
    """A page whose pick, DFR-val, has this worst group; with an `aim`, ERM's, it is about shares."""
    data = report_data()
    found = []
    for each in data.methods:
        given = worse if each.name == "DFR-val" else each.worst
        area = None if aim is None else aim if each.name == "ERM" else given
        found.append(replace(each, worst=given, area=area))
    return replace(data, methods=tuple(found), gain=gain, sweep=sweep())


def test_a_pick_that_is_worse_than_the_baseline_is_said_to_be():
    low, erm = Estimate(0.70, 0.68, 0.72), Estimate(0.80, 0.78, 0.82)
    settled = answer(_picked(low, Estimate(-0.1, -0.12, -0.08), erm))
    assert settled.endswith(
        "that is 10.0 points less than ERM (8.0\u201312.0): of the two, ERM is the better head here."
    )
    open_ = answer(_picked(low, Estimate(-0.1, -0.22, 0.08), erm))
    assert open_.endswith(
        "less than ERM (22.0 less to 8.0 more), so this run alone does not settle which head is better."
    )
    assert "overall, but for 60.0" in headline(_picked(low, aim=Estimate(0.6, 0.5, 0.7)))
    assert "overall, and for 80.0" in headline(_picked(low, aim=erm))
    few = answer(_picked(Estimate(0.1, 0.05, 0.15)))
    assert "overlap" not in few
    assert few.endswith("ERM does better for its worst group than DFR-val for its own.")


def test_a_rule_that_picks_the_baseline_hides_no_better_head():
    data = replace(report_data(), best="ERM", sweep=sweep())
    assert answer(data) == (
        "The rule worst_group picks ERM itself, although here DFR-val is right for "
        f"{percent(data.methods[0].worst.value)} of its own worst group, “{GROUPS[3]}”."
    )
    fewer = replace(data, methods=(data.methods[-1], replace(data.methods[-1], name="other")))
    assert answer(fewer) == "No other head in this run does better for its worst group than ERM."


def test_nothing_falls_behind_is_said_so():
    data = report_data()
    fair = replace(method("ERM", (0.9, 0.9, 0.9, 0.9)), worst=Estimate(0.89, 0.85, 0.93))
    line = headline(replace(data, methods=(fair,), best="ERM"))
    assert "no group falls far behind" in line
    assert "nothing to compare" in answer(replace(data, methods=(fair,), best="ERM"))


def test_the_table_of_methods_holds_every_average_by_its_name(page):
    header, *rows = page.table("Method")
    assert header == ["Method", "Worst group", "Overall", "Mean of groups", "Train-weighted", "Training"]
    data = report_data()
    assert len(rows) == len(data.methods)
    for row, m in zip(rows, data.methods, strict=True):
        assert row[0].startswith(m.name)
        for cell, estimate in zip(row[1:5], (m.worst, m.overall, m.balanced, m.train_weighted), strict=True):
            assert cell.startswith(percent(estimate.value).replace("\u202f", " "))
            assert f"{100 * estimate.low:.1f}\u2013{100 * estimate.high:.1f}" in cell
        assert m.worst_group in row[1]


def test_every_group_of_every_method_is_in_the_table(page):
    header, *rows = page.table("Group")
    data = report_data()
    assert header[2:] == [m.name for m in data.methods]
    for g, row in enumerate(rows):
        assert row[0] == GROUPS[g]
        for cell, m in zip(row[2:], data.methods, strict=True):
            group = m.groups[g]
            assert cell.startswith(f"{100 * group.correct / group.count:.1f}")


def test_a_group_without_images_is_missing_and_has_no_number():
    data = report_data()
    groups = (replace(data.groups[0], counts={"train": 47, "val": 0}), *data.groups[1:])
    methods = tuple(
        replace(m, groups=(replace(m.groups[0], count=0, correct=0, accuracy=None), *m.groups[1:]))
        for m in data.methods
    )
    page = Page(render(replace(data, groups=groups, methods=methods)))
    assert page.table("Group")[1][1:] == ["0"] + ["no images"] * len(methods)
    counts = {row[0]: row[1:] for row in page.table("Class or group")}
    assert counts[GROUPS[0]] == ["47", "3.9 %", "none", "none"]


def test_heads_that_did_not_converge_are_flagged(page):
    rows = {row[0]: row for row in page.table("Method")}
    assert rows["DFR-tr"][5].startswith("not converged")
    assert rows["SUBG"][5].startswith("converged")
    assert unconverged(report_data().methods) in page.text


def test_a_head_that_was_stepped_as_asked_is_said_to_be_and_not_flagged():
    data = report_data()
    methods = tuple(
        replace(each, converged=False, stepped=True, iterations=20) if each.name == "SUBG" else each
        for each in data.methods
    )
    page = Page(render(replace(data, methods=methods, sweep=replace(sweep(), stepped=12))))
    rows = {row[0]: row for row in page.table("Method")}
    assert rows["SUBG"][5].startswith("stepped 20 epochs")
    assert "SUBG" not in unconverged(methods)
    assert "trained by SGD for a set number of epochs" in page.text
    assert "12 of the 72 were trained by SGD" in page.text
    assert page.text.count("to no optimum") == 2
    assert "to no optimum" not in Page(render(data)).text


def test_failed_rows_are_listed_with_their_reasons(page):
    assert page.table("Row")[1:] == [
        ["train/00012.jpg", "the file is empty"],
        ["val/\\xff.png", "it is no image"],
    ]


def test_the_slowest_stage_is_named_and_alone(page):
    labels = [attrs.get("aria-label", "") for tag, attrs in page.tags if tag == "svg"]
    assert [label for label in labels if label and label.endswith("slowest")] == [
        "backbone: 43 images per second, the slowest"
    ]


def test_the_page_asks_for_nothing(page):
    allowed = {"#"}
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attrs)
        assert "style" not in attrs
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attrs.get(name) or ""
            assert not value or value.startswith("data:image/") or value in allowed
    text = render(report_data())
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    policy = next(
        attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'; DROP TABLE groups; --</style><b>",
        "{{ 7 * 7 }}{% raw %}",
        "&amp;&lt;",
    ],
)
def test_hostile_names_stay_text(text):
    harmless = Page(render(hostile(report_data(), "harmless")))
    page = Page(render(hostile(report_data(), text)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(attrs) for _, attrs in page.tags] == [sorted(attrs) for _, attrs in harmless.tags]
    assert " ".join(text.split()) in page.text
    assert page.text.count("49") == harmless.text.count("49")


def test_pictures_and_drawings_have_words(page):
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 12
    assert all("taken for curved" in (attrs["alt"] or "") for attrs in images)
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all(attrs.get("scope") in ("row", "col") for attrs in headers)
    assert sum(tag == "caption" for tag, _ in page.tags) == sum(tag == "table" for tag, _ in page.tags)


def test_the_same_data_gives_the_same_page():
    assert render(report_data()) == render(report_data())
