from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from waemitter.settings import InvalidSettings, Settings, load
from waemitter.settings.report import rows

LEAST = "[agents.a]\nmodel = 'm'\nsystem_prompt = 'p'\n"
TOOL = LEAST + "[[agents.a.tools]]\nname = 't'\ndescription = 'd'\n"


def settings(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "waemitter.toml"
    file.write_text(text)
    return load(environ=environ, config=file).settings


def test_an_agent_is_completed_from_the_general_settings(tmp_path: Path) -> None:
    (agent,) = settings(
        tmp_path, LEAST, OPENAI_API_KEY="general", OPENAI_BASE_URL="http://m.test/v1"
    ).agents

    assert agent.name == "a"
    assert agent.base_url == "http://m.test/v1"
    assert agent.api_key is not None
    assert agent.api_key.get_secret_value() == "general"
    assert [(v.name, v.model, v.system_prompt) for v in agent.variants] == [("default", "m", "p")]


def test_an_agent_s_own_key_prompt_file_and_variants(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("from the file\n")
    text = (
        "[agents.a]\nmodel = 'm'\nsystem_prompt_file = 'p.md'\napi_key_env = 'OWN'\ninput_price = 0.15\n"
        "[[agents.a.variants]]\nname = 'x'\n"
        "[[agents.a.variants]]\nname = 'y'\nmodel = 'n'\nsystem_prompt = 'other'\nweight = 3\ninput_price = 2\n"
    )
    (agent,) = settings(tmp_path, text, OWN="mine", OPENAI_API_KEY="general").agents

    assert agent.api_key is not None
    assert agent.api_key.get_secret_value() == "mine"
    assert [(v.name, v.model, v.system_prompt, v.weight) for v in agent.variants] == [
        ("x", "m", "from the file", 1.0),
        ("y", "n", "other", 3.0),
    ]
    assert [v.input_price for v in agent.variants] == [Decimal("0.15"), Decimal(2)]


def test_a_tool_has_its_schema_and_its_secret_from_files_or_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.json").write_text('{"type": "object", "required": ["order"]}')
    text = TOOL + "url = 'http://t.test/'\nparameters_file = 't.json'\nsecret_env = 'OWN'\n"
    (agent,) = settings(tmp_path, text, OWN="mine").agents
    (tool,) = agent.tools

    assert tool.parameters == {"type": "object", "required": ["order"]}
    assert tool.secret is not None
    assert tool.secret.get_secret_value() == "mine"
    assert tool.timeout == 5.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[agents.a]\nmodel = 'm'\n", "agents.a needs a system_prompt or a system_prompt_file"),
        ("[agents.a]\nsystem_prompt = 'p'\n", "agents.a needs a model"),
        (LEAST + "modle = 'x'\n", "agents.a has no key 'modle'; did you mean model?"),
        (LEAST + "retries = -1\n", "agents.a.retries must be at least 0 (it is -1)"),
        (LEAST + "system_prompt_file = 'p.md'\n", "system_prompt and system_prompt_file are both"),
        (LEAST + "timeout = '5m'\n", "agents.a.timeout must be less than inbox.lock_lease (2m)"),
        (
            LEAST + "images = true\n",
            "agents.a.images needs a place where files are kept: media.directory or media.s3_bucket",
        ),
        (
            LEAST + "timeout = '61s'\n",
            "agents.a.timeout must be less than turns.timeout (1m)",
        ),
        (
            LEAST + "[[agents.a.tools]]\nname = 't'\ndescription = 'd'\n",
            "agents.a.tools[0].url is missing",
        ),
        (
            LEAST + "[[agents.a.tools]]\nname = 'two words'\n",
            "agents.a.tools[0].name",
        ),
        (
            TOOL + "url = 'http://me:pw@t.test/'\n",
            "agents.a.tools[0].url must hold no user and no password",
        ),
        (
            TOOL + "url = 'http://t.test/'\n[agents.a.tools.parameters]\ntype = 'list'\n",
            "agents.a.tools[0].parameters must describe an object",
        ),
        (
            TOOL
            + "url = 'http://t.test/'\n[agents.a.tools.parameters]\ntype = 'object'\nproperties = 3\n",
            "agents.a.tools[0].parameters is no JSON schema",
        ),
        (
            TOOL + "url = 'http://t.test/'\nsecret_env = 'GONE'\n",
            "agents.a.tools[0].secret_env names GONE, which is not set",
        ),
        (
            TOOL + "url = 'http://t.test/'\nparameters_file = 'gone.json'\n",
            "agents.a.tools[0].parameters_file: cannot read",
        ),
        (LEAST + "api_key_env = 'NOT_THERE'\n", "agents.a.api_key_env: NOT_THERE is not set"),
        (
            LEAST + "[[agents.a.variants]]\nname = 'x'\n[[agents.a.variants]]\nname = 'x'\n",
            "agents.a.variants[1] needs a name that no other variant has",
        ),
        (
            LEAST + "[[agents.a.variants]]\nname = 'x'\nwight = 1\n",
            "agents.a.variants[0] has no key 'wight'; did you mean weight?",
        ),
        (
            LEAST + "[[agents.a.variants]]\nname = 'x'\nweight = 0\n",
            "agents.a.variants all have the weight 0",
        ),
        (LEAST + "[agents.a.review]\nmode = 'drop'\n", "agents.a.review.mode must be"),
        (LEAST + "[agents.a.review]\n", "agents.a.review needs a prompt or a prompt_file"),
        (
            "[agents.a]\nmodel = 'm'\nsystem_prompt_file = 'gone.md'\n",
            "agents.a.system_prompt_file: cannot read",
        ),
    ],
)
def test_what_is_wrong_with_an_agent_is_one_clear_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(InvalidSettings) as raised:
        settings(tmp_path, text)
    assert any(problem in line for line in raised.value.problems), raised.value.problems


def test_check_shows_agents_and_neither_prompts_nor_keys(tmp_path: Path) -> None:
    file = tmp_path / "waemitter.toml"
    file.write_text(LEAST.replace("'p'", "'the-prompt'") + "retries = 4\n")
    shown = {
        row.name: row for row in rows(load(environ={"OPENAI_API_KEY": "the-key"}, config=file))
    }

    assert (shown["agents.a.retries"].value, shown["agents.a.retries"].origin) == (4, str(file))
    assert shown["agents.a.max_context_tokens"].origin == "default"
    assert "a prompt of 10 characters" in shown["agents.a.variants.default"].text
    assert not any("the-prompt" in row.text or "the-key" in row.text for row in shown.values())
