"""The list of seeded defects fits the tree: each can be planted, and the tests that are to catch it exist."""

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_defect_has_its_place_and_its_tests(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.before) == 1
    assert mutant.before != mutant.after
    paths = [test for test in mutant.tests if test.endswith(".py")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)
