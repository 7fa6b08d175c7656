"""A model's Markdown as WhatsApp shows it, in messages that are short enough.

WhatsApp knows *bold*, _italic_, ~struck~, `code`, ```blocks```, lists and quotes; the body of a text has at most 4,096 characters
(Cloud API, text messages).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from waemitter.errors import UsageError

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

LONGEST: Final = 4096

_MISSING: Final = "an agent is configured, and the package markdown-it-py is not installed: pip install 'waemitter[agents]'"
_MARKS: Final[Mapping[str, str]] = MappingProxyType({"strong": "*", "em": "_", "s": "~"})
_ENDS: Final = (
    re.compile(r"(?=\n\s*\n)"),
    re.compile(r"(?=\n)"),
    re.compile(r"[.!?…][\"'”’)\]*_~]*(?=\s)|[。！？।]"),  # noqa: RUF001  these end sentences
    re.compile(r"(?=\s)"),
)
"""Where a text may be cut, the best place first: between paragraphs, lines, sentences, words."""


def whatsapp(markdown: str) -> str:
    """Turn Markdown into WhatsApp's own marks; what has no counterpart becomes plain text, and nothing is lost."""
    return _blocks(_parser()(markdown).children)


@cache
def _parser() -> Callable[[str], SyntaxTreeNode]:
    try:
        from markdown_it import MarkdownIt  # noqa: PLC0415  only where an agent is configured
        from markdown_it.tree import SyntaxTreeNode  # noqa: PLC0415  as above
    except ImportError:
        raise UsageError(_MISSING) from None
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return lambda markdown: SyntaxTreeNode(parser.parse(markdown))


def split(text: str, longest: int = LONGEST) -> list[str]:
    """Cut a text into pieces of at most so many characters, at paragraphs, lines, sentences or words, whichever fits first.

    A place in the first half of a piece is taken only when there is no other. Nothing but white space is lost.
    """
    pieces = []
    rest = text.strip()
    while len(rest) > longest:
        end = _end(rest, longest)
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*pieces, rest] if rest else pieces


def _end(text: str, longest: int) -> int:
    # One character more than fits: a piece may end right before a blank.
    best = [
        max((match.end() for match in end.finditer(text, 1, longest + 1)), default=0)
        for end in _ENDS
    ]
    fitting = [place for place in best if 0 < place <= longest]
    return next(
        (place for place in fitting if place >= longest // 2), max(fitting, default=longest)
    )


def _blocks(nodes: Sequence[SyntaxTreeNode], *, tight: bool = False) -> str:
    return ("\n" if tight else "\n\n").join(filter(None, map(_block, nodes)))


def _block(node: SyntaxTreeNode) -> str:  # noqa: PLR0911  a table
    match node.type:
        case "heading":
            words = _inline(node.children, plain=True)
            return f"*{words}*" if words else ""
        case "fence" | "code_block":
            return f"```\n{node.content.rstrip()}\n```"
        case "blockquote":
            return "\n".join(f"> {line}" for line in _blocks(node.children).splitlines())
        case "bullet_list" | "ordered_list":
            return "\n".join(_items(node))
        case "table":
            rows = [row for part in node.children for row in part.children]
            return "\n".join(
                " | ".join(_inline(cell.children) for cell in row.children) for row in rows
            )
        case "hr":
            return "———"
        case "inline":
            return _inline([node])
        case _:
            return _inline(node.children)


def _items(node: SyntaxTreeNode) -> Iterator[str]:
    start = int(node.attrs.get("start", 1))
    for number, item in enumerate(node.children, start):
        mark = f"{number}. " if node.type == "ordered_list" else "- "
        first, *more = _blocks(item.children, tight=True).splitlines() or [""]
        yield "\n".join([mark + first, *(f"  {line}" for line in more)])


def _inline(nodes: Sequence[SyntaxTreeNode], *, plain: bool = False) -> str:
    return "".join(_span(node, plain=plain) for node in nodes)


def _span(node: SyntaxTreeNode, *, plain: bool) -> str:  # noqa: PLR0911  a table
    within: Callable[[], str] = lambda: _inline(node.children, plain=plain)  # noqa: E731
    if node.type in _MARKS:
        mark = "" if plain else _MARKS[node.type]
        return f"{mark}{within()}{mark}"
    match node.type:
        case "text" | "text_special" | "html_inline":
            return node.content
        case "code_inline":
            return node.content if plain else f"`{node.content}`"
        case "softbreak" | "hardbreak":
            return "\n"
        case "link":
            words, address = within(), str(node.attrs["href"])
            return address if words in {address, ""} else f"{words} ({address})"
        case "image":
            words, address = node.content, str(node.attrs["src"])
            return f"{words} ({address})" if words else address
        case _:
            return within()
