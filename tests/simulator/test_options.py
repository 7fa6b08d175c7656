import pytest

from waemitter.simulator.flags import options_of, parser
from waemitter.simulator.options import Options


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"drop_before": 1.5}, "drop_before"),
        ({"latency": -1.0}, "latency"),
        ({"sent_delay": (2.0, 1.0)}, "sent_delay"),
        ({"throttle_http_status": 418}, "throttle_http_status"),
        ({"throughput_window": "leaky"}, "throughput_window"),
        ({"webhook_batch": 0}, "webhook_batch"),
        ({"error_mix": {131000: 0.7, 131016: 0.7}}, "error_mix"),
        ({"drop_before": 0.6, "hang_after": 0.6}, "faults"),
    ],
)
def test_values_out_of_range_are_named(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: must be"):
        Options(**changes)


def test_changes_may_come_from_json():
    changed = Options().changed(
        {
            "error_mix": {"131000": 0.5},
            "sent_delay": [1, 2],
            "webhook_url": "http://x",
            "latency": 1,
        }
    )
    assert changed == Options(
        error_mix={131000: 0.5}, sent_delay=(1, 2), webhook_url="http://x", latency=1
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "red"},
        {"port": 1},
        {"messages_per_second": "80"},
        {"messages_per_second": True},
        {"statuses": 1},
        {"phone_number_ids": "1"},
        {"error_mix": [1]},
    ],
)
def test_changes_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        Options().changed(changes)


def test_secrets_are_not_shown():
    shown = Options(access_token="hidden").public()
    assert shown["access_token"] == shown["app_secret"] == "***"
    assert Options().public()["access_token"] is None


def test_every_option_is_a_flag():
    flags = ["--port", "0", "--sent-delay", "0", "0.5", "--no-statuses", "--seed", "7"]
    flags += ["--error-mix", "131000=0.05", "--error-mix", "131026=0.1", "--phone-number-ids", "1"]
    options = options_of(vars(parser().parse_args(flags)))
    assert options == Options(
        sent_delay=(0, 0.5),
        statuses=False,
        seed=7,
        error_mix={131000: 0.05, 131026: 0.1},
        phone_number_ids=("1",),
    )


def test_without_flags_only_the_port_differs_from_the_defaults():
    assert options_of(vars(parser().parse_args([]))) == Options(port=8090)
