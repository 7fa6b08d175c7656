"""Whether Meta lets a number send, as the node of the number itself tells it; and for how long a token is good.

`GET /{phone number id}?fields=health_status` is the probe before a paused number is used again: it
costs no message, and it fails in the same way as sending does when the token is no good.

`GET /debug_token?input_token={token}` tells a token's own expiry (Graph API reference, Debug-Token: `expires_at` in seconds since
1970, 0 for one that never expires); a token may ask of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
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


def read_expiry(reply: Reply) -> float | None:
    """When the token expires, in seconds since 1970, `inf` for never; None when Meta does not say."""
    if not isinstance(reply, Answered) or reply.status != _OK:
        return None
    try:
        expires = orjson.loads(reply.body)["data"]["expires_at"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if not isinstance(expires, int) or isinstance(expires, bool) or expires < 0:
        return None
    return float(expires) or inf


def _problems(status: dict[str, Any]) -> list[str]:
    entities = status.get("entities")
    return [
        f"{entity.get('entity_type')}: {error.get('error_description')}"
        for entity in (entities if isinstance(entities, list) else [])
        if isinstance(entity, dict)
        for error in entity.get("errors") or []
        if isinstance(error, dict)
    ]
