from __future__ import annotations

import re
from pathlib import Path

from waemitter.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


def test_the_page_s_settings_are_taken(tmp_path: Path) -> None:
    written = "\n".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    file = tmp_path / "waemitter.toml"
    file.write_text(written)

    (agent,) = load(
        environ={"OPENAI_API_KEY": "k", "ORDERS_SECRET": "s"}, config=file
    ).settings.agents

    assert [(each.name, each.model) for each in agent.variants] == [
        ("small", "gpt-4o-mini"),
        ("large", "gpt-4o"),
    ]
    assert [each.name for each in agent.tools] == ["order_status"]
    assert agent.review is not None
