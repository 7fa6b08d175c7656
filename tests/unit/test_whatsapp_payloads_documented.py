"""The limits in docs/sql.md are those of the checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_whatsapp_payloads import EXAMPLES, changed, found, type_of


def documented_limits() -> Iterator[tuple[str, str, int]]:
    page = (Path(__file__).parents[2] / "docs/sql.md").read_text()
    for types, path, most in re.findall(r"^\| (`.+?) \| `(.+?)` \| (\d+) \|$", page, re.MULTILINE):
        named_types = " ".join(re.findall(r"`(\w+)`", types))
        if "of every type" in types:
            yield from ((e, path, int(most)) for e in EXAMPLES if e.startswith(named_types + " "))
        elif named_types == "interactive":
            others = (e for e in EXAMPLES if e.startswith("interactive ") and "list" not in e)
            yield from ((example, path, int(most)) for example in others)
        else:
            yield named_types, path, int(most)


@pytest.mark.parametrize(("example", "path", "most"), list(documented_limits()))
def test_a_documented_limit_holds_to_the_character(example, path, most):
    whole = f"{type_of(example)}.{path}"
    assert found(example, changed(example, whole, "é" * most)) == []
    (field,) = found(example, changed(example, whole, "é" * (most + 1)))
    assert field == f"payload.{whole}".replace("[]", "[0]")


def test_the_documentation_has_limits_to_hold():
    assert len(list(documented_limits())) > 50
