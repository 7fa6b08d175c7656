"""Every error that waemitter raises on purpose, in one tree.

WaemitterError
├── UsageError            a setting or an argument is wrong             (exit 2)
├── SchemaNotSupported    the database's schema is not this release's   (exit 4)
├── DatabaseUnreachable   Postgres does not answer                      (exit 1)
├── NotFound              what was asked for does not exist             (exit 1; a 404)
├── CampaignEnded         a cancelled campaign takes no messages        (exit 1; a 409)
├── UploadFailed          Meta did not take a file                      (exit 1; a 502)
├── DownloadFailed        a customer's file could not be fetched        (whatsapp.inbound_media; tried again)
├── PayloadError          a row that cannot become a Cloud API request  (the row fails, nothing else)
├── HandlerFailed         a turn without an answer                      (turns.turn; a retry, or a dead letter)
├── Unusable              an item of a webhook that can have no effect  (inbox.splitter; it stays a dead letter)
└── NotJson               a webhook whose body is no JSON object        (whatsapp.webhooks; a 400)

Each message is one line that says what to do.
"""


class WaemitterError(Exception):
    """The root: whoever embeds waemitter catches this."""

    exit_code = 1


class UsageError(WaemitterError):
    """A setting or an argument is wrong; the message names it and says what would be right."""

    exit_code = 2


class SchemaNotSupported(WaemitterError):
    """The schema in the database is missing, older or newer than what this release knows."""

    exit_code = 4


class DatabaseUnreachable(WaemitterError):
    """No connection to Postgres could be made."""


class NotFound(WaemitterError):
    """What was asked for does not exist; the message names it."""


class CampaignEnded(WaemitterError):
    """The campaign's status does not allow what was asked of it."""


class UploadFailed(WaemitterError):
    """Meta did not take a file; the message has its words."""


class PayloadError(WaemitterError):
    """A row cannot be rendered; `field` names the column or JSON path at fault."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
