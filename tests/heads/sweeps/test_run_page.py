"""The page about a sweep's folder names every file, column and rule."""

from __future__ import annotations

from pathlib import Path

import headwater as hw
from headwater.heads import Task, sweep
from headwater.heads.sweeps.selection import RULES


def test_the_page_about_the_folder_names_every_file_column_and_rule(task: Task, tmp_path: Path) -> None:
    done = sweep(task, out=tmp_path / "run", methods=["ERM", "LLR-class"], draws=1, seeds=1)
    page = (Path(hw.heads.__file__).parent / "sweeps" / "RUN.md").read_text()
    for name in done.table.column_names:
        split, dot, figure = name.partition(".")
        if dot and f"`{name}`" not in page:
            assert f"`{split}.…`" in page
            shown = f"{split}.group.NAME".replace("cv.", "val.") if figure.startswith("group.") else figure
            assert f"`{shown}`" in page or f"`val.{shown}`" in page, name
        else:
            assert f"`{name}`" in page, name
    for rule in RULES:
        where = "test" if rule.split == "test" else "judged"
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{rule.name}` |")]
        assert f"| `{where}.{rule.figure}` |" in line
        assert line.split("|")[3].strip() == rule.why.partition("; but")[0]
    for path in (tmp_path / "run").glob("[!.]*"):
        assert f"`{path.name}" in page, path.name
