"""Seeded defects, each of which some test must catch: `make mutants`.

A copy of the tree gets one defect at a time, and the tests named beside it run there. A mutant that survives says that a
promise is not tested. Names of mutants as arguments run those alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
LEFT_OUT: Final = (
    ".git",
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "__pycache__",
    ".pytest_cache",
)
PATIENCE: Final = 300  # seconds for the tests of one mutant


def run(mutant: Mutant, tree: Path) -> str:
    """`caught`, `SURVIVED`, or why it could not be planted."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.before) != 1:
        return f"NOT PLANTED: its place is there {text.count(mutant.before)} times"
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        tested = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=60", *mutant.tests],
            cwd=tree,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"NOT TESTED: no end within {PATIENCE} s"
    finally:
        path.write_text(text)
    named = [
        line.split(" ")[1].rpartition("::")[2]
        for line in tested.stdout.splitlines()
        if line.startswith("FAILED")
    ]
    if tested.returncode == 1 and named:
        return f"caught by {named[0]}"
    return (
        "SURVIVED"
        if tested.returncode == 0
        else f"NOT TESTED: pytest ended with {tested.returncode}"
    )


def main(wanted: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="waemitter-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for mutant in chosen:
            started = time.monotonic()
            result = run(mutant, tree)
            failed += not result.startswith("caught")
            took = time.monotonic() - started
            sys.stdout.write(f"{mutant.name:<52} {result}  ({took:.0f} s)\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - failed} of {len(chosen)} caught\n")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
