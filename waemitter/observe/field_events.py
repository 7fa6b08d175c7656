"""What Meta tells of templates, numbers and accounts, and what people wish: a part of `Events`."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger


class FieldEvents:
    _log: FilteringBoundLogger

    def template_changed(
        self,
        *,
        channel: str,
        template: str,
        language: str,
        state: str,
        word: str,
        messages: int,
    ) -> None:
        """`state`: usable, paused or ended; `word`: Meta's own; `messages` that go on, or failed."""
        log = self._log.info if state == "usable" else self._log.warning
        log(
            "TEMPLATE_CHANGED",
            channel=channel,
            template=template,
            language=language,
            state=state,
            word=word,
            messages=messages,
            msg="Meta said whether a template may be sent; its messages follow",
        )

    def template_judged(
        self,
        *,
        template: str,
        language: str,
        aspect: str,
        before: str | None,
        after: str | None,
        warning: bool,
    ) -> None:
        """`aspect`: quality or category."""
        log = self._log.warning if warning else self._log.info
        log(
            "TEMPLATE_JUDGED",
            template=template,
            language=language,
            aspect=aspect,
            before=before,
            after=after,
            msg="Meta judged a template anew",
        )

    def templates_barred(self, *, channel: str, word: str, until: str | None) -> None:
        self._log.error(
            "TEMPLATES_BARRED",
            channel=channel,
            word=word,
            until=until,
            msg="Meta restricts the account: messages of templates wait",
        )

    def number_judged(
        self, *, channel: str, word: str, quality: str | None, tier: str | None
    ) -> None:
        log = self._log.warning if quality == "RED" or word == "DOWNGRADE" else self._log.info
        log(
            "NUMBER_JUDGED",
            channel=channel,
            word=word,
            quality=quality,
            tier=tier,
            msg="Meta judged a number anew",
        )

    def account_alert(self, *, word: str, severity: str | None) -> None:
        log = self._log.info if severity == "INFORMATIONAL" else self._log.warning
        log(
            "ACCOUNT_ALERT",
            word=word,
            severity=severity,
            msg="Meta has something to say about the account",
        )

    def opt_out_heard(self, *, channel: str, wish: str, scope: str) -> None:
        """`scope`: marketing, told by Meta, or all, by a word of the customer."""
        self._log.info(
            "OPT_OUT_HEARD",
            channel=channel,
            wish=wish,
            scope=scope,
            msg="Somebody wants no more messages, or wants them again",
        )

    def colleague_wrote(self, *, conversation_id: int, message_type: str) -> None:
        self._log.info(
            "COLLEAGUE_WROTE",
            conversation_id=conversation_id,
            message_type=message_type,
            msg="A colleague wrote on the phone: the conversation is a human's",
        )

    def history_imported(self, *, messages: int, word: str | None) -> None:
        """`word`: how far Meta has come, by its own words."""
        self._log.info(
            "HISTORY_IMPORTED",
            messages=messages,
            word=word,
            msg="What was written before this number came here is kept; nobody answers it",
        )

    def field_heard(self, *, kind: str, word: str | None) -> None:
        self._log.info(
            "WEBHOOK_FIELD_HEARD",
            kind=kind,
            word=word,
            msg="Meta told something that changes nothing here; it is in the journal",
        )
