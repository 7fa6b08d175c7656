"""What a job is: a name, when it runs by default, and what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Summary: TypeAlias = Mapping[str, Any]
"""What a run did, in camelCase: it is a run's `summary`, and the HTTP API's answer."""

Work: TypeAlias = Callable[[], Awaitable[Summary]]

DLQ_PROCESSOR: Final = "dlq-processor"
BUFFER_PROCESSOR: Final = "buffer-processor"
SESSION_CLEANUP: Final = "session-cleanup"
CLEANUP_STUCK: Final = "cleanup-stuck-conversations"
REFRESH_ANALYTICS: Final = "refresh-analytics"
RETENTION: Final = "retention"
ALERTS: Final = "alerts"
CHATWOOT_RECONCILER: Final = "chatwoot-reconciler"


@dataclass(frozen=True, slots=True)
class Job:
    """`schedule` as in schedule.parse, in UTC. `run` may be cut short when the daemon stops, and is begun anew elsewhere."""

    name: str
    schedule: str
    run: Work
