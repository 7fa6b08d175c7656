"""Whether Meta lets a number send, as the node of the number itself tells it.

`GET /{phone number id}?fields=health_status` is the probe before a paused number is used again: it
costs no message, and it fails in the same way as sending does when the token is no good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from waemitter.whatsapp.errors import Refused, refuse
from waemitter.whatsapp.replies import Answered, Reply

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Health:
    """`can_send_message` is `AVAILABLE`, `LIMITED` or `BLOCKED`, for all entities together.

    `problems` are Meta's words about each entity that is not well (number, account, business, app).
    """

    can_send_message: str
    problems: tuple[str, ...]

    @property
    def sends(self) -> bool:
        """A limited number still sends."""
        return self.can_send_message != "BLOCKED"


def read_health(reply: Reply) -> Health | Refused:
    """Read the reply to the probe; whatever is no health status is judged like a failed send."""
    if isinstance(reply, Answered) and reply.status == _OK:
        try:
            status = orjson.loads(reply.body)["health_status"]
            return Health(str(status["can_send_message"]), tuple(_problems(status)))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return refuse(reply)
    return refuse(reply)


def _problems(status: dict[str, Any]) -> list[str]:
    entities = status.get("entities")
    return [
        f"{entity.get('entity_type')}: {error.get('error_description')}"
        for entity in (entities if isinstance(entities, list) else [])
        if isinstance(entity, dict)
        for error in entity.get("errors") or []
        if isinstance(error, dict)
    ]
