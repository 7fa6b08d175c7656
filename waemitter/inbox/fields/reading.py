"""A webhook field's value becomes its effects.

Meta's documents give the shapes (message_template_status_update, phone_number_quality_update, account_update,
user_preferences, smb_message_echoes …; read in October 2026). Reading is lenient: a word that is unknown here, or a key that is
missing, becomes `Told`, which is counted and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from waemitter.inbox.fields.effects import (
    AccountBarred,
    AccountFreed,
    Alert,
    Echo,
    Effect,
    History,
    Kind,
    NumberJudged,
    Preference,
    TemplateChanged,
    TemplateJudged,
    Told,
)
from waemitter.inbox.fields.past import past_of, progress_of
from waemitter.whatsapp.webhooks import PRODUCT, FieldChange


def read_change(change: FieldChange) -> list[Effect]:
    """What a change means; never empty, and never an error. Another product's change is merely told."""
    if change.product not in (PRODUCT, None) or not isinstance(change.value, dict):
        return [Told("other")]
    read = _READERS.get(change.field, _merely_told)
    return list(read(change.field, change.value)) or [Told(kind_of(change.field))]


def kind_of(field: str) -> Kind:
    """The closed set of kinds by which fields are counted."""
    return _KINDS.get(field, "other")


_USABLE: Final = frozenset({"APPROVED", "REINSTATED", "UNPAUSED"})
_ENDED: Final = frozenset({"REJECTED", "DISABLED", "DELETED"})
# Meta pauses for three hours, then for six, and then disables; its word that a pause is over may get lost.
_PAUSES: Final[Mapping[str, timedelta]] = MappingProxyType(
    {"FIRST_PAUSE": timedelta(hours=3), "SECOND_PAUSE": timedelta(hours=6)}
)


def _template_status(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    if _text(value, "new_quality_score"):  # one of Meta's examples has it under this field
        return _template_quality(_, value)
    name, language = _template(value)
    word = _word(value, "event")
    if not name or not word:
        return []
    reason = _text(value, "reason")
    category = _word(value, "message_template_category")
    reason = None if reason == "NONE" else reason
    if word in _USABLE:
        return [TemplateChanged(name, language, "usable", word, reason, None, category)]
    if word in _ENDED:
        return [TemplateChanged(name, language, "ended", word, reason, None, category)]
    if word == "PAUSED":
        title = _word(_object(value, "other_info"), "title")
        pause = _PAUSES.get(title or "")
        return [TemplateChanged(name, language, "paused", word, title or reason, pause, category)]
    return [Told("template", word, f"{name}/{language}")]


def _template_quality(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    name, language = _template(value)
    after = _word(value, "new_quality_score")
    if not name or not after:
        return []
    before = _word(value, "previous_quality_score")
    worse = after in {"YELLOW", "RED"}
    return [TemplateJudged(name, language, "quality", before, after, warning=worse)]


def _template_category(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    name, language = _template(value)
    after = _word(value, "new_category")
    if not name or not after:
        return []
    if coming := _word(value, "correct_category"):  # what it will be; new_category is what it is
        return [TemplateJudged(name, language, "category", after, coming, warning=True)]
    before = _word(value, "previous_category")
    return [TemplateJudged(name, language, "category", before, after)]


# Meta's older words; the newer ones name the tier alone.
_QUALITIES: Final[Mapping[str, str]] = MappingProxyType({"FLAGGED": "RED", "UNFLAGGED": "UNKNOWN"})


def _number_quality(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    word = _word(value, "event")
    if not word:
        return []
    tier = _tier(value) or _word(value, "current_limit")
    number = _digits(_text(value, "display_phone_number"))
    quality = _QUALITIES.get(word)
    return [NumberJudged(word, number, quality, tier, upgraded=word == "THROUGHPUT_UPGRADE")]


def _capability(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    tier = _tier(value)
    return [NumberJudged("CAPABILITY", tier=tier)] if tier else []


def _tier(value: dict[str, Any]) -> str | None:
    """`TIER_2K` in Meta's prose, the number 2000 in its example."""
    given = value.get("max_daily_conversations_per_business")
    if type(given) is int:
        return "TIER_UNLIMITED" if given < 0 else f"TIER_{given}"
    return _word(value, "max_daily_conversations_per_business")


_BARRED: Final = frozenset({"ACCOUNT_DELETED", "ACCOUNT_OFFBOARDED"})
_FREED: Final = frozenset({"ACCOUNT_RECONNECTED"})
_RESTRICTS_ALL: Final = "RESTRICTED_CUSTOMER_INITIATED_MESSAGING"
_RESTRICTS_TEMPLATES: Final = "RESTRICTED_BIZ_INITIATED_MESSAGING"


def _account_update(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    word = _word(value, "event")
    if not word:
        return []
    if word == "ACCOUNT_RESTRICTION":
        return _restriction(value)
    if word == "DISABLED_UPDATE":
        return _ban(value)
    if word == "ACCOUNT_VIOLATION":
        kind = _word(_object(value, "violation_info"), "violation_type")
        return [Alert(f"{word} {kind}" if kind else word, "WARNING")]
    if word in _BARRED:
        return [AccountBarred(word, None)]
    return [AccountFreed(word) if word in _FREED else Told("account", word)]


def _ban(value: dict[str, Any]) -> Sequence[Effect]:
    state = _word(_object(value, "ban_info"), "waba_ban_state") or "DISABLE"
    if state == "REINSTATE":
        return [AccountFreed("DISABLED_UPDATE REINSTATE")]
    if state == "DISABLE":
        return [AccountBarred("DISABLED_UPDATE DISABLE", None)]
    return [Alert(f"DISABLED_UPDATE {state}", "WARNING")]  # SCHEDULE_FOR_DISABLE: not yet


def _restriction(value: dict[str, Any]) -> Sequence[Effect]:
    """Of the restrictions only those of messaging stop us; several may run to different times."""
    given = value.get("restriction_info")
    found = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    effects: list[Effect] = []
    for kind, everything in ((_RESTRICTS_ALL, True), (_RESTRICTS_TEMPLATES, False)):
        ends = [_instant(each.get("expiration")) for each in found if _is(each, kind)]
        if ends:
            known = [end for end in ends if end is not None]
            until = max(known) if len(known) == len(ends) else None
            effects.append(AccountBarred(f"ACCOUNT_RESTRICTION {kind}", until, everything))
    return effects or [Alert("ACCOUNT_RESTRICTION", "WARNING")]


def _is(restriction: dict[str, Any], kind: str) -> bool:
    return _word(restriction, "restriction_type") == kind


def _account_review(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    decision = _word(value, "decision")
    if decision is None:
        return []
    severity = "INFORMATIONAL" if decision in {"APPROVED", "PENDING"} else "WARNING"
    return [Alert(f"ACCOUNT_REVIEW {decision}", severity)]


def _account_alert(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    info = _object(value, "alert_info") or value  # older examples have it all on one level
    word = _word(info, "alert_type")
    return [Alert(word, _word(info, "alert_severity"))] if word else []


def _security(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    word = _word(value, "event")
    return [Alert(f"SECURITY {word}", "WARNING")] if word else []


def _preferences(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    effects: list[Effect] = []
    for each in _objects(value, "user_preferences"):
        wa_id, user_id = _digits(_text(each, "wa_id")), _text(each, "user_id")
        wish = (_text(each, "value") or "").lower()
        known = (_text(each, "category") or "").lower() == "marketing_messages"
        if known and (wa_id or user_id) and wish in {"stop", "resume", "signup"}:
            at = _instant(each.get("timestamp"))
            effects.append(Preference(wa_id, user_id, wish != "stop", at))
        else:
            effects.append(Told("preference"))
    return effects


def _echoes(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    effects: list[Effect] = []
    for each in _objects(value, "message_echoes"):
        wamid, to, user_id = _text(each, "id"), _text(each, "to"), _text(each, "to_user_id")
        wa_id = _digits(to)
        if to and wa_id is None:  # a user id has been seen in the place of the phone
            user_id = user_id or to
        if wamid and (wa_id or user_id):
            kind = _text(each, "type") or "unknown"
            at = _instant(each.get("timestamp"))
            effects.append(Echo(wamid, wa_id, user_id, kind, at, each))
        else:
            effects.append(Told("echo"))
    return effects


def _history(_: str, value: dict[str, Any]) -> Sequence[Effect]:
    messages = past_of(value)
    return [History(messages, progress_of(value))] if messages else []


def _merely_told(field: str, value: dict[str, Any]) -> Sequence[Effect]:
    return [Told(kind_of(field), _word(value, "event"))]


_READERS: Final[Mapping[str, Callable[[str, dict[str, Any]], Sequence[Effect]]]] = MappingProxyType(
    {
        "message_template_status_update": _template_status,
        "message_template_quality_update": _template_quality,
        "template_category_update": _template_category,
        "phone_number_quality_update": _number_quality,
        "business_capability_update": _capability,
        "account_update": _account_update,
        "account_review_update": _account_review,
        "account_alerts": _account_alert,
        "security": _security,
        "user_preferences": _preferences,
        "smb_message_echoes": _echoes,
        "message_echoes": _echoes,
        "history": _history,
    }
)

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "message_template_status_update": "template",
        "message_template_quality_update": "template",
        "message_template_components_update": "template",
        "template_category_update": "template",
        "phone_number_quality_update": "number",
        "phone_number_name_update": "number",
        "business_capability_update": "number",
        "account_update": "account",
        "account_review_update": "account",
        "account_alerts": "account",
        "security": "account",
        "user_preferences": "preference",
        "smb_message_echoes": "echo",
        "message_echoes": "echo",
        "calls": "call",
        "history": "history",
        "smb_app_state_sync": "history",
        "group_lifecycle_update": "group",
        "group_participants_update": "group",
        "group_settings_update": "group",
        "group_status_update": "group",
    }
)

FIELDS: Final = frozenset(_KINDS)
"""The fields that are known here; of others it is counted that they came. All of them stay in the journal."""


def _template(value: dict[str, Any]) -> tuple[str | None, str]:
    """Name and language; a language that is not told means all of them."""
    return _text(value, "message_template_name"), _text(value, "message_template_language") or ""


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    given = value.get(key)
    return given if isinstance(given, dict) else {}


def _objects(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    given = value.get(key)
    return (
        [each if isinstance(each, dict) else {} for each in given]
        if isinstance(given, list)
        else []
    )


def _text(value: dict[str, Any], key: str) -> str | None:
    given = value.get(key)
    if type(given) is int:
        return str(given)
    return given if isinstance(given, str) and given else None


def _word(value: dict[str, Any], key: str) -> str | None:
    """A word of Meta's closed sets: in capitals, and short enough for a log."""
    text = _text(value, key)
    return text.strip().upper()[:64] or None if text else None


def _digits(text: str | None) -> str | None:
    """A phone number as Meta's ids have it, without + and blanks; None when it is something else."""
    compact = "".join(each for each in text or "" if each not in "+-() ")
    return compact if compact.isascii() and compact.isdigit() else None


def _instant(value: Any) -> datetime | None:
    """Seconds since 1970, as a number or as text, as a time in UTC."""
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
