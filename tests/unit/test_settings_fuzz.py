"""Settings that nobody would write: each is taken, or refused in words that name it; nothing else is ever raised."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waemitter.errors import UsageError
from waemitter.settings import load
from waemitter.settings.catalogue import ENTRIES

VARIABLES: Final = tuple(name for entry in ENTRIES for name in entry.variables)
NAMES: Final = tuple(entry.name for entry in ENTRIES)
VALUE: Final = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["", " ", "-1", "1e999", "nan", "inf", "0x10", "99999999999999999999", "5m", "1d2h", "true", "25:61"]),
)  # fmt: skip
SCALAR: Final = st.sampled_from(
    ["1", "-1", "1.5", "inf", "nan", '""', '"x"', "true", "[]", "{}", "[[]]", '"5m"', "1979-05-27", "{ a = 1 }",
     "99999999999999999999", '["\\u0000"]']
)  # fmt: skip
EXAMPLES: Final = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def taken_or_refused(environ: dict[str, str], config: Path | None = None) -> None:
    try:
        load(environ=environ, config=config)
    except UsageError as error:
        assert str(error).strip()  # noqa: PT017 either end is right


@EXAMPLES
@given(environ=st.dictionaries(st.sampled_from(VARIABLES), VALUE, max_size=4))
def test_any_value_of_any_variable(environ: dict[str, str]) -> None:
    taken_or_refused(environ)


@EXAMPLES
@given(lines=st.lists(st.tuples(st.sampled_from(NAMES), SCALAR), max_size=4))
def test_any_value_of_any_key_of_the_file(lines: list[tuple[str, str]], tmp_path: Path) -> None:
    config = tmp_path / "waemitter.toml"
    config.write_text("".join(f"{name} = {value}\n" for name, value in lines))
    taken_or_refused({}, config)


@EXAMPLES
@given(
    raw=st.one_of(
        st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode(errors="replace"))
    )
)
def test_any_bytes_as_the_file(raw: bytes, tmp_path: Path) -> None:
    config = tmp_path / "waemitter.toml"
    config.write_bytes(raw)
    taken_or_refused({}, config)


@EXAMPLES
@given(
    table=st.sampled_from(["channels", "routes", "agents.x"]),
    lines=st.dictionaries(st.sampled_from(["name", "phone_number_id", "keywords", "handler", "url", "buffer", "model"]), SCALAR),
)  # fmt: skip
def test_any_value_in_the_tables(table: str, lines: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "waemitter.toml"
    head = f"[{table}]" if "." in table else f"[[{table}]]"
    config.write_text("\n".join([head, *(f"{key} = {value}" for key, value in lines.items())]))
    taken_or_refused({}, config)
