"""The parts that interactive messages share: headers, bodies, footers and labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Annotated, Literal

from waemitter.whatsapp.payloads.content import Document, Media
from waemitter.whatsapp.payloads.shapes import Kinds, Shape, Trimmed, words

Label = Annotated[str, words(20), Trimmed]


def repeated(values: Iterable[Hashable]) -> int | None:
    """Return the place of the first value that was there before."""
    seen: set[Hashable] = set()
    for place, value in enumerate(values):
        if value in seen:
            return place
        seen.add(value)
    return None


class TextHeader(Shape):
    text: Annotated[str, words(60)]
    sub_text: Annotated[str, words(60, least=0)] | None = None


class OnlyTextHeader(TextHeader):
    type: Literal["text"]


class ImageHeader(Shape):
    image: Media


class VideoHeader(Shape):
    video: Media


class DocumentHeader(Shape):
    document: Document


Header = Annotated[
    Shape,
    Kinds(
        {
            "text": TextHeader,
            "image": ImageHeader,
            "video": VideoHeader,
            "document": DocumentHeader,
        }
    ),
]


class Body(Shape):
    text: Annotated[str, words(1024)]


class Footer(Shape):
    text: Annotated[str, words(60)]


class Around(Shape):
    """What stands above and below the body of an interactive message."""

    header: Header | None = None
    footer: Footer | None = None


class Message(Around):
    body: Body
