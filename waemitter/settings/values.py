"""The forms that values take: database addresses, secrets, API keys, Meta's URL.

Every parser takes what a user wrote (text from the environment, native values from TOML), gives its
own results back unchanged, and raises ValueError with what would be right. No message repeats a
secret.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Final, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from typing_extensions import override

from waemitter.settings.durations import split_list
from waemitter.settings.metadata import Kind
from waemitter.web.scopes import SCOPES, Scope

HIDDEN: Final = "********"
GRAPH_VERSION: Final = "v24.0"
GRAPH_URL: Final = f"https://graph.facebook.com/{GRAPH_VERSION}"


class Dsn(SecretStr):
    """A database address whose every representation hides the password, and nothing else."""

    @override
    def _display(self) -> str:
        return _without_password(self.get_secret_value())


def _without_password(dsn: str) -> str:
    scheme, separator, rest = dsn.partition("://")
    if not separator:
        return HIDDEN
    # The last @ ends the credentials: a password with an unescaped @ or / must not show its tail.
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    address, question, query = place.partition("?")
    if "password" in query.lower():
        query = HIDDEN
    return f"{scheme}://{user}{f':{HIDDEN}' if colon else ''}{at}{address}{question}{query}"


def _check_dsn(dsn: Dsn) -> Dsn:
    value = dsn.get_secret_value()
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        driver = scheme.partition("+")[2] if separator else ""
        hint = f", without '+{driver}'" if driver else ""
        raise ValueError(f"must look like postgresql://user:password@host:5432/name{hint}")
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError(
            "has a host or port that cannot be read; in a password write @ as %40, : as %3A, "
            "/ as %2F, ? as %3F, # as %23 and % as %25"
        ) from None
    return dsn


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A bearer secret of the HTTP API, and what it may do."""

    secret: SecretStr
    scopes: frozenset[Scope]

    @override
    def __str__(self) -> str:
        return f"{HIDDEN}={'+'.join(sorted(self.scopes))}"


def parse_api_keys(value: object) -> tuple[ApiKey, ...]:
    """Read `secret=scope+scope,…` or a list of such entries.

    A secret that is named twice has the scopes of both entries. Raises ValueError, which tells an
    entry by its number and never by its secret.
    """
    entries = split_list(value)
    if not isinstance(entries, list):
        raise ValueError("must be secret=scope+scope, several separated by commas")  # noqa: TRY004 - pydantic collects ValueError alone
    scopes: dict[str, frozenset[Scope]] = {}
    for number, entry in enumerate(entries, start=1):
        key = entry if isinstance(entry, ApiKey) else _parse_api_key(entry, number)
        secret = key.secret.get_secret_value()
        scopes[secret] = scopes.get(secret, frozenset()) | key.scopes
    return tuple(ApiKey(SecretStr(secret), granted) for secret, granted in scopes.items())


def _parse_api_key(entry: object, number: int) -> ApiKey:
    # From the right: a secret in base64 may itself end in "=".
    secret, _, written = str(entry).rpartition("=")
    scopes = {scope.strip() for scope in written.split("+")}
    if not secret.strip() or not scopes <= set(SCOPES):
        known = ", ".join(SCOPES)
        raise ValueError(f"entry {number} must be secret=scope+scope, the scopes among {known}")
    return ApiKey(SecretStr(secret.strip()), frozenset(cast("set[Scope]", scopes)))


_GRAPH_PATH: Final = re.compile(r"(/(?:.+/)?v\d+\.\d+)(?:/([^/]+)(?:/messages)?)?", re.ASCII)


def parse_graph_url(value: object) -> str:
    """Read the Graph API's base with its version.

    A host alone gets this release's version; the full address of a number's `/messages` is cut to
    its base. Raises ValueError when a path names no version.
    """
    parts = _split_url(value)
    path = parts.path.rstrip("/")
    if not path:
        return f"{parts.scheme}://{parts.netloc}/{GRAPH_VERSION}"
    match = _GRAPH_PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"must name the API's version, as in {GRAPH_URL}")
    base, phone_number_id = match.groups()
    if phone_number_id is not None and not phone_number_id.isdecimal():
        raise ValueError(f"must end after {base}, or go on with the phone number id's digits")
    return f"{parts.scheme}://{parts.netloc}{base}"


def phone_number_id_of(url: str) -> str | None:
    """Find the phone number id in a full `…/v24.0/PHONE_NUMBER_ID/messages`, if it is one."""
    match = re.search(r"/v\d+\.\d+/(\d+)(?:/messages)?/?$", url.strip(), re.ASCII)
    return match[1] if match else None


def _split_url(value: object) -> SplitResult:
    parts = urlsplit(str(value).strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://host/path, without ? or #")
    return parts


def _check_service_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise ValueError("must be an address such as https://host/path")
    if parts.username or parts.password:
        raise ValueError("must hold no user and no password: sign with secret_env")
    return value


def _parse_base_url(value: object) -> str:
    return _split_url(value).geturl().rstrip("/")


def _check_webhook_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://host/path")
    return value


def _check_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    # A line break or a letter beyond ASCII would fail only later, in the header of each request.
    if not token.isascii() or any(character.isspace() for character in token):
        raise ValueError("must be the token alone: no 'Bearer', no blanks, no line breaks")
    return value


def _check_phone_number_id(value: str) -> str:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError("must be the digits of the id that Meta shows beside the phone number")
    return value


def _parse_time(value: object) -> time:
    if isinstance(value, time):
        return value
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(value).strip(), re.ASCII) is None:
        raise ValueError("must be a time of day such as 02:00")
    return time.fromisoformat(str(value).strip())


def _split_secrets(value: object) -> object:
    return [value] if isinstance(value, SecretStr) else split_list(value)


def lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def fingerprint(token: SecretStr) -> str:
    """What tells one token from another, and gives neither away."""
    return hashlib.sha256(token.get_secret_value().encode()).hexdigest()[:16]


Address = Annotated[Dsn, AfterValidator(_check_dsn), Kind("secret address")]
Secret = Annotated[SecretStr, Kind("secret")]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split_secrets), Kind("secrets")]
Token = Annotated[SecretStr, AfterValidator(_check_token), Kind("secret")]
SecretUrl = Annotated[SecretStr, AfterValidator(_check_webhook_url), Kind("secret URL")]
ApiKeys = Annotated[tuple[ApiKey, ...], BeforeValidator(parse_api_keys), Kind("secrets")]
GraphUrl = Annotated[str, BeforeValidator(parse_graph_url), Kind("URL")]
Url = Annotated[str, BeforeValidator(_parse_base_url), Kind("URL")]
ServiceUrl = Annotated[str, AfterValidator(_check_service_url), Kind("URL")]
PhoneNumberId = Annotated[str, AfterValidator(_check_phone_number_id), Kind("digits")]
TimeOfDay = Annotated[time, BeforeValidator(_parse_time), Kind("time of day")]
