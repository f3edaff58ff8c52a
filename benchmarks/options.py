"""What the options of all benchmarks have in common."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of ``parser``, and ``--scratch``, a folder that is there, and ``--json``."""
    scratch = Path(tempfile.gettempdir()) / "lockstep-bench"
    parser.add_argument("--scratch", type=Path, default=scratch, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    options = parser.parse_args()
    options.scratch = options.scratch.resolve()
    options.scratch.mkdir(parents=True, exist_ok=True)
    return options
