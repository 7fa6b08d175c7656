"""Texts, media, places, contact cards, reactions and pins, with Meta's limits."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import model_validator

from waemitter.whatsapp.payloads.shapes import (
    Shape,
    WebAddress,
    Word,
    advice,
    items,
    like,
    within,
    words,
)

_DATE: Final = like(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "must be a date like 1815-12-10")


class Text(Shape):
    body: Annotated[str, words(4096)]
    preview_url: bool | None = None


class Media(Shape):
    """A file: uploaded to Meta beforehand, or fetched by Meta from the web."""

    id: str | None = None
    link: WebAddress | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if self.id and self.link:
            raise advice("is given beside id: give either id (of an upload) or link", "link")
        if not self.id and not self.link:
            raise advice("is missing: give id (of an upload), or link instead", "id")
        return self


class Captioned(Media):
    caption: Annotated[str, words(1024, least=0)] | None = None


class Audio(Media):
    voice: bool | None = None


class Document(Captioned):
    filename: str | None = None


class Location(Shape):
    """A place, in decimal degrees."""

    latitude: Annotated[float, within(-90, 90)]
    longitude: Annotated[float, within(-180, 180)]
    name: str | None = None
    address: str | None = None


class Name(Shape):
    formatted_name: Word
    first_name: str | None = None
    last_name: str | None = None
    middle_name: str | None = None
    prefix: str | None = None
    suffix: str | None = None


class Contact(Shape):
    """A contact card: of all that it may hold, only the formatted name is required."""

    name: Name
    birthday: Annotated[str, _DATE] | None = None
    phones: list[Shape] | None = None
    emails: list[Shape] | None = None
    addresses: list[Shape] | None = None
    urls: list[Shape] | None = None
    org: Shape | None = None


Contacts = Annotated[list[Contact], items()]


class Reaction(Shape):
    message_id: Word
    emoji: str  # empty takes the reaction back


class Pin(Shape):
    """A message put on top of its group, or taken down again."""

    type: Literal["pin", "unpin"]
    message_id: Word
    expiration_days: Annotated[int, within(1, 30)] | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.type == "pin" and self.expiration_days is None:
            raise advice("is missing: say for how many days, from 1 to 30", "expiration_days")
        return self
