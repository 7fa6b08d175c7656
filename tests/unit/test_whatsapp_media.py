import pytest

from waemitter.errors import PayloadError
from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.media import checked, read_upload
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent

MB = 1024 * 1024
STILL = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(16)
MOVING = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(11)
EXTENDED = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10" + bytes(11)


@pytest.mark.parametrize(
    ("given", "limit", "head"),
    [
        ("image/jpeg", 5 * MB, b""),
        ("image/png", 5 * MB, b""),
        ("IMAGE/PNG", 5 * MB, b""),
        ("audio/aac", 16 * MB, b""),
        ("audio/amr", 16 * MB, b""),
        ("audio/mpeg", 16 * MB, b""),
        ("audio/mp4", 16 * MB, b""),
        ("audio/ogg; codecs=opus", 16 * MB, b""),
        ("video/mp4", 16 * MB, b""),
        ("video/3gpp", 16 * MB, b""),
        ("application/pdf", 100 * MB, b""),
        ("text/plain", 100 * MB, b""),
        ("image/webp", 100 * 1024, STILL),
        ("image/webp", 100 * 1024, EXTENDED),
        ("image/webp", 500 * 1024, MOVING),
        ("image/webp", 100 * 1024, b"RIFF"),
    ],
)
def test_each_type_up_to_its_limit(given, limit, head):
    assert checked(given, size=limit, head=head) == given.partition(";")[0].lower()
    with pytest.raises(PayloadError, match=f"at most {limit} ") as refused:
        checked(given, size=limit + 1, head=head)
    assert refused.value.field == "file"


@pytest.mark.parametrize(
    "given",
    [*("image/gif", "video/quicktime", "", "png", "application/", "text/ "), "text/a\r\nX-Evil: 1"],
)
def test_what_whatsapp_does_not_carry_is_told_with_what_it_does(given):
    with pytest.raises(PayloadError, match="image/jpeg") as refused:
        checked(given, size=1, head=b"")
    assert refused.value.field == "type"


def test_an_empty_file_is_none():
    with pytest.raises(PayloadError, match="empty"):
        checked("image/png", size=0, head=b"")


def test_the_id_of_an_upload():
    assert read_upload(Answered(200, b'{"id":"4490709327384033"}')) == "4490709327384033"


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [
        (Answered(401, b'{"error":{"code":190,"message":"expired"}}'), ErrorClass.PAUSE_ACCOUNT),
        (NotSent("ClientConnectorError"), ErrorClass.RETRY),
        (NoAnswer("TimeoutError"), ErrorClass.UNKNOWN),
        (Answered(200, b"<html>"), ErrorClass.UNKNOWN),
        (Answered(200, b"{}"), ErrorClass.UNKNOWN),
        (Answered(200, b'{"id":""}'), ErrorClass.UNKNOWN),
        (Answered(200, b"[]"), ErrorClass.UNKNOWN),
    ],
)
def test_whatever_is_no_id_is_judged_as_a_failed_send(reply, error_class):
    found = read_upload(reply)
    assert isinstance(found, Refused)
    assert found.error_class is error_class
