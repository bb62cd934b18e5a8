"""The part of the page that shows a sweep: every rule's pick, and every head at its place."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from headwater.report.page import render
from tests.report.sample import report_data, sweep


def page(**changes: object) -> str:
    return render(replace(report_data(), sweep=replace(sweep(), **changes)))


def test_a_report_without_a_sweep_says_nothing_of_rules():
    text = render(report_data())
    assert "selection rule" not in text
    assert 'class="panels"' not in text


def test_every_rule_stands_in_the_table_with_its_cost_and_the_oracle_is_marked():
    table = page().split('class="methods rules"')[1].split("</table>")[0]
    rows = re.findall(r"<tr(?: class=\"(\w+)\")?><th scope=\"row\">(\w+)", table)
    assert rows == [("", "worst_group"), ("", "worst_class"), ("", "overall"), ("oracle", "oracle")]
    assert re.findall(r"<td>(\d+\.\d)</td></tr>", table) == ["1.3", "3.3", "5.3"]
    assert "looks at test" in table.split('class="oracle"')[1]


def test_dots_stand_where_their_accuracies_say():
    data = sweep()
    panels = page().split('class="panels"')[1].split("</ul>")[0].split("<li><figure>")[1:]
    assert len(panels) == len(data.methods)
    for panel, method in zip(panels, data.methods, strict=True):
        dots = re.findall(r'<circle class="dot(?: open)?" cx="([\d.]+)" cy="([\d.]+)"', panel)
        expected = [(100 * (t.overall - 0.6) / 0.4, 100 - 100 * t.worst) for t in method.tried]
        np.testing.assert_allclose(np.array(dots, dtype=float), expected, atol=0.051)
        assert panel.count("dot open") == sum(not t.converged for t in method.tried)


def test_methods_that_were_not_run_are_named_with_the_reason():
    assert "GroupDRO</b> (it needs the group" in page()
    assert "Not run" not in page(skipped=())


def test_methods_that_failed_are_named_with_the_reason():
    text = page(failed=(("2 of 6 heads of JTT, such as JTT.01.s0", "no <b>rows</b>"), ("RWG.00.s0", "no")))
    assert "2 of 6 heads of JTT, such as JTT.01.s0: no &lt;b&gt;rows&lt;/b&gt;; RWG.00.s0: no.</p>" in text
    assert "<b>Failed, and never chosen.</b>" in text
    assert "never chosen" not in page()


def test_many_methods_stand_in_rows_of_the_heat_map():
    data = report_data()
    many = replace(
        data, methods=data.methods + tuple(replace(data.methods[0], name=f"M{i}") for i in range(9))
    )
    heat = render(many).split('<table class="heat">')[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]+)', heat) == [m.name for m in many.methods]
    assert re.findall(r'<th scope="col">([^<]+)', heat)[1:] == [g.name for g in many.groups]


def test_a_likelihood_is_not_shown_as_a_percentage_and_every_rule_says_why():
    table = page().split('class="methods rules"')[1].split("</table>")[0]
    seen = re.findall(r"<td>([\d.]+)(\u202f%)?<span class=\"under\">(accuracy|likelihood)</span></td>", table)
    assert seen == [
        ("90.0", "\u202f%", "accuracy"),
        ("89.0", "\u202f%", "accuracy"),
        ("0.880", "", "likelihood"),
        ("87.0", "\u202f%", "accuracy"),
    ]
    assert table.count("Why: it is what is wanted.") == 4


def test_the_tile_counts_the_heads_of_the_sweep():
    tile = page().split("Heads compared")[1].split("</div>")[0]
    assert re.findall(r"\d+", tile) == ["72", "7"]
    tile = render(report_data()).split("Heads compared")[1].split("</div>")[0]
    assert re.findall(r"\d+", tile) == ["7"]


def test_a_choice_by_test_is_warned_of_and_small_spaces_are_named():
    assert "Chosen by looking at test." not in page()
    assert "Fewer than" not in page()
    text = page(warning="rule 'oracle' chose so", draws=3, fewer=(("DFR-val", 2), ("IRM", 1)))
    assert "<b>Chosen by looking at test.</b> Rule &#39;oracle&#39; chose so." in text
    assert "Fewer than 3 different settings can be drawn of DFR-val (2), IRM (1)." in " ".join(text.split())


def test_heads_that_have_seen_the_split_are_marked_with_the_reason():
    data = report_data()
    assert "in sample" not in render(data).lower().replace("in sample: </b>", "")
    first, second, *others = data.methods
    why = "fitted on rows of val"
    marked = (replace(first, in_sample=why), replace(second, in_sample="chosen"), *others)
    text = render(replace(data, methods=marked))
    table = text.split('<table class="methods">')[1].split("</table>")[0]
    rows = table.split('<th scope="row">')[1:]
    assert ["in sample" in row for row in rows] == [True, True, *[False] * 5]
    assert f"<b>In sample:</b> {first.name} was {why}, so these" in text
    assert f"<b>In sample:</b> {second.name} was chosen, so these" in text
