"""What a run's record says of the agent when it begins: how it is built, and what will not work with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, open_store, wrap_agent
from agentlightning.adapters import watching
from agentlightning.data.bodies import RunBody


def test_the_record_tells_how_the_agent_is_built_and_what_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def began() -> RunBody:
        store = open_store(tmp_path)
        try:
            [first, *_] = [stored.record.body async for stored in store.read("run")]
            return msgspec.convert(first, RunBody)
        finally:
            await store.close()

    monkeypatch.setattr(watching, "_missing", {})
    watching.report_missing("autogen", "a_name", "speakers are not told apart.")
    with FakeOpenAI(shouting_model) as server:
        writer: Any = wrap_agent(lambda question: repeat(server, question), name="writer")
        agent = wrap_agent(lambda question: writer(question), name="both")
        folders: Any = {"data_dir": tmp_path, "output_dir": tmp_path / "out"}
        Trainer(agent, **folders, progress=False, reward=lambda *_: 1.0).evaluate(loud_tasks(2))
    body = asyncio.run(began())
    assert body.structure is not None and body.structure.kind == "function"
    assert [(link.how, link.target) for link in body.structure.links] == [("calls", "writer")]
    assert body.health == ["this version of autogen has no a_name: speakers are not told apart."]
