"""`python -m benchmarks NAME [--json FILE] [--quick]`; without a name it lists what there is."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

from benchmarks.common import machine, show, write_json


def available() -> dict[str, str]:
    """Every benchmark's name and the first line of its docstring, without importing it."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.stem.startswith("_") or file.stem == "common":
            continue
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark; 0 when it ran (claims met or not), 2 when the name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="the benchmark; leave out to list them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="shrink to seconds, to see that it works")
    options = parser.parse_args(arguments)
    benchmarks = available()
    if options.name is None:
        for name, line in benchmarks.items():
            print(f"{name:12s} {line}")
        return 0
    if options.name not in benchmarks:
        print(f"error: no benchmark {options.name!r}; there are: {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    result = importlib.import_module(f"benchmarks.{options.name}").run(options.quick)
    described = machine()
    show(result, described)
    if options.json:
        write_json(options.json, result, described)
    return 0


if __name__ == "__main__":
    sys.exit(main())
