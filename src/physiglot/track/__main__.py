"""`python -m physiglot.track publish | follow | lineage`."""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from . import __doc__ as description
from .ancestry import lineage, tree
from .follower import follow
from .ledger import shown
from .publisher import DEFAULT, first_line, publish


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m physiglot.track", description=(description or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("publish", help="publish the run records that the store lacks")
    one.add_argument("--uri", default=DEFAULT, help="MLflow store; MLFLOW_TRACKING_URI overrides it")
    one.add_argument("--wait", type=float, default=60, help="seconds to wait for another publisher")
    one.add_argument("--strict", action="store_true", help="fail if something could not be published")
    two = commands.add_parser("follow", help="publish a stage while it runs")
    two.add_argument("path", type=Path, metavar="RUN_JSON")
    two.add_argument("--uri", required=True)
    two.add_argument("--pid", type=int, required=True)
    three = commands.add_parser("lineage", help="walk from an output back to the blocks")
    three.add_argument("path", type=Path)
    three.add_argument("--all", action="store_true", help="list every block")
    for command in (one, two, three):
        command.add_argument("--root", type=Path, default=Path("."), help="folder of the project")
    return parser


def _publish(root: Path, uri: str, wait: float, strict: bool) -> int:
    uri, began = os.environ.get("MLFLOW_TRACKING_URI") or uri, time.monotonic()
    if not uri:
        return 0
    try:
        number = publish(root, uri, wait)
    except Exception as error:
        print(
            f"warning: tracking: {first_line(error)}; the run records are kept: publish again",
            file=sys.stderr,
        )
        return int(strict)
    print(f"tracking: {number} runs published to {shown(uri)} in {time.monotonic() - began:.1f} s")
    return 0


def _lineage(path: Path, root: Path, everything: bool) -> int:
    try:
        print("\n".join(tree(lineage(path, root), sys.maxsize if everything else 6)))
    except ValueError as error:
        print(f"error: lineage: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    options = _parser().parse_args()
    if options.command == "lineage":
        return _lineage(options.path, options.root, options.all)
    if options.command == "publish":
        return _publish(options.root, options.uri, options.wait, options.strict)
    os.nice(10)
    with contextlib.suppress(OSError, ValueError):
        follow(options.path, options.uri, options.pid, options.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
