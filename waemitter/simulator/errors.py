"""Meta's errors as they look on the wire: in a reply, and in a failed status.

Codes, titles and HTTP statuses follow Meta's error reference of December 2025, the last edition
that gave HTTP statuses; the texts of `details` are our own, since Meta's vary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

_HREF = "/documentation/business-messaging/whatsapp/support/error-codes"


@dataclass(frozen=True, slots=True)
class GraphError:
    """One error: `status` is HTTP's, `code` is Meta's, `title` its fixed wording."""

    status: int
    code: int
    title: str
    details: str | None = None
    subcode: int | None = None
    transient: bool = False
    kind: str = "OAuthException"
    bare: bool = False
    """True for the few whose message does not start with the code."""

    def saying(self, details: str) -> GraphError:
        """Return the same error about something in particular."""
        return replace(self, details=details)

    def reply(self, trace: str) -> dict[str, Any]:
        """Return the JSON body of a refusal."""
        message = self.title if self.bare else f"(#{self.code}) {self.title}"
        error: dict[str, Any] = {"message": message, "type": self.kind, "code": self.code}
        if self.details is not None:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.transient:
            error["is_transient"] = True
        error["fbtrace_id"] = trace
        return {"error": error}

    def in_status(self) -> dict[str, Any]:
        """Return the item of `errors[]` in a status webhook."""
        return {
            "code": self.code,
            "title": self.title,
            "message": self.title,
            "error_data": {"details": self.details or self.title},
            "href": _HREF,
        }


_KNOWN: Final = (
    GraphError(401, 0, "AuthException", "The app user could not be authenticated."),
    GraphError(400, 1, "API Unknown", "Invalid request or possible server error."),
    GraphError(
        503,
        2,
        "An unexpected error has occurred. Please retry your request later.",
        transient=True,
        bare=True,
    ),
    GraphError(500, 3, "API Method", "Capability or permissions issue."),
    GraphError(400, 4, "Application request limit reached", subcode=2446079, transient=True),
    GraphError(403, 10, "Application does not have permission for this action"),
    GraphError(400, 33, "Parameter value is not valid", "The business phone number was deleted."),
    GraphError(400, 100, "Invalid parameter", "A parameter is not valid."),
    GraphError(
        401,
        190,
        "Error validating access token: Session has expired on Wednesday, 04-Nov-26 06:00:00 PST.",
        subcode=463,
        bare=True,
    ),
    GraphError(403, 200, "API Permission", "Permission is not granted or has been removed."),
    GraphError(403, 368, "Temporarily blocked for policies violations"),
    GraphError(
        400, 80007, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."
    ),
    GraphError(
        400, 80008, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."
    ),
    GraphError(400, 130403, "User is blocked", "The business has blocked this user."),
    GraphError(
        400, 130429, "Rate limit hit", "The phone number went over its throughput.", subcode=2494055
    ),
    GraphError(
        400,
        130472,
        "User's number is part of an experiment",
        "The user is in a marketing experiment group.",
    ),
    GraphError(
        403,
        130497,
        "Business account is restricted from messaging users in this country.",
        "Messages to this country are restricted for this business.",
    ),
    GraphError(500, 131000, "Something went wrong", "Unknown failure on the platform side."),
    GraphError(403, 131005, "Access denied", "Permission is not granted or has been removed."),
    GraphError(400, 131008, "Required parameter is missing", "A required parameter is missing."),
    GraphError(400, 131009, "Parameter value is not valid", "A parameter's value is not valid."),
    GraphError(500, 131016, "Service unavailable", "A service is temporarily unavailable."),
    GraphError(400, 131020, "Group is not valid", "The group is not valid."),
    GraphError(
        400,
        131021,
        "Recipient cannot be sender",
        "Sender and recipient phone number is the same.",
    ),
    GraphError(400, 131026, "Message undeliverable", "Message Undeliverable."),
    GraphError(
        400,
        131030,
        "Recipient phone number not in allowed list",
        "Recipient phone number not in allowed list: add it and try again.",
    ),
    GraphError(403, 131031, "Business Account locked", "Account has been locked."),
    GraphError(
        400,
        131037,
        "WhatsApp provided number needs display name approval before message can be sent.",
        "The display name is not approved yet.",
    ),
    GraphError(400, 131042, "Business eligibility payment issue", "The payment method failed."),
    GraphError(
        500, 131045, "Incorrect certificate", "The phone number's registration is not valid."
    ),
    GraphError(
        400,
        131047,
        "Re-engagement message",
        "The last message from this customer is over 24 hours old.",
    ),
    GraphError(
        400, 131048, "Spam rate limit hit", "Too many messages from this number were reported."
    ),
    GraphError(
        400,
        131049,
        "This message was not delivered to maintain healthy ecosystem engagement.",
        "Delivery stopped by the per-user marketing cap.",
    ),
    GraphError(
        400,
        131050,
        "Unable to deliver the message. The recipient has opted out of marketing messages from "
        "your business.",
        "Recipient stopped marketing messages.",
    ),
    GraphError(400, 131051, "Unsupported message type", "Message type is not supported."),
    GraphError(
        400, 131053, "Media upload error", "Fetching the media link ended with 404 Not Found."
    ),
    GraphError(
        400,
        131055,
        "Method not allowed",
        "Only marketing templates may be sent through this endpoint.",
    ),
    GraphError(
        400,
        131056,
        "(Business Account, Consumer Account) pair rate limit hit",
        "Too many messages to the same recipient.",
    ),
    GraphError(
        500,
        131057,
        "Account in maintenance mode",
        "Business Account is in maintenance mode.",
    ),
    GraphError(
        400,
        131062,
        "Business-scoped user id is not supported",
        "This message needs the recipient's phone number.",
    ),
    GraphError(400, 131063, "Marketing templates are disabled", "Use the marketing endpoint."),
    GraphError(400, 131064, "Classification limit reached", "The limit lifts by itself."),
    GraphError(
        400,
        132000,
        "Number of parameters does not match the expected number of params",
        "The number of parameters does not match the template.",
    ),
    GraphError(
        404,
        132001,
        "Template name does not exist in the translation",
        "The template does not exist in this language.",
    ),
    GraphError(400, 132005, "Template hydrated text too long", "The translated text is too long."),
    GraphError(
        400,
        132007,
        "Template format character policy violated",
        "The template's content breaks a policy.",
    ),
    GraphError(
        400,
        132012,
        "Parameter format does not match format in the created template",
        "A parameter has the wrong format.",
    ),
    GraphError(400, 132015, "Template is paused", "The template is paused due to low quality."),
    GraphError(400, 132016, "Template is disabled", "The template was paused too many times."),
    GraphError(
        400,
        132018,
        "There is an issue with the parameters in your template",
        "A parameter's text breaks the rules for parameters.",
    ),
    GraphError(400, 132068, "Flow is blocked", "The flow is in blocked state."),
    GraphError(400, 132069, "Flow is throttled", "The flow is in throttled state."),
    GraphError(503, 133004, "Server temporarily unavailable", "Try again later."),
    GraphError(
        400, 133010, "Phone number not registered", "The phone number has not been registered."
    ),
    GraphError(400, 134011, "Payments terms of service not accepted", "Accept the terms first."),
    GraphError(400, 134100, "Only marketing messages supported", "The template is not marketing."),
    GraphError(400, 134101, "Template is still syncing", "Try again in ten minutes."),
    GraphError(500, 134102, "Template unavailable", "The template cannot be used."),
    GraphError(400, 135000, "Generic user error", "Unknown error with the request's parameters."),
    GraphError(
        400, 137000, "Recipient identity key hash mismatch", "The recipient's identity changed."
    ),
    GraphError(400, 2494100, "Account in maintenance mode", "The number is in maintenance mode."),
)

CATALOGUE: Final = {error.code: error for error in _KNOWN}
"""Every error that a send can meet, by code."""

BY_WEBHOOK: Final = frozenset({130472, 131026, 131047, 131049, 131050, 131053})
"""Codes that follow a 200 as a `failed` status; all others refuse the request itself."""

THROTTLES: Final = frozenset({4, 80007, 80008, 130429, 131048, 131056})
"""Codes whose HTTP status is disputed: 400 in Meta's old table, 429 in the field."""

NO_TOKEN: Final = GraphError(
    401, 104, "An access token is required to request this resource.", bare=True
)
WRONG_TOKEN: Final = GraphError(
    401, 190, "Invalid OAuth access token - Cannot parse access token", bare=True
)


def unknown_object(node: str, verb: str) -> GraphError:
    """Return what Graph says of a node that is not there; `verb` as in "get request"."""
    return GraphError(
        400,
        100,
        f"Unsupported {verb} request. Object with ID '{node}' does not exist, cannot be loaded due "
        "to missing permissions, or does not support this operation.",
        subcode=33,
        kind="GraphMethodException",
        bare=True,
    )


def unknown_path(path: str) -> GraphError:
    return GraphError(400, 2500, f"Unknown path components: {path}", bare=True)


_SHORTEST_OWN_SUFFIX = 10_000
_SUFFIXES: Final = {
    str(code) if code >= _SHORTEST_OWN_SUFFIX else f"999{code:03}": code for code in CATALOGUE
}
_SUFFIX_LENGTHS: Final = tuple(sorted({len(suffix) for suffix in _SUFFIXES}, reverse=True))


def code_of_recipient(digits: str) -> int | None:
    """Return the error code that this number stands for, being what it ends in, or None.

    Codes under 10000 would claim every hundredth number, so they are written `999` and three
    digits: …999190 is 190.
    """
    for length in _SUFFIX_LENGTHS:
        code = _SUFFIXES.get(digits[-length:])
        if code is not None:
            return code
    return None
