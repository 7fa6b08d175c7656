import typer
from typer.testing import CliRunner

from waemitter.cli.simulate import simulate


def invoke(*flags):
    application = typer.Typer()
    application.command()(simulate)
    return CliRunner().invoke(application, flags, env={"COLUMNS": "200"})


def test_every_kind_of_option_is_offered():
    offered = invoke("--help").output
    for flag in ("--webhook-url", "--sent-delay", "--no-statuses", "--error-mix", "--seed"):
        assert flag in offered


def test_a_value_out_of_range_is_a_usage_error():
    outcome = invoke("--read-probability", "7")
    assert outcome.exit_code == 2
    assert "read_probability" in outcome.output


def test_a_share_that_is_no_number_is_a_usage_error():
    outcome = invoke("--error-mix", "often")
    assert outcome.exit_code == 2
    assert "CODE=PROBABILITY" in outcome.output


def test_an_address_that_cannot_be_bound_is_a_failure():
    outcome = invoke("--host", "192.0.2.1")
    assert outcome.exit_code == 1
    assert "cannot listen" in outcome.output
