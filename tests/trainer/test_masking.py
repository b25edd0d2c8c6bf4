"""With `store: {mask_personal_data: true}`, a run keeps nobody's address anywhere, and learns all the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import CLIENT, WORDS, shouting_model

from agentlightning import Task, Trainer, open_store, wrap_agent
from agentlightning.data.record import make_record
from agentlightning.store.masked import MaskedStore, Masks
from agentlightning.store.trajectories import read_trajectories

PROMPT = "You repeat what you are told. Complaints go to desk@example.com."
_ADDRESS = re.compile(rb"[a-z]+@people[.]example", re.IGNORECASE)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def tasks() -> list[Task]:
    told = [f"{WORDS[i]} {i} says {WORDS[i]}@people.example, then {WORDS[i].upper()}@people.example" for i in range(24)]
    return [Task(f"t{i}", text, expected=f"LOUD {text.upper()}", metadata={"by": "x@people.example"})
            for i, text in enumerate(told)]  # fmt: skip


def trainer(server: FakeOpenAI, folder: Path, **settings: Any) -> Trainer:
    def parrot(question: str) -> str:
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
        response = CLIENT.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
        return response.raise_for_status().json()["choices"][0]["message"]["content"]

    store = {"address": str(folder / "data"), "mask_personal_data": True}
    return Trainer(
        wrap_agent(parrot, name="parrot"),
        store=store,
        output_dir=folder / "out",
        max_epochs=1,
        progress=False,
        **settings,
    )


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_masked_run_leaves_no_address_in_any_file_and_still_improves(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path).train(tasks())
    assert (result.verdict, result.final) == ("improved", 1.0)
    assert "desk@example.com" in result.prompts["parrot:system"]
    files = bytes_below(tmp_path)
    assert any("store.sqlite3" in name for name in files) and any(b"[email_1]" in content for content in files.values())
    assert {name: found for name, content in files.items() if (found := _ADDRESS.findall(content))} == {}


def test_the_optimiser_never_hears_an_address(server: FakeOpenAI, tmp_path: Path) -> None:
    trainer(server, tmp_path).train(tasks())
    asked = [seen.body for seen in server.requests if b"<runs>" in seen.body]
    assert asked and not any(_ADDRESS.search(body) for body in asked)
    assert any(_ADDRESS.search(seen.body) for seen in server.requests)


def test_a_rollout_and_its_steps_name_the_same_person_alike(server: FakeOpenAI, tmp_path: Path) -> None:
    trainer(server, tmp_path).train(tasks())

    async def kept() -> list[tuple[str, str]]:
        store = open_store(tmp_path / "data")
        found = [(str(t.input), str(t.steps[0].call.messages[-1]["content"])) async for t in read_trajectories(store)
                 if t.steps and t.steps[0].call]  # fmt: skip
        await store.close()
        return found

    pairs = asyncio.run(kept())
    assert pairs and all(task == said for task, said in pairs)
    assert all(len(set(re.findall(r"\[email_\d+\]", task))) == 1 for task, _ in pairs)


def test_a_masked_run_resumed_asks_and_finds_what_it_did_before(server: FakeOpenAI, tmp_path: Path) -> None:
    first = trainer(server, tmp_path).train(tasks())
    before = len(server.requests)
    again = trainer(server, tmp_path).train(tasks(), resume=first.run_id)
    assert len(server.requests) - before <= 1  # one shows the endpoint again
    assert again.prompts == first.prompts and "desk@example.com" in again.prompts["parrot:system"]


def test_a_masked_choice_keeps_whom_it_preferred_and_a_rating_who_gave_it(tmp_path: Path) -> None:
    said = [
        {
            "kind": "choice",
            "better": "r-1",
            "worse": "r-2",
            "rater": "ann@people.example",
            "comment": "not x@people.example",
        },
        {
            "kind": "rating",
            "rollout": "r-1",
            "value": 0.5,
            "scale": [1, 5],
            "rater": "Ann",
            "correction": "x@people.example",
        },
        {"kind": "choice", "better": "r-3", "worse": "r-4", "rater": "ann@people.example"},
    ]

    async def kept() -> list[dict[str, Any]]:
        store = MaskedStore(open_store(tmp_path), Masks())
        await store.append([make_record("feedback", f"f-{i}", body, run="live") for i, body in enumerate(said)])
        found = [s.record.body async for s in store.read("feedback")]
        await store.close()
        return found

    choice, rating, other = asyncio.run(kept())
    assert (choice["kind"], choice["better"], choice["worse"]) == ("choice", "r-1", "r-2")
    assert (rating["rollout"], rating["value"], rating["scale"], rating["rater"]) == ("r-1", 0.5, [1, 5], "Ann")
    assert choice["rater"] == other["rater"] != "Ann"
    assert "people.example" not in str([choice, rating, other])
