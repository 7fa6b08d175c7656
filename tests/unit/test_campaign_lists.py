"""Lists of recipients as people have them, and the message that each one's parameters fill."""

from __future__ import annotations

import json

import pytest

from waemitter.errors import PayloadError, UsageError
from waemitter.outbox.campaigns.form import Form, template_payload
from waemitter.outbox.campaigns.recipients import Recipient, Rejection, read_csv


@pytest.mark.parametrize(
    ("text", "columns", "entries"),
    [
        ("phone,name\n+14155550123,Ada\n", ("name",), [("+14155550123", {"name": "Ada"})]),
        ("\ufeffName;Phone\nAda;+14155550123\n", ("Name",), [("+14155550123", {"Name": "Ada"})]),
        ("to\tcode\n14155550123\t17\n", ("code",), [("14155550123", {"code": "17"})]),
        ("+14155550123\n+14155550124\n", (), [("+14155550123", {}), ("+14155550124", {})]),
        ("+14155550123,17,Ada\n", ("1", "2"), [("+14155550123", {"1": "17", "2": "Ada"})]),
        (
            'phone,text\n+14155550123,"Hello, ""you""\nthere"\n',
            ("text",),
            [("+14155550123", {"text": 'Hello, "you"\nthere'})],
        ),
        ("phone,name\n\n ,\n+14155550123\n", ("name",), [("+14155550123", {})]),
        ("US.1349,Ada\n", ("1",), [("US.1349", {"1": "Ada"})]),
    ],
)
def test_a_list_is_read_as_people_write_it(text, columns, entries):
    listing = read_csv(text.splitlines(keepends=True))
    found = [
        (
            entry.address,
            {name: entry.parameters[name] for name in columns if name in entry.parameters},
        )
        for entry in listing.entries
        if isinstance(entry, Recipient)
    ]
    assert (listing.columns, found) == (columns, entries)


def test_the_column_with_the_recipient_is_found_by_its_name():
    listing = read_csv(["name,number,phone\n", "Ada,7,+14155550123\n"])
    (entry,) = listing.entries
    assert isinstance(entry, Recipient)
    assert entry.address == "+14155550123"
    assert entry.parameters["number"] == "7"


def test_a_line_with_too_many_cells_rejects_itself_alone():
    listing = read_csv(["phone,name\n", "+14155550123,Ada,Lovelace\n", "+14155550124,Eve\n"])
    first, second = listing.entries
    assert first == Rejection("+14155550123", "has 3 cells, but there are 2 columns")
    assert isinstance(second, Recipient)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "empty"),
        (["\n", "  \n"], "empty"),
        (["name,email\n", "Ada,ada@example.com\n"], "name one of name, email `recipient`"),
    ],
)
def test_a_list_that_cannot_be_read_says_why(lines, complaint):
    with pytest.raises(UsageError, match=complaint):
        read_csv(lines)


def test_a_form_is_filled_and_what_is_filled_in_cannot_break_out():
    form = Form("text", {"text": {"body": "{{ name }}: {{code}}, {{recipient}} {not this} {{}}"}})
    filled = form.fill("+14155550123", {"name": '"}, "to": "x\\', "code": "Ü\n"})
    assert json.loads(filled) == {
        "text": {"body": '"}, "to": "x\\: Ü\n, +14155550123 {not this} {{}}'}
    }
    assert form.names == {"name", "code", "recipient"}


def test_a_form_without_places_is_the_same_for_all():
    form = Form("text", {"text": {"body": "Hello"}})
    assert form.fill("+1", {"name": "Ada"}) == form.fill("+2", {}) == '{"text":{"body":"Hello"}}'


@pytest.mark.parametrize("parameters", [{}, {"name": ""}])
def test_a_recipient_without_a_parameter_is_refused(parameters):
    with pytest.raises(PayloadError, match="parameter name: is missing or empty"):
        Form("text", {"text": {"body": "Hello {{name}}"}}).fill("+1", parameters)


def test_a_payload_that_meta_would_refuse_is_refused_at_once_or_by_the_recipient_that_breaks_it():
    with pytest.raises(PayloadError, match=r"payload\.text\.body"):
        Form("text", {"text": {"body": ""}})
    form = Form("text", {"text": {"body": "{{long}}"}})
    with pytest.raises(PayloadError, match="4096"):
        form.fill("+1", {"long": "x" * 4097})


def test_a_place_that_no_column_fills_is_told_with_the_columns_there_are():
    form = Form("text", {"text": {"body": "{{name}} {{recipient}}"}})
    form.require(["name", "city"])
    with pytest.raises(PayloadError, match="they have: city"):
        form.require(["city"])


@pytest.mark.parametrize(
    ("columns", "parameters", "body"),
    [
        ((), (), None),
        (("1", "2"), (), [{"text": "{{1}}"}, {"text": "{{2}}"}]),
        (("2", "1"), (), [{"text": "{{1}}"}, {"text": "{{2}}"}]),
        (("name",), (), [{"parameter_name": "name", "text": "{{name}}"}]),
        (("name",), ("Dear {{name}}", "17"), [{"text": "Dear {{name}}"}, {"text": "17"}]),
    ],
)
def test_the_columns_fill_a_template_s_body(columns, parameters, body):
    payload = template_payload("sale", "en_US", columns=columns, parameters=parameters)
    template = payload["template"]
    assert (template["name"], template["language"]) == ("sale", {"code": "en_US"})
    if body is None:
        assert template["components"] == []
    else:
        assert template["components"] == [
            {"type": "body", "parameters": [{"type": "text"} | parameter for parameter in body]}
        ]
