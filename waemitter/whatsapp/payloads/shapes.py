"""The grammar in which the Cloud API's objects are described.

An object is a `Shape`, with the fields that Meta documents. `words` limits a text, `items` a list
and `within` a number; `Kinds` lets an object's own `type` say which shape it has; `advice` is a
complaint in own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

TAG = "@"
"""Opens the steps of an error's location that are a choice of `Kinds`, and no key of the payload."""


class Shape(BaseModel):
    """An object of the Cloud API. Keys that it does not name pass unseen: Meta adds some every month."""

    # Meta's own examples write numbers quoted and bare, so neither spelling is a mistake. A type is
    # built at its first message, so that commands which send nothing need not wait for it.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, defer_build=True)


def words(most: int, *, least: int = 1) -> Any:
    """Limit a text to `least` to `most` characters; Meta counts code points."""
    return Field(min_length=least, max_length=most)


def items(most: int | None = None, *, least: int = 1) -> Any:
    """Limit a list to `least` to `most` items."""
    return Field(min_length=least, max_length=most)


def within(low: float, high: float) -> Any:
    """Limit a number, which may be written as text."""
    return Field(ge=low, le=high, allow_inf_nan=False)


def advice(reason: str, *at: str | int) -> PydanticCustomError:
    """Return an error to raise in a validator; `at` leads from its object to the field."""
    return PydanticCustomError("advice", "{reason}", {"reason": reason, "at": at})


def like(pattern: str, reason: str) -> AfterValidator:
    """Let only a text pass that has this pattern from end to end."""
    whole = re.compile(pattern)

    def matched(text: str) -> str:
        if whole.fullmatch(text):
            return text
        raise advice(reason)

    return AfterValidator(matched)


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise advice("begins or ends with a blank: remove it")
    return text


def _web_address(text: str) -> str:
    if text and not text.lower().startswith(("http://", "https://")):
        raise advice("must begin with http:// or https://")
    return text


Word = Annotated[str, Field(min_length=1)]
Trimmed = AfterValidator(_trimmed)
WebAddress = Annotated[str, AfterValidator(_web_address)]


class Typed(Shape):
    """An object of a kind that is not known here: it only has to say which."""

    type: Word


class Kinds:
    """Describe an object whose `type`, in any case, names its shape; others are only `Typed`."""

    def __init__(self, shapes: Mapping[str, type[Shape]]) -> None:
        self._shapes = shapes
        self._tags = {name: TAG + name for name in shapes}

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        shapes: dict[str, type[Shape]] = {TAG: Typed}
        shapes |= {self._tags[name]: shape for name, shape in self._shapes.items()}
        choices = {tag: handler.generate_schema(shape) for tag, shape in shapes.items()}
        return core_schema.tagged_union_schema(choices, discriminator=self._tag)

    def _tag(self, given: Any) -> str:
        try:
            kind = given["type"]
            return self._tags.get(kind) or self._tags.get(kind.lower(), TAG)
        except (TypeError, KeyError, AttributeError):
            return TAG
