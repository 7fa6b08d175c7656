import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from waemitter.observe.instruments import BOUNDS
from waemitter.observe.metrics import OUTCOMES, Metrics


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry)


def test_the_exposition_is_what_prometheus_clients_own_instruments_give(metrics):
    theirs = CollectorRegistry()
    histogram = Histogram(
        "waemitter_outbox_send_duration_seconds", "-", registry=theirs, buckets=BOUNDS
    )
    counter = Counter("waemitter_listener_reconnects_total", "-", registry=theirs)
    for seconds in (0.0, 0.001, 0.0011, 0.05, 3.0, 60.0, 61.0):
        histogram.observe(seconds)
        metrics.outbox_send_duration.labels().observe(seconds)
    counter.inc(3)
    metrics.listener_reconnects.labels().inc(3)
    ours = metrics.render()[0].decode().splitlines()
    expected = [
        line
        for line in generate_latest(theirs).decode().splitlines()
        if not line.startswith("#") and "_created" not in line
    ]
    assert len(expected) > len(BOUNDS)
    assert set(expected) <= set(ours)


def test_a_channels_series_exist_at_zero_before_anything_happens(metrics, registry):
    metrics.for_channel("default")
    for outcome in OUTCOMES:
        labels = {"channel": "default", "outcome": outcome}
        assert registry.get_sample_value("waemitter_outbox_sends_total", labels) == 0


def test_naming_a_channel_again_keeps_its_numbers(metrics, registry):
    metrics.for_channel("default")
    metrics.outbox_sends.labels("default", "sent").inc()
    metrics.for_channel("default")
    labels = {"channel": "default", "outcome": "sent"}
    assert registry.get_sample_value("waemitter_outbox_sends_total", labels) == 1


def test_labels_that_do_not_fit_are_refused(metrics):
    with pytest.raises(ValueError, match="outbox_sends_total"):
        metrics.outbox_sends.labels("default")


def test_a_channel_is_paused_for_one_reason_at_a_time(metrics, registry):
    def paused():
        return {
            sample.labels["reason"]
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "waemitter_channel_paused" and sample.value == 1
        }

    metrics.pause("default", "operator")
    metrics.pause("default", "pause_account")
    assert paused() == {"pause_account"}
    metrics.pause("default", None)
    assert paused() == set()


def test_two_daemons_metrics_share_nothing(metrics):
    other = CollectorRegistry()
    Metrics(other)
    metrics.listener_reconnects.labels().inc()
    assert other.get_sample_value("waemitter_listener_reconnects_total") == 0


def test_the_text_is_prometheus_text_and_says_so(metrics):
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    assert "waemitter_outbox_sends" in families
    assert "process_resident_memory_bytes" in families


def test_json_holds_the_same_numbers(metrics):
    metrics.webhook_requests.labels("whatsapp", "accepted").inc(5)
    samples = metrics.as_json()["waemitter_webhook_requests"]["samples"]
    accepted = [sample for sample in samples if sample["labels"]["result"] == "accepted"]
    assert [sample["value"] for sample in accepted] == [5]
