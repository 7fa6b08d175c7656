"""Settings of OpenTelemetry."""

from __future__ import annotations

from waemitter.settings.metadata import Group, setting
from waemitter.settings.values import Secret, Url


class TracingSettings(Group):
    enabled: bool = setting(
        False,  # noqa: FBT003 - the first argument is the default, whatever its type
        "Export the life of messages and turns as OpenTelemetry spans; needs `waemitter[otel]`.",
    )
    endpoint: Url = setting(
        "http://localhost:4318",
        "Where OTLP over HTTP goes; `/v1/traces` is appended.",
        environment="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    headers: Secret | None = setting(
        None,
        "Headers of the export, `name=value,…`, such as a vendor's key.",
        environment="OTEL_EXPORTER_OTLP_HEADERS",
        secret=True,
    )
    service: str = setting(
        "waemitter", "What traces call this service.", environment="OTEL_SERVICE_NAME", min_length=1
    )
    ratio: float = setting(
        1.0,
        "The share of traces that are exported, where whoever enqueued did not decide by a `traceparent`.",
        ge=0,
        le=1,
    )
