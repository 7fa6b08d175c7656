"""Interactive messages: buttons, lists, flows, products and the rest, with Meta's limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from waemitter.whatsapp.payloads.parts import (
    Around,
    Body,
    Footer,
    Header,
    Label,
    Message,
    OnlyTextHeader,
    repeated,
)
from waemitter.whatsapp.payloads.shapes import (
    Kinds,
    Shape,
    Trimmed,
    Word,
    advice,
    items,
    within,
    words,
)

MOST_ROWS: Final = 10
MOST_PRODUCTS: Final = 30
MOST_LINE_BREAKS: Final = 2


class Reply(Shape):
    id: Annotated[str, words(256), Trimmed]
    title: Label


class ReplyButton(Shape):
    reply: Reply


class Buttons(Shape):
    buttons: Annotated[list[Annotated[Shape, Kinds({"reply": ReplyButton})]], items(3)]

    @model_validator(mode="after")
    def _tells_them_apart(self) -> Self:
        replies = [button.reply for button in self.buttons if isinstance(button, ReplyButton)]
        for field in ("id", "title"):
            if (place := repeated(getattr(reply, field) for reply in replies)) is not None:
                reason = f"is another button's {field} too: each needs its own"
                raise advice(reason, "buttons", place, "reply", field)
        return self


class ButtonMessage(Message):
    action: Buttons


class Section(Shape):
    title: Annotated[str, words(24, least=0)] | None = None


def _check_titles(sections: Sequence[Section]) -> None:
    for place, section in enumerate(sections):
        if len(sections) > 1 and not section.title:
            reason = "is missing: each of several sections needs a title"
            raise advice(reason, "sections", place, "title")


class Row(Shape):
    id: Annotated[str, words(200), Trimmed]
    title: Annotated[str, words(24), Trimmed]
    description: Annotated[str, words(72, least=0)] | None = None


class RowSection(Section):
    rows: Annotated[list[Row], items(MOST_ROWS)]


class List(Shape):
    button: Label
    sections: Annotated[list[RowSection], items(10)]

    @model_validator(mode="after")
    def _fits_one_screen(self) -> Self:
        places = [
            (place, row)
            for place, section in enumerate(self.sections)
            for row in range(len(section.rows))
        ]
        if len(places) > MOST_ROWS:
            reason = f"hold {len(places)} rows in all: at most {MOST_ROWS} are allowed"
            raise advice(reason, "sections")
        _check_titles(self.sections)
        again = repeated(row.id for section in self.sections for row in section.rows)
        if again is not None:
            section, row = places[again]
            reason = "is another row's id too: each needs its own"
            raise advice(reason, "sections", section, "rows", row, "id")
        return self


class ListBody(Shape):
    text: Annotated[str, words(4096)]


class ListMessage(Shape):
    header: OnlyTextHeader | None = None
    body: ListBody
    footer: Footer | None = None
    action: List


def _whole_address(text: str) -> str:
    if ":" not in text:
        raise advice("must be a whole address, like https://example.com")
    return text


class LinkButton(Shape):
    display_text: Label
    url: Annotated[Word, AfterValidator(_whole_address)]


class LinkAction(Shape):
    name: Literal["cta_url"]
    parameters: LinkButton


class LinkMessage(Message):
    action: LinkAction


class Flow(Shape):
    flow_message_version: Word
    flow_cta: Annotated[str, words(30), Trimmed]
    flow_id: str | None = None
    flow_name: str | None = None
    flow_token: str | None = None
    flow_action_payload: Shape | None = None

    @model_validator(mode="after")
    def _names_one_flow(self) -> Self:
        if self.flow_id and self.flow_name:
            raise advice("is given beside flow_id: give one of them", "flow_name")
        if not self.flow_id and not self.flow_name:
            raise advice("is missing: give flow_id, or flow_name instead", "flow_id")
        return self


class FlowAction(Shape):
    name: Literal["flow"]
    parameters: Flow


class FlowMessage(Message):
    action: FlowAction


class Product(Shape):
    catalog_id: Word
    product_retailer_id: Word


class ProductMessage(Around):
    body: Body | None = None
    action: Product


class ProductItem(Shape):
    product_retailer_id: Word


class ProductSection(Section):
    product_items: Annotated[list[ProductItem], items(MOST_PRODUCTS)]


class ProductList(Shape):
    catalog_id: Word
    sections: Annotated[list[ProductSection], items(10)]

    @model_validator(mode="after")
    def _fits_one_message(self) -> Self:
        products = sum(len(section.product_items) for section in self.sections)
        if products > MOST_PRODUCTS:
            reason = f"hold {products} products in all: at most {MOST_PRODUCTS} are allowed"
            raise advice(reason, "sections")
        _check_titles(self.sections)
        return self


class ProductListMessage(Message):
    header: OnlyTextHeader
    action: ProductList


class CatalogAction(Shape):
    name: Literal["catalog_message"]


class CatalogMessage(Message):
    action: CatalogAction


class LocationAction(Shape):
    name: Literal["send_location"]


class LocationRequest(Message):
    action: LocationAction


class CallButton(Shape):
    """A button that calls the business. `ttl_minutes` is how long it works: up to 30 days."""

    display_text: Annotated[str, words(20)] | None = None
    ttl_minutes: Annotated[int, within(1, 43_200)] | None = None
    payload: Annotated[str, words(512, least=0)] | None = None


class CallAction(Shape):
    name: Literal["voice_call"]
    parameters: CallButton | None = None


class CallMessage(Message):
    action: CallAction


class PermissionAction(Shape):
    name: Literal["call_permission_request"]


class PermissionRequest(Around):
    body: Body | None = None
    action: PermissionAction


class ContactAction(Shape):
    name: Literal["request_contact_info"]


class ContactRequest(Message):
    action: ContactAction


class FormAction(Shape):
    """An address form or an order: what is in it depends on the country."""

    name: Word
    parameters: Shape


class FormMessage(Message):
    action: FormAction


class CardBody(Shape):
    text: Annotated[str, words(160)]

    @model_validator(mode="after")
    def _is_flat(self) -> Self:
        if (breaks := self.text.count("\n")) > MOST_LINE_BREAKS:
            raise advice(f"has {breaks} line breaks: a card has at most two", "text")
        return self


class QuickReply(Shape):
    id: Annotated[str, words(256)]
    title: Annotated[str, words(20)]


class QuickReplyButton(Shape):
    quick_reply: QuickReply


class CardAction(Shape):
    """A link, quick replies or a product; the first two say so in their `name` and `buttons`."""

    name: str | None = None
    parameters: Shape | None = None
    buttons: list[Annotated[Shape, Kinds({"quick_reply": QuickReplyButton})]] | None = None

    def kind(self) -> tuple[str | None, int]:
        return self.name, len(self.buttons or ())


class Card(Shape):
    card_index: Annotated[int, within(0, 9)]
    header: Header | None = None
    body: CardBody | None = None
    action: CardAction


class Carousel(Shape):
    cards: Annotated[list[Card], items(10, least=2)]

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        for place, card in enumerate(self.cards):
            if card.action.kind() != self.cards[0].action.kind():
                reason = (
                    "differs from the first card's: all need the same kind and number of buttons"
                )
                raise advice(reason, "cards", place, "action")
        again = repeated(card.card_index for card in self.cards)
        if again is not None:
            raise advice("is another card's too: each needs its own", "cards", again, "card_index")
        return self


class CarouselMessage(Message):
    action: Carousel


Interactive = Annotated[
    Shape,
    Kinds(
        {
            "button": ButtonMessage,
            "list": ListMessage,
            "cta_url": LinkMessage,
            "flow": FlowMessage,
            "product": ProductMessage,
            "product_list": ProductListMessage,
            "catalog_message": CatalogMessage,
            "location_request_message": LocationRequest,
            "address_message": FormMessage,
            "carousel": CarouselMessage,
            "call_permission_request": PermissionRequest,
            "voice_call": CallMessage,
            "request_contact_info": ContactRequest,
            "order_details": FormMessage,
            "order_status": FormMessage,
        }
    ),
]
