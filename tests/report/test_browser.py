"""The page in a real browser, where one is installed: it fits a phone, and its own policy blocks nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from headwater.report.page import render
from tests.report.sample import hostile, report_data, sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

# A headless window cannot be as narrow as a phone, so the page stands in a frame that is.
_FRAME = """<!doctype html><body><iframe src="page.html" style="border:0;width:WIDTHpx;height:900px"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, seen = {};
  seen.width = page.documentElement.clientWidth;
  seen.needed = page.documentElement.scrollWidth;
  seen.background = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
  seen.pictures = [...page.images].filter(each => each.complete && each.naturalWidth > 0).length;
  seen.bare = [...page.querySelectorAll("table")].filter(each => !each.closest(".scroll")).length;
  seen.tables = [...page.querySelectorAll(".scroll")].map(each => {
    each.scrollLeft = 100000;
    return [each.scrollWidth - each.clientWidth, Math.round(each.scrollLeft)];
  });
  seen.small = [...page.querySelectorAll("main *")].filter(
    each => each.childElementCount === 0 && each.textContent.trim()
      && parseFloat(frame.contentWindow.getComputedStyle(each).fontSize) < 11).length;
  document.body.dataset.seen = JSON.stringify(seen);
};
</script>"""


def look(folder: Path, page: str, width: int) -> dict[str, object]:
    """What the browser makes of `page` in a frame of that width."""
    (folder / "page.html").write_text(page, "utf-8")
    (folder / "frame.html").write_text(_FRAME.replace("WIDTH", str(width)), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, width: int) -> None:
    seen = look(tmp_path, render(report_data()), width)
    assert (seen["width"], seen["needed"]) == (width, width)
    assert seen["pictures"] == 12
    assert seen["small"] == 0
    # The style sheet applied, so the page's own policy lets it.
    assert seen["background"] != "rgba(0, 0, 0, 0)"


def test_long_names_do_not_widen_the_page(tmp_path: Path) -> None:
    data = hostile(report_data(), "Animalia_Arthropoda_Insecta_Lepidoptera_" * 4)
    first = replace(data.methods[0], name="a_method_with_a_name_that_does_not_end_" * 3)
    data = replace(data, methods=(first, *data.methods[1:]), best=first.name)
    seen = look(tmp_path, render(data), 390)
    assert (seen["width"], seen["needed"]) == (390, 390)


def test_every_table_of_a_sweeps_page_scrolls_to_its_end_on_a_phone(tmp_path: Path) -> None:
    seen = look(tmp_path, render(replace(report_data(), sweep=sweep())), 390)
    assert (seen["width"], seen["needed"], seen["bare"]) == (390, 390, 0)
    assert [hidden for hidden, _ in seen["tables"]] == [reached for _, reached in seen["tables"]]
    assert max(hidden for hidden, _ in seen["tables"]) > 100
