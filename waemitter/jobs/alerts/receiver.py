"""The address that alerts are posted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

import aiohttp
import orjson

from waemitter.jobs.alerts.body import Alert, body

WITHIN: Final = aiohttp.ClientTimeout(total=10)


class NotTaken(Exception):
    """The receiver did not take it; the message says why, without the address, which may hold a secret."""


class Receiver:
    """Follows no redirect: what the settings name is the only address that hears of an alert."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        token: str | None,
        external_url: str,
    ) -> None:
        """`token`: sent as a bearer; `external_url`: where a reader of an alert may look."""
        self._session = session
        self._url = url
        self._headers: Mapping[str, str] = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._external_url = external_url

    async def post(self, name: str, alerts: Sequence[Alert]) -> None:
        """Post all alerts of one name. Raises NotTaken."""
        document = body(name, alerts, external_url=self._external_url)
        await self._post(document)

    async def _post(self, document: Mapping[str, Any]) -> None:
        try:
            async with self._session.post(
                self._url,
                data=orjson.dumps(document),
                headers=self._headers,
                timeout=WITHIN,
                allow_redirects=False,
            ) as response:
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise NotTaken(f"the receiver answered {response.status}")
        except TimeoutError:
            raise NotTaken("the receiver did not answer in time") from None
        except aiohttp.ClientError as error:
            raise NotTaken(f"the receiver was not reached: {type(error).__name__}") from None


def by_name(alerts: Sequence[tuple[int, Alert]]) -> list[tuple[str, list[tuple[int, Alert]]]]:
    """In groups, of alerts that are sorted by their name."""
    return [(name, list(group)) for name, group in groupby(alerts, key=lambda each: each[1].name)]
