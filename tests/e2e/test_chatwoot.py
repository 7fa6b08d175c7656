"""A customer, a daemon, Chatwoot and an agent, over real sockets; a webhook is lost, a post is answered by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chatwoot import ACCOUNT, AGENT, INBOX, SECRET, TOKEN, Chatwoot, chatwoot
from tests.e2e.scene import Scene, post, until
from tests.e2e.test_conversation import Customer

MENU = "Write agent for a person."
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
text = "{MENU}"
buffer = {{ mode = "off" }}
"""
TO_CUSTOMER = """
    select payload #>> '{text,body}' from waemitter.outbox_messages
    where channel = 'default' and status in ('sent', 'delivered', 'read') order by id
"""
TO_DESK = "select status from waemitter.outbox_messages where channel = 'support'"
HERS = "select status from waemitter.conversations where channel = 'default'"


@dataclass
class Story:
    """What customer and agent get to read, waited for."""

    scene: Scene
    fake: Chatwoot

    async def customer_read(self, *words: str) -> None:
        async def reached() -> bool:
            return [row[0] for row in await self.scene.fetch(TO_CUSTOMER)] == list(words)

        await until(reached)

    async def agent_read(self, *words: str) -> None:
        async def reached() -> bool:
            return self.fake.said() == list(words)

        await until(reached)

    async def whose(self, status: str) -> None:
        async def reached() -> bool:
            return bool(await self.scene.value(HERS) == status)

        await until(reached)


def settings_of(fake: Chatwoot, folder: Path) -> dict[str, str]:
    file = folder / "waemitter.toml"
    file.write_text(ROUTES)
    return {
        "WAEMITTER_CONFIG": str(file),
        "CHATWOOT_BASE_URL": fake.url,
        "CHATWOOT_ACCOUNT_ID": str(ACCOUNT),
        "CHATWOOT_API_TOKEN": TOKEN,
        "CHATWOOT_WEBHOOK_SECRET": SECRET,
    }


async def test_from_the_bot_to_an_agent_and_back(scene: Scene, tmp_path: Path) -> None:
    async with chatwoot() as fake:
        settings = settings_of(fake, tmp_path)
        _, address = await scene.play(environ=settings)
        fake.webhook = f"{address}/webhooks/chatwoot"
        customer, story = Customer(scene, "+14155550123"), Story(scene, fake)

        await customer.writes("Hello")
        await story.customer_read(MENU)
        fake.faults = [
            "",
            "drop after",
        ]  # what was said before; then it arrives, and nobody says so
        await customer.writes("Agent")
        await story.agent_read("Agent")
        [note] = [each["content"] for each in fake.messages if each["private"]]
        assert [line.partition(" UTC  ")[2] for line in note.splitlines()] == [
            *("", "Customer: Hello", f"Bot: {MENU}")
        ]
        await fake.write(1, "Carol here")
        await story.customer_read(MENU, "Carol here")
        await story.whose("human")
        await customer.writes("My bag is gone")
        await story.agent_read("Agent", "My bag is gone")

        fake.lost = True
        await fake.write(1, "We have it")
        ran = await scene.command("jobs", "run", "chatwoot-reconciler", environ=settings)
        assert ran.code == 0
        await story.customer_read(MENU, "Carol here", "We have it")
        fake.lost = False
        await fake.change(1, assignee=AGENT)
        await fake.change(1, status="resolved")
        await story.whose("idle")
        await customer.writes("Thanks")
        await story.customer_read(MENU, "Carol here", "We have it", MENU)

        assert await post(f"{address}/webhooks/chatwoot", b"{}") == 401
        assert fake.said() == ["Agent", "My bag is gone"]  # each once
        assert {row["status"] for row in await scene.fetch(TO_DESK)} == {"sent"}
