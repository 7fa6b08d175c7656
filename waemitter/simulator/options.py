"""Every knob of the simulator, once: its name, its default, its unit and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

Seconds = tuple[float, float]
"""A delay in seconds, drawn evenly between its two ends."""

Window = Literal["sliding", "bucket"]
Escapes = Literal["unicode", "slash", "symbols", "none"]
Health = Literal["AVAILABLE", "LIMITED", "BLOCKED"]

_FIXED_WHILE_RUNNING = frozenset({"host", "port", "webhook_connections", "seed"})
_SECRETS = frozenset({"app_secret", "access_token"})
_ONE_ROLL = (
    "drop_before",
    "drop_after",
    "hang_before",
    "hang_after",
    "html_5xx",
    "html_5xx_after",
    "cut_reply",
)
_PROBABILITIES = (
    *_ONE_ROLL,
    "read_probability",
    "skip_delivered",
    "duplicate_webhooks",
    "reorder_webhooks",
    "bad_signatures",
    "reply_probability",
)
_CHOICES: dict[str, tuple[object, ...]] = {
    "throughput_window": get_args(Window),
    "webhook_escapes": get_args(Escapes),
    "health": get_args(Health),
    "throttle_http_status": (400, 429),
}


def _says(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the simulated platform behaves; without arguments: Meta on a good day, and no webhooks.

    Raises `ValueError`, naming the option, for a value outside its range.
    """

    host: str = field(default="127.0.0.1", metadata=_says("address to listen on"))
    port: int = field(default=0, metadata=_says("port to listen on; 0 = any free one"))
    webhook_url: str | None = field(
        default=None, metadata=_says("where webhooks are POSTed; without it none are sent")
    )
    app_secret: str = field(
        default="simulator-app-secret", metadata=_says("key of X-Hub-Signature-256")
    )
    access_token: str | None = field(
        default=None, metadata=_says("the only token accepted; without it any token is")
    )
    phone_number_ids: tuple[str, ...] = field(
        default=(), metadata=_says("the numbers that exist; none given = any")
    )
    waba_id: str = field(
        default="214700000000001", metadata=_says("id of the WhatsApp Business Account")
    )
    api_version: str = field(
        default="v24.0", metadata=_says("version assumed when the path names none")
    )

    messages_per_second: int = field(
        default=80, metadata=_says("throughput of each number; 0 = no limit (130429)")
    )
    throughput_window: Window = field(
        default="sliding", metadata=_says("sliding: any one second; bucket: refilled")
    )
    count_inbound: bool = field(default=False, metadata=_says("inbound uses up throughput too"))
    pair_seconds: float = field(
        default=6.0, metadata=_says("seconds between messages to one user; 0 = off (131056)")
    )
    pair_burst: int = field(
        default=45, metadata=_says("messages to one user that may be borrowed from the future")
    )
    throttle_http_status: int = field(
        default=400, metadata=_says("HTTP status of throttling errors: 400 or 429")
    )

    latency: float = field(default=0.0, metadata=_says("seconds between acceptance and reply"))
    jitter: float = field(default=0.0, metadata=_says("up to so many more seconds of latency"))
    error_mix: Mapping[int, float] = field(
        default_factory=dict, metadata=_says("probability of each error code")
    )
    error_recipients: bool = field(
        default=True, metadata=_says("recipients that end in an error code's digits get that error")
    )
    drop_before: float = field(
        default=0.0, metadata=_says("probability: connection closed, message not accepted")
    )
    drop_after: float = field(
        default=0.0, metadata=_says("probability: connection closed, message accepted")
    )
    hang_before: float = field(
        default=0.0, metadata=_says("probability: no reply ever, message not accepted")
    )
    hang_after: float = field(
        default=0.0, metadata=_says("probability: no reply ever, message accepted")
    )
    html_5xx: float = field(
        default=0.0, metadata=_says("probability: 502 with HTML, message not accepted")
    )
    html_5xx_after: float = field(
        default=0.0, metadata=_says("probability: 502 with HTML, message accepted")
    )
    cut_reply: float = field(
        default=0.0, metadata=_says("probability: the reply of an accepted message breaks off")
    )

    statuses: bool = field(default=True, metadata=_says("send status webhooks"))
    sent_delay: Seconds = field(
        default=(0.02, 0.1), metadata=_says("seconds from acceptance to sent (or failed)")
    )
    delivered_delay: Seconds = field(
        default=(0.05, 0.3), metadata=_says("seconds from sent to delivered")
    )
    read_delay: Seconds = field(
        default=(0.1, 0.6), metadata=_says("seconds from delivered to read")
    )
    read_probability: float = field(
        default=1.0, metadata=_says("probability that a message is read")
    )
    skip_delivered: float = field(
        default=0.0, metadata=_says("probability of read without delivered")
    )
    duplicate_webhooks: float = field(
        default=0.0, metadata=_says("probability that a POST is made twice")
    )
    reorder_webhooks: float = field(
        default=0.0, metadata=_says("probability that a message's statuses come unordered")
    )
    bad_signatures: float = field(
        default=0.0, metadata=_says("probability that a first POST is signed wrongly")
    )
    webhook_batch: int = field(
        default=1, metadata=_says("most updates in one POST; Meta's limit is 1000")
    )
    webhook_batch_wait: float = field(default=0.0, metadata=_says("seconds to gather a batch"))
    webhook_timeout: float = field(
        default=10.0, metadata=_says("seconds the receiver has to answer 200")
    )
    webhook_retry_initial: float = field(
        default=0.5, metadata=_says("seconds before the first redelivery; doubles")
    )
    webhook_retry_max: float = field(
        default=30.0, metadata=_says("most seconds between redeliveries")
    )
    webhook_retry_for: float = field(
        default=604_800.0, metadata=_says("seconds until a webhook is given up (7 days)")
    )
    webhook_connections: int = field(default=16, metadata=_says("POSTs in parallel"))
    webhook_escapes: Escapes = field(
        default="unicode", metadata=_says("unicode, slash (and \\/), symbols (and <%@)")
    )

    reply_probability: float = field(
        default=0.0, metadata=_says("probability that the customer writes back")
    )
    reply_delay: Seconds = field(
        default=(0.2, 1.0), metadata=_says("seconds from delivery to the customer's reply")
    )
    enforce_window: bool = field(
        default=False, metadata=_says("free-form outside the service window fails (131047)")
    )
    window_seconds: float = field(
        default=86_400.0, metadata=_says("seconds a customer's message opens the window for")
    )
    require_media: bool = field(default=False, metadata=_says("refuse media ids never uploaded"))
    media_url_seconds: float = field(
        default=300.0, metadata=_says("seconds a media download address lives")
    )
    model_latency: float = field(
        default=0.0, metadata=_says("seconds until the language model answers")
    )
    model_reply: str = field(
        default="You wrote: {text}",
        metadata=_says(
            "what it answers without a script; {text} is the last message it was shown, {n} counts"
        ),
    )
    health: Health = field(default="AVAILABLE", metadata=_says("can_send_message in health_status"))
    token_seconds: float = field(
        default=0.0, metadata=_says("seconds until tokens expire, as debug_token tells; 0 = never")
    )
    seed: int | None = field(
        default=None, metadata=_says("makes faults and delays repeatable; ids stay unique")
    )

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            _require(0 <= getattr(self, name) <= 1, name, "a probability from 0 to 1")
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, name, f"one of {choices}")
        for option in fields(self):
            self._check_number(option.name)
        _require(self.webhook_batch >= 1, "webhook_batch", "at least 1")
        _require(self.webhook_connections >= 1, "webhook_connections", "at least 1")
        _require(self.pair_burst >= 1, "pair_burst", "at least 1")
        _require(all(0 <= p <= 1 for p in self.error_mix.values()), "error_mix", "probabilities")
        _require(sum(self.error_mix.values()) <= 1, "error_mix", "at most 1 in all")
        _require(sum(getattr(self, n) for n in _ONE_ROLL) <= 1, "faults", "at most 1 in all")

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        if name.endswith("_delay"):
            _require(0 <= value[0] <= value[1], name, "two seconds, the lower first")
        elif isinstance(value, int | float) and name != "seed":
            _require(value >= 0, name, "not negative")

    def changed(self, changes: Mapping[str, Any]) -> Options:
        """Return a copy with `changes`, whose values may come straight from JSON.

        Raises `ValueError` for an unknown name, a bad value, or an option that needs a restart.
        """
        known = {option.name for option in fields(self)}
        for name, value in changes.items():
            _require(name in known, name, "the name of an option")
            if value != getattr(self, name):
                _require(name not in _FIXED_WHILE_RUNNING, name, "set before the start")
        return replace(self, **{name: self._coerced(name, changes[name]) for name in changes})

    def _coerced(self, name: str, value: Any) -> Any:
        if name == "error_mix":
            _require(isinstance(value, Mapping), name, "an object of code: probability")
            return {int(code): float(share) for code, share in value.items()}
        default = type(self).__dataclass_fields__[name].default
        if isinstance(default, tuple):
            _require(isinstance(value, list | tuple), name, "a list")
            return tuple(value)
        wanted = int | float if isinstance(default, float) else type(default)
        if default is None:
            wanted = str | type(None)
        true_or_false = isinstance(value, bool) == isinstance(default, bool)
        _require(isinstance(value, wanted) and true_or_false, name, f"like {default!r}")
        return value

    def public(self) -> dict[str, Any]:
        """All options as JSON-ready values, secrets blotted out."""
        shown = asdict(self)
        shown["error_mix"] = {str(code): share for code, share in self.error_mix.items()}
        return shown | {name: "***" for name in _SECRETS if shown[name] is not None}


def _require(fulfilled: bool, name: str, wanted: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not fulfilled:
        raise ValueError(f"{name}: must be {wanted}")
