import pytest

from waemitter.simulator.webhooks import Update, encode, envelope, signature

SECRET = "waemitter-example-app-secret"
TEXT = (
    "תודה! 👩\u200d👩\u200d👧\u200d👦 Grüße aus Köln 🇩🇪 — 價格 ¥1 200 / 50% <ok> @mara "
    "\u200f\n第二行"
)
WAMID = "wamid.HBgMOTcyNTAwMDAwMjA2FQIAEhgUM0E5NjNBRkZDRUE1RDY0NzFBRjAA"
DOCUMENT = {
    "object": "whatsapp_business_account",
    "entry": [
        {
            "id": "214700000000001",
            "changes": [
                {
                    "value": {
                        "messaging_product": "whatsapp",
                        "metadata": {
                            "display_phone_number": "15550104477",
                            "phone_number_id": "330900000000007",
                        },
                        "contacts": [{"profile": {"name": "יעל בר"}, "wa_id": "972500000206"}],
                        "messages": [
                            {
                                "from": "972500000206",
                                "id": WAMID,
                                "timestamp": "1793700014",
                                "type": "text",
                                "text": {"body": TEXT},
                            }
                        ],
                    },
                    "field": "messages",
                }
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("escapes", "digest"),
    [
        ("unicode", "a5e3ad85efb5b668917cae83f03e3a2199be90e7254924ff532a489161a46e3d"),
        ("slash", "3bd23a7b17e9d0a40f0334c7e18b9f93624d92e429a4896f1463d56a7f90d028"),
        ("symbols", "dced25880a2b7350b624a6caff8d8bac983b433a3d2f5b973f59038c8d9196dc"),
        ("none", "654aeed87cc217c45e1ad2d4d2981aa6ebce63f6c03bf353b2a37f96f5cc65dc"),
    ],
)
def test_every_spelling_of_a_document_has_its_own_known_signature(escapes, digest):
    assert signature(encode(DOCUMENT, escapes), SECRET) == f"sha256={digest}"


def test_an_envelope_gives_each_number_its_own_change():
    updates = [
        Update("1", status={"id": "a"}),
        Update("2", status={"id": "b"}),
        Update("1", status={"id": "c"}),
        Update("1", message={"id": "d"}, contact={"wa_id": "5"}),
        Update("1", message={"id": "e"}, contact={"wa_id": "5"}),
    ]
    changes = envelope(updates, "waba")["entry"][0]["changes"]
    told = [
        (
            change["value"]["metadata"]["phone_number_id"],
            [
                item["id"]
                for item in change["value"].get("statuses", change["value"].get("messages"))
            ],
        )
        for change in changes
    ]
    assert told == [("1", ["a", "c"]), ("2", ["b"]), ("1", ["d", "e"])]
    assert changes[2]["value"]["contacts"] == [{"wa_id": "5"}]
