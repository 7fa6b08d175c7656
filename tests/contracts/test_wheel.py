"""The wheel that users install."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_carries_the_schema_itself_and_the_type_marker(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        # In the tree it is a link; a link in a wheel would be a file that holds a path.
        assert archive.read("waemitter/schema.sql") == (ROOT / "schema.sql").read_bytes()
        names = set(archive.namelist())
    assert "waemitter/py.typed" in names
    steps = {path.name for path in (ROOT / "waemitter/db/migrations").iterdir()}
    assert {f"waemitter/db/migrations/{step}" for step in steps} <= names
    assert not {name for name in names if name.startswith("tests")}
