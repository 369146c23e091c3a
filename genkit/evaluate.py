"""Print what the shipped models measure, judged by networks that were trained here.

    python -m genkit.evaluate [classifier] [gan] [vae] [diffusion] [text]

Without a name, all of them. A family whose weights are missing says so, and the others are still measured.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

import genkit
from genkit import core
from genkit.core import Problem, pick

REPORTS = ("classifier", *genkit.FAMILIES)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m genkit.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", default=REPORTS, help=f"some of: {', '.join(REPORTS)} (default: all)")
    parser.add_argument("--n", type=int, default=0, help="samples a measurement (default: each measurement's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help="measure what must be trained for it, too: minutes to an hour")
    parser.add_argument("--download", action="store_true", help="allow data sets to be fetched from the Hub")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="# %(message)s", stream=sys.stderr)
    try:
        core.set_device(options.device)
        names = [pick(REPORTS, name, "report", "报告") for name in options.family]
    except Problem as problem:
        print(problem.en, file=sys.stderr)
        return 2
    return 1 if [name for name in names if not _print(name, options)] else 0


def _print(name: str, options) -> bool:
    """Print the lines of one report as they come; False if a Problem ended it."""
    module = importlib.import_module("genkit.classifier" if name == "classifier" else f"genkit.{name}.evaluate")
    try:
        for line in module.report(options):
            print(line, flush=True)
        return True
    except Problem as problem:
        print(f"{name}: {problem.en}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main())
