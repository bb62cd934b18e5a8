"""`python -m benchmarks NAME [--json FILE] [--quick] [--seeds N]`; without a name it lists what there is."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from pathlib import Path

from benchmarks.common import machine, show, write_json
from headwater.errors import HeadwaterError


def available() -> dict[str, str]:
    """Every benchmark's name and the first line of its docstring, without importing it."""
    found = {}
    here = Path(__file__).parent
    files = {file.stem: file for file in here.glob("*.py")}
    files |= {file.parent.name: file for file in here.glob("*/__init__.py")}
    for name, file in sorted(files.items()):
        if name.startswith("_") or name == "common":
            continue
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark; 0 when it ran (claims met or not), 2 when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="the benchmark; leave out to list them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="shrink to seconds, to see that it works")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds, where a benchmark has them")
    options = parser.parse_args(arguments)
    benchmarks = available()
    if options.name is None:
        for name, line in benchmarks.items():
            print(f"{name:12s} {line}")
        return 0
    if options.name not in benchmarks:
        print(f"error: no benchmark {options.name!r}; there are: {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    run = importlib.import_module(f"benchmarks.{options.name}").run
    chosen = {}
    if options.seeds is not None:
        if "seeds" not in inspect.signature(run).parameters or options.seeds < 1:
            print(f"error: {options.name} cannot run with {options.seeds} seeds", file=sys.stderr)
            return 2
        chosen = {"seeds": options.seeds}
    try:
        result = run(options.quick, **chosen)
    except HeadwaterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    described = machine()
    show(result, described)
    if options.json:
        write_json(options.json, result, described)
    return 0


if __name__ == "__main__":
    sys.exit(main())
