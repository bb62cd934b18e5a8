"""`python -m benchmarks.hackathon42 ID --out FOLDER`: write a generated set, and its target's labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.hackathon42.sets import PUBLISHED, make
from headwater.errors import HeadwaterError, RequestError


def main(arguments: list[str] | None = None) -> int:
    """Write FOLDER with the four arrays, and FOLDER.labels.npy beside it; 2 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hackathon42", description=__doc__)
    parser.add_argument("id", type=int, choices=[*sorted(PUBLISHED), 999], help="the set's number")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides everything random")
    parser.add_argument("--mix-rate", type=float, help="the share of crossed items in the unlabeled set")
    parser.add_argument("--family", help="the hidden feature of 12 and 13")
    parser.add_argument(
        "--variant",
        choices=["dimmed", "composed"],
        help="dimmed makes 6 and 7 identifiable; composed makes 999 of photographs on textures",
    )
    options = parser.parse_args(arguments)
    answers = options.out.with_name(f"{options.out.name}.labels.npy")
    try:
        for place in (options.out, answers):
            if place.exists():
                raise RequestError(f"{place} is there already; choose another --out")
        made = make(
            options.id,
            options.seed,
            mix_rate=options.mix_rate,
            family=options.family,
            variant=options.variant,
        )
    except HeadwaterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    made.write(options.out)
    made.write_target_labels(answers)
    print(f"{options.out}: {made.name}, mix rate {made.mix_rate:.2f}; labels in {answers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
