"""Template messages: what fills the variables of an approved template.

How many parameters a template takes, and of which kind, only Meta knows: it answers 132000 or 132012.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from waemitter.whatsapp.payloads.content import Document, Location, Media
from waemitter.whatsapp.payloads.shapes import (
    Kinds,
    Shape,
    Word,
    advice,
    items,
    like,
    within,
    words,
)


class Parameter(Shape):
    parameter_name: Annotated[str, words(20)] | None = None


class TextParameter(Parameter):
    text: Annotated[str, words(32_768)]


class Currency(Shape):
    """An amount in thousandths of an ISO 4217 currency."""

    fallback_value: Word
    code: Annotated[str, like("[A-Za-z]{3}", "must be three letters, like EUR")]
    amount_1000: float


class CurrencyParameter(Parameter):
    currency: Currency


class DateTime(Shape):
    fallback_value: Word


class DateTimeParameter(Parameter):
    date_time: DateTime


class ImageParameter(Parameter):
    image: Media


class VideoParameter(Parameter):
    video: Media


class DocumentParameter(Parameter):
    document: Document


class LocationParameter(Parameter):
    location: Location


class PayloadParameter(Parameter):
    payload: str


class CouponParameter(Parameter):
    coupon_code: Word


class LifetimeParameter(Parameter):
    ttl_minutes: Annotated[int, within(1, 43_200)]


PARAMETERS = Kinds(
    {
        "text": TextParameter,
        "currency": CurrencyParameter,
        "date_time": DateTimeParameter,
        "image": ImageParameter,
        "video": VideoParameter,
        "document": DocumentParameter,
        "location": LocationParameter,
        "payload": PayloadParameter,
        "coupon_code": CouponParameter,
        "ttl_minutes": LifetimeParameter,
    }
)


class Component(Shape):
    parameters: list[Annotated[Shape, PARAMETERS]] | None = None


class Button(Component):
    sub_type: Word
    index: Annotated[int, within(0, 9)] | None = None

    @model_validator(mode="after")
    def _is_placed_and_filled(self) -> Self:
        kind = self.sub_type.lower()
        # Meta's own example of the call button has no index.
        if self.index is None and kind != "voice_call":
            raise advice("is missing: say which button is meant, from 0 to 9", "index")
        if kind == "url" and not self.parameters:
            raise advice("is missing: give the end of the link as a text parameter", "parameters")
        return self


PARTS = {"header": Component, "body": Component, "footer": Component, "button": Button}


class Card(Shape):
    card_index: Annotated[int, within(0, 9)]
    components: list[Annotated[Shape, Kinds(PARTS)]] | None = None


class Carousel(Shape):
    cards: Annotated[list[Card], items(10)]


class Language(Shape):
    code: Word


class Template(Shape):
    name: Annotated[str, words(512)]
    language: Language
    components: list[Annotated[Shape, Kinds({**PARTS, "carousel": Carousel})]] | None = None
