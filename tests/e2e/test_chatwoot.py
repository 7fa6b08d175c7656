"""A customer, a daemon, Chatwoot and an agent, over real sockets; a webhook is lost, a post is answered by nobody."""

from __future__ import annotations

from pathlib import Path

from tests.chatwoot import ACCOUNT, AGENT, INBOX, SECRET, TOKEN, chatwoot
from tests.e2e.scene import Scene, post, until
from tests.e2e.test_conversation import Customer

ROUTES = f"""
[[channels]]
name = "default"

[[channels]]
name = "support"
kind = "chatwoot"
inbox_id = {INBOX}

[[routes]]
name = "people"
keywords = "agent"
handler = "chatwoot"
service = "people"
buffer = {{ mode = "off" }}

[[routes]]
name = "rest"
fallback = true
handler = "reply"
text = "Write agent for a person."
buffer = {{ mode = "off" }}
"""
TO_CUSTOMER = """
    select payload #>> '{text,body}' from waemitter.outbox_messages
    where channel = 'default' and status in ('sent', 'delivered', 'read') order by id
"""
HERS = "select status from waemitter.conversations where channel = 'default'"


async def test_from_the_bot_to_an_agent_and_back(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "waemitter.toml"
    file.write_text(ROUTES)
    async with chatwoot() as fake:
        settings = {
            "WAEMITTER_CONFIG": str(file),
            "CHATWOOT_BASE_URL": fake.url,
            "CHATWOOT_ACCOUNT_ID": str(ACCOUNT),
            "CHATWOOT_API_TOKEN": TOKEN,
            "CHATWOOT_WEBHOOK_SECRET": SECRET,
        }
        _, address = await scene.play(environ=settings)
        customer = Customer(scene, "+14155550123")
        fake.webhook = f"{address}/webhooks/chatwoot"

        assert fake.webhook is not None

        async def said(*words: str) -> None:
            async def reached() -> bool:
                rows = await scene.fetch(TO_CUSTOMER)
                return [row[0] for row in rows] == list(words)

            await until(reached)

        async def came(*words: str) -> None:
            async def reached() -> bool:
                return fake.said() == list(words)

            await until(reached)

        async def whose(status: str) -> None:
            async def reached() -> bool:
                return bool(await scene.value(HERS) == status)

            await until(reached)

        await customer.writes("Hello")
        await said("Write agent for a person.")
        fake.faults = ["drop after"]  # it arrives, and nobody says so
        await customer.writes("Agent")
        await came("Agent")
        await fake.write(1, "Carol here")
        await said("Write agent for a person.", "Carol here")
        await whose("human")
        await customer.writes("My bag is gone")
        await came("Agent", "My bag is gone")

        fake.lost = True
        await fake.write(1, "We have it")
        assert (
            await scene.command("jobs", "run", "chatwoot-reconciler", environ=settings)
        ).code == 0
        await said("Write agent for a person.", "Carol here", "We have it")
        fake.lost = False
        await fake.change(1, assignee=AGENT)
        await fake.change(1, status="resolved")
        await whose("idle")
        await customer.writes("Thanks")
        await said(
            *("Write agent for a person.", "Carol here", "We have it"), "Write agent for a person."
        )

        assert await post(fake.webhook, b"{}") == 401
        assert fake.said() == ["Agent", "My bag is gone"]  # each once
        assert {
            row["status"]
            for row in await scene.fetch(
                "select status from waemitter.outbox_messages where channel = 'support'"
            )
        } == {"sent"}
