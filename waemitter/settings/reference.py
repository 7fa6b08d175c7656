"""docs/configuration.md, written from the model so that it cannot fall behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from waemitter.settings.catalogue import (
    AGENT_ENTRIES,
    AGENT_VARIANT_ENTRIES,
    CHANNEL_ENTRIES,
    ENTRIES,
    EVENT_ENTRIES,
    REVIEW_ENTRIES,
    ROUTE_ENTRIES,
    TABLES,
    TOOL_ENTRIES,
    Entry,
)
from waemitter.settings.model import Settings
from waemitter.settings.report import UNSET, as_text

_HEAD: Final = """\
# Configuration

Every setting has a default, except for where the database is and what Meta gave you. The smallest
useful set is `DATABASE_URL`, `WHATSAPP_ACCESS_TOKEN` and `WHATSAPP_PHONE_NUMBER_ID`; for webhooks
also `WHATSAPP_APP_SECRET` and `WHATSAPP_VERIFY_TOKEN`.

`waemitter check` prints what is in effect, where each value came from, and nothing secret.

## Where settings come from

1. the command line,
2. the environment,
3. `waemitter.toml`: the file named by `--config`, else by `WAEMITTER_CONFIG`, else the one in the
   working directory if there is one,
4. the default.

The first that has a setting wins. In the file a setting is the key after the dot, in the table
before it: `outbox.lease` is

```toml
[outbox]
lease = "15s"
```

Durations are written `250ms`, `30s`, `5m`, `2h`, `1d`, or as a number of seconds. Lists are written
`60,2m,240`, in the file also as arrays. An empty variable counts as not set. A `WAEMITTER_`
variable or a key of the file that is not listed here is an error that suggests the likely name.

Every secret can be read from a file: `WHATSAPP_ACCESS_TOKEN_FILE` names the file that holds
`WHATSAPP_ACCESS_TOKEN`. In `waemitter.toml` that is `access_token_file`, a path from where the TOML
file is.

Where no `DATABASE_URL` is given, libpq's variables count: `PGHOST`, `PGPORT`, `PGDATABASE`,
`PGUSER`, `PGPASSWORD`, `PGSERVICE` and so on.

Old names keep their units, and lose to the new name when both are set. `SUPABASE_URL` and `APP_URL`
are recognised and have no effect.

*No effect yet* marks what this release accepts and checks, and a later one acts on.
"""

_CHANNELS: Final = """
## Several numbers: `[[channels]]`

Without any such table, the `WHATSAPP_*` settings make the channel `default`. With them, each table
is one channel, and what it leaves out comes from the settings above. Tokens stay out of the file:

```toml
[[channels]]
name = "default"
phone_number_id = "111000111"
access_token_env = "WHATSAPP_ACCESS_TOKEN"
messages_per_second = 80

[[channels]]
name = "support"
phone_number_id = "222000222"
access_token_file = "/run/secrets/support_token"
```

"""

_ROUTES: Final = """
## Routes: `[[routes]]`

Which turns a route takes, and who answers them; [routes](routes.md) explains them, with an example. A route with
`[[routes.variants]]` has its handler's keys in those, beside `name` and `weight`.

"""

_AGENTS: Final = """
## Agents: `[agents.<name>]`

A model that answers, under the name by which a route calls it; see [agents](agents.md). Keys stay out of the file.

```toml
[agents.assistant]
model = "gpt-4o-mini"
system_prompt_file = "assistant.md"
max_context_tokens = 4000
```

"""

_VARIANTS: Final = """
`[[agents.<name>.variants]]` deals the contacts to several variants:

"""

_REVIEW: Final = """
`[agents.<name>.review]` has drafts looked at before they are sent, while the flag `response_quality_enhancement` is on:

"""


_TOOLS: Final = """
`[[agents.<name>.tools]]` are services that the model may ask; see [agents](agents.md#tools):

"""

_EVENTS: Final = """
## Events: `[events.<name>]`

Who is told of what happens, and of what; see [events](events.md). Secrets stay out of the file.

```toml
[events.shop]
types = ["message.*", "turn.completed"]
webhook = "https://shop.example/whatsapp-events"
secret_env = "SHOP_EVENTS_SECRET"
```

"""


def render_reference() -> str:
    """Write the whole page, in Markdown."""
    agents = [
        _AGENTS,
        *_keys(AGENT_ENTRIES, defaults=True),
        _VARIANTS,
        *_keys(AGENT_VARIANT_ENTRIES),
        _REVIEW,
        *_keys(REVIEW_ENTRIES),
        _TOOLS,
        *_keys(TOOL_ENTRIES, defaults=True),
    ]
    return "".join(
        [
            _HEAD,
            *_groups(),
            _CHANNELS,
            *_keys(CHANNEL_ENTRIES),
            _ROUTES,
            *_keys(ROUTE_ENTRIES),
            *agents,
            _EVENTS,
            *_keys(EVENT_ENTRIES, defaults=True),
        ]
    )


def _groups() -> Iterator[str]:
    for table in TABLES:
        entries = [entry for entry in ENTRIES if entry.table == table]
        about = Settings.model_fields[table].description
        all_later = all(entry.later for entry in entries)
        yield f"\n## `[{table}]`\n\n{about}{' *No effect yet.*' if all_later else ''}\n\n"
        yield from _table(entries, mark_later=not all_later)
    yield "\n## On its own\n\n"
    yield from _table([entry for entry in ENTRIES if not entry.table], mark_later=True)


def _table(entries: Iterable[Entry], *, mark_later: bool) -> Iterator[str]:
    yield "| variable | in the file | takes | default | |\n|---|---|---|---|---|\n"
    for entry in entries:
        later = " *No effect yet.*" if entry.later and mark_later else ""
        yield (
            f"| `{entry.environment}` | `{entry.name}` | {entry.kind} | {_default(entry)} "
            f"| {entry.description}{_old_names(entry)}{later} |\n"
        )


def _default(entry: Entry) -> str:
    default = as_text(entry.default, entry.kind)
    return default if default == UNSET else f"`{default}`"


def _old_names(entry: Entry) -> str:
    told = ""
    for suffix in dict.fromkeys(entry.old.values()):
        names = [f"`{name}`" for name, its in entry.old.items() if its == suffix]
        told += f" Old name{'' if len(names) == 1 else 's'}: {', '.join(names)}{_unit(suffix)}."
    return told


def _unit(suffix: str) -> str:
    if suffix.startswith("="):
        return f", with the scopes `{suffix[1:]}`"
    return {"ms": ", in milliseconds", "h": ", in hours"}.get(suffix, "")


def _keys(entries: Iterable[Entry], *, defaults: bool = False) -> Iterator[str]:
    yield f"| key | takes |{' default |' if defaults else ''} |\n|---|---|{'---|' if defaults else ''}---|\n"
    for entry in entries:
        later = " *No effect yet.*" if entry.later else ""
        default = f" {_default(entry)} |" if defaults else ""
        yield f"| `{entry.key}` | {entry.kind} |{default} {entry.description}{later} |\n"
