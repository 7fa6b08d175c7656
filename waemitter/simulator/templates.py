"""The templates of the account: any name will do until one is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from waemitter.simulator.errors import CATALOGUE
from waemitter.simulator.shapes import Refusal

Category = Literal["marketing", "utility", "authentication"]
Status = Literal["approved", "held", "paused", "disabled", "rejected", "pending"]

_ENDED = {"paused": 132015, "disabled": 132016}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template in one language.

    `parameters` counts the variables of each component (`header`, `body`); None checks no count.
    `held` means that sends are accepted and wait for a quality assessment; `rejected` and
    `pending` are as good as missing.
    """

    name: str
    language: str
    category: Category = "utility"
    status: Status = "approved"
    parameters: Mapping[str, int] | None = field(default=None)

    @classmethod
    def from_json(cls, declared: Mapping[str, Any]) -> Template:
        """Read a declaration; raises `ValueError` for a field that is missing, unknown or wrong."""
        try:
            template = cls(**declared)
        except TypeError as error:
            raise ValueError(f"template: {error}") from None
        for name, choices in (("category", get_args(Category)), ("status", get_args(Status))):
            if getattr(template, name) not in choices:
                raise ValueError(f"{name}: must be one of {choices}")
        return template


class Templates:
    """What was declared, by name and language."""

    def __init__(self) -> None:
        self._declared: dict[str, dict[str, Template]] = {}

    def declare(self, template: Template) -> Template | None:
        """Add or replace one; returns what it was before."""
        languages = self._declared.setdefault(template.name, {})
        before = languages.get(template.language)
        languages[template.language] = template
        return before

    def clear(self) -> None:
        self._declared.clear()

    def all(self) -> list[Template]:
        return [t for languages in self._declared.values() for t in languages.values()]

    def resolve(self, message: Mapping[str, Any]) -> Template:
        """Return the template that a `template` object names, its parameters counted.

        Raises `Refusal`: 132001 for a declared name in a language it does not have, 132000 for
        a wrong number of parameters, 132015 when paused, 132016 when disabled.
        """
        name, language = message["name"], message["language"]["code"]
        languages = self._declared.get(name)
        if languages is None:
            return Template(name=name, language=language)
        template = languages.get(language)
        if template is None or template.status in {"rejected", "pending"}:
            details = f"template name ({name}) does not exist in {language}"
            raise Refusal(CATALOGUE[132001].saying(details))
        if template.status in _ENDED:
            raise Refusal(CATALOGUE[_ENDED[template.status]])
        if template.parameters is not None:
            _count(template.parameters, message.get("components", ()))
        return template


def _count(wanted: Mapping[str, int], components: Any) -> None:
    given = {
        str(component["type"]).lower(): len(component.get("parameters", ()))
        for component in components
        if component["type"] != "button"
    }
    for component in sorted({*wanted, *given}):
        have, want = given.get(component, 0), wanted.get(component, 0)
        if have != want:
            details = (
                f"{component}: number of localizable_params ({have}) does not match the "
                f"expected number of params ({want})"
            )
            raise Refusal(CATALOGUE[132000].saying(details))
