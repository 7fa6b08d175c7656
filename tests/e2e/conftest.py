"""The scene of an end-to-end test: real processes, real sockets, a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.e2e.scene import Scene
from waemitter.db.embedded import EmbeddedPostgres


@pytest.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    """On the Postgres that all tests share."""
    async with _scene(dsn) as scene:
        yield scene


@pytest.fixture
async def own_scene(own_postgres: EmbeddedPostgres) -> AsyncIterator[Scene]:
    """On `own_postgres`, which the test may stop."""
    async with _scene(own_postgres.dsn("waemitter")) as scene:
        yield scene


@asynccontextmanager
async def _scene(dsn: str) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, dsn)
        yield scene
        await scene.close()
