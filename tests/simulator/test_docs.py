from dataclasses import fields
from pathlib import Path

from waemitter.simulator.options import Options

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def test_the_page_describes_every_option_in_its_own_words():
    page = PAGE.read_text()
    missing = [
        option.name
        for option in fields(Options)
        if f"| `{option.name}` |" not in page or f"| {option.metadata['description']} |" not in page
    ]
    assert missing == []
