"""Settings of what comes in: windows, turns, sessions, dead letters, and who answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from waemitter.inbox.optout_words import LANGUAGES
from waemitter.inbox.windows import Window
from waemitter.settings.durations import Duration, Durations, split_list
from waemitter.settings.metadata import Group, Kind, setting
from waemitter.settings.values import Secret, Secrets, Token, Url, fingerprint, lowered

Signatures = Annotated[Literal["require", "if-present", "off"], BeforeValidator(lowered)]
BufferMode = Annotated[Literal["fixed", "sliding", "off"], BeforeValidator(lowered)]


OptOutScope = Annotated[Literal["channel", "all"], BeforeValidator(lowered)]
Words = Annotated[tuple[str, ...], BeforeValidator(split_list), Kind("list of words")]


def _check_languages(value: tuple[str, ...]) -> tuple[str, ...]:
    for language in value:
        if language not in LANGUAGES:
            raise ValueError(f"has no words of '{language}', only of {', '.join(LANGUAGES)}")
    return value


Languages = Annotated[
    tuple[str, ...],
    BeforeValidator(split_list),
    AfterValidator(_check_languages),
    Kind("list of languages"),
]


def silenced(reply: str | None) -> str | None:
    """A confirmation as the inbox takes it: an empty one is none at all."""
    return "" if reply is not None and reply.strip().lower() == "none" else reply


class InboxSettings(Group):
    spool_dir: Path | None = setting(
        None,
        "Where webhooks are kept while Postgres is away: a directory on a local disk. Without it they are "
        "answered with 503, and Meta delivers them again.",
    )
    spool_max_bytes: int = setting(
        1024**3, "The most that is kept there; beyond it the answer is 503.", ge=1024**2
    )
    buffer_mode: BufferMode = setting(
        "fixed",
        "When a window closes: `fixed` counts from its first message, `sliding` from its last "
        "(capped by the age), `off` makes each message its own turn.",
    )
    buffer_duration: Duration = setting(
        30.0,
        "How long a window stays open.",
        old={"MESSAGE_BUFFER_DURATION_MS": "ms"},
        gt=0,
    )
    buffer_max_size: int = setting(
        50, "Messages that close a window at once.", old={"MAX_BUFFER_SIZE": ""}, ge=1
    )
    buffer_max_age: Duration = setting(
        300.0,
        "The age at which a window closes in any case.",
        old={"MAX_BUFFER_AGE_MS": "ms"},
        gt=0,
    )
    sweep_interval: Duration = setting(
        10.0,
        "How often due windows are looked for that no notification told of.",
        old={"BUFFER_PROCESSING_INTERVAL_MS": "ms"},
        gt=0,
    )
    takeover: Duration = setting(
        4 * 3600.0,
        "How long a conversation is a human's after a colleague wrote in it with the app on the phone, or an agent in "
        "Chatwoot, or a handler handed it over.",
        gt=0,
    )
    lock_lease: Duration = setting(
        120.0,
        "How long a conversation stays locked when its daemon died; renewed at a third of it.",
        gt=0,
    )

    @property
    def window(self) -> Window:
        """That of routes without one of their own."""
        return Window(
            mode=self.buffer_mode,
            duration=self.buffer_duration,
            max_size=self.buffer_max_size,
            max_age=self.buffer_max_age,
        )


class OptOutSettings(Group):
    languages: Languages = setting(
        tuple(LANGUAGES),
        "Whose words for STOP and START count; of a word that several have, the first one answers.",
    )
    stop_words: Words = setting(
        (), "Further words that stop all messages, when they are the whole message."
    )
    start_words: Words = setting((), "Further words that take it back.")
    stop_reply: str | None = setting(
        None, "The confirmation of a STOP, instead of the language's own; `none` sends none."
    )
    start_reply: str | None = setting(
        None, "The confirmation of a START, instead of the language's own; `none` sends none."
    )
    scope: OptOutScope = setting(
        "channel", "Where a STOP counts: on the `channel` that it was sent to, or on `all`."
    )


class MediaSettings(Group):
    directory: Path | None = setting(
        None,
        "Where files that customers send are kept. Without it, or a bucket, they are not fetched, and Meta forgets "
        "them after seven days.",
    )
    s3_bucket: str | None = setting(
        None,
        "An S3-compatible bucket to keep them in instead; needs `waemitter[s3]`.",
        min_length=3,
        max_length=63,
    )
    s3_prefix: str = setting("", "What the keys in the bucket begin with.")
    s3_endpoint: Url | None = setting(None, "The address of another provider than AWS.")
    s3_region: str | None = setting(None, "The bucket's region.", environment="AWS_REGION")
    s3_access_key_id: Token | None = setting(
        None,
        "The key to the bucket; without one, the role of the machine or task is asked for.",
        environment="AWS_ACCESS_KEY_ID",
        secret=True,
    )
    s3_secret_access_key: Token | None = setting(
        None, "The key's secret.", environment="AWS_SECRET_ACCESS_KEY", secret=True
    )
    max_bytes: int = setting(
        100 * 1024**2, "The largest file that is fetched; a larger one is a dead letter.", ge=1
    )
    patience: Duration = setting(
        5.0,
        "How long a turn may wait for files that are being fetched; then its handler is told that they are `pending`. At "
        "most a quarter of the lock's lease.",
        ge=0,
    )
    keep: Duration = setting(
        30 * 86_400.0, "How long they are kept; at least two days.", ge=2 * 86_400.0
    )

    @property
    def kept(self) -> bool:
        """Whether there is a place for them."""
        return self.directory is not None or self.s3_bucket is not None


class TurnsSettings(Group):
    forward_timeout: Duration = setting(
        4.0,
        "How long an http handler may take to answer.",
        old={"WA_ROUTER_TIMEOUT_MS": "ms"},
        gt=0,
    )
    timeout: Duration = setting(
        60.0, "How long any handler may take; then its turn is tried again.", gt=0
    )
    concurrency: int = setting(
        256,
        "Most turns that one daemon works on at once; one that waits for its handler costs some memory, and no connection.",
        ge=1,
    )
    max_attempts: int = setting(
        3, "Tries of a turn; then it is a dead letter, which has retries of its own.", ge=1
    )
    enhanced: bool = setting(
        True,  # noqa: FBT003 - the first argument is the default, whatever its type
        "`false` does without windows, supersede and agents; claims, locks and dead letters stay. When it is set, the "
        "switch `enhanced_processing` in the table feature_flags has no say.",
        old={"WA_ENHANCED_PROCESSING": ""},
    )
    contact_rate: int = setting(
        20, "Messages a minute of one contact that are answered; the rest are journalled.", ge=1
    )

    @property
    def flag(self) -> bool | None:
        """`enhanced` where it is set; None: the table feature_flags says."""
        return self.enhanced if "enhanced" in self.model_fields_set else None


class SessionsSettings(Group):
    ttl: Duration = setting(
        86_400.0,
        "How long a session outlives its last message.",
        old={"SESSION_TTL_HOURS": "h"},
        gt=0,
    )


class DlqSettings(Group):
    interval: Duration = setting(300.0, "How often dead letters are retried.", gt=0)
    batch_size: int = setting(50, "Most dead letters in one run.", ge=1)
    retry_delays: Durations = setting((120.0, 240.0, 480.0), "The wait before each retry.")
    max_retries: int = setting(3, "Retries before a dead letter is abandoned.", ge=0)


class OpenAISettings(Group):
    api_key: Token | None = setting(
        None,
        "The key of the model's provider.",
        environment="OPENAI_API_KEY",
        old={"AI_API_KEY": ""},
        secret=True,
    )
    base_url: Url | None = setting(
        None,
        "Another provider that speaks OpenAI's language.",
        environment="OPENAI_BASE_URL",
    )


class ChatwootSettings(Group):
    base_url: Url | None = setting(
        None, "The Chatwoot to work with.", environment="CHATWOOT_BASE_URL"
    )
    api_token: Token | None = setting(
        None,
        "The access token of an agent or a bot.",
        environment="CHATWOOT_API_TOKEN",
        secret=True,
    )
    account_id: int | None = setting(
        None, "The account's number.", environment="CHATWOOT_ACCOUNT_ID", ge=1
    )
    inbox_id: int | None = setting(
        None,
        "The inbox of the channel `chatwoot`, which there is when no `[[channels]]` table is of that kind; "
        "without it every inbox of the account, and no conversation can be begun from here.",
        ge=1,
    )
    webhook_secrets: Secrets = setting(
        (),
        "What Chatwoot signs its webhooks with; several, comma-separated: an API inbox has one of its own.",
        environment="CHATWOOT_WEBHOOK_SECRET",
        secret=True,
    )
    webhook_path: Secret | None = setting(
        None,
        "For servers that do not sign (before 4.11.2): webhooks come to `/webhooks/chatwoot/<this>`.",
        secret=True,
    )
    signatures: Signatures = setting(
        "if-present",
        "`require` takes signed webhooks alone; `if-present` also those that come by the secret path or with a key "
        "of the scope `trigger`; `off` looks at no signature, for servers that sign with another key.",
    )
    assignment: bool = setting(
        True,  # noqa: FBT003 - the first argument is the default, whatever its type
        "Whoever is assigned to a conversation in Chatwoot has it: `false` when an automation assigns everybody.",
    )
    desk: str | None = setting(
        None,
        "The channel of kind `chatwoot` that gets what customers write while a person has their conversation, "
        "when it is in no inbox yet; without it, only those that a route sent there.",
        max_length=63,
    )
    transcript: bool = setting(
        True,  # noqa: FBT003 - the first argument is the default, whatever its type
        "A conversation that comes to an inbox begins there with a private note: what customer and bot said before.",
    )

    @property
    def token_hash(self) -> str | None:
        """What tells a new token from the old one."""
        return None if self.api_token is None else fingerprint(self.api_token)
