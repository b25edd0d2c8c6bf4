"""How many rollouts run at once: no more than allowed, fewer when a provider refuses, paced where caps are known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Step, Trainer, wrap_agent
from agentlightning.data.call import Reply, Usage
from agentlightning.trainer.pace import Pace


def step(status: int = 200, tokens: int = 0) -> Step:
    reply = Reply({"role": "assistant", "content": ""}, usage=Usage(tokens, 0)) if status == 200 else None
    return Step(id="s", rollout_id="r", index=0, kind="model", agent="a", started_at=0.0, status=status, reply=reply)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_no_more_run_at_once_than_allowed() -> None:
    async def main() -> int:
        pace, running, most = Pace(3), 0, 0

        async def one() -> None:
            nonlocal running, most
            async with pace.slot():
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(main()) == 3


def test_refusals_halve_what_is_in_flight_and_answers_bring_it_back() -> None:
    clock = Clock()
    pace = Pace(16, clock=clock)
    pace.saw(step(429))
    pace.saw(step(429))  # of the same burst
    assert (pace.allowed, pace.num_refused) == (8.0, 2)
    clock.now = 5.0
    pace.saw(step(429))
    assert pace.allowed == 4.0
    for _ in range(200):
        pace.saw(step())
    assert pace.allowed == 16.0


def test_one_rollout_always_runs_however_often_it_is_refused() -> None:
    async def main() -> bool:
        clock = Clock()
        pace = Pace(4, clock=clock)
        for _ in range(10):
            clock.now += 2
            pace.saw(step(429))
        async with asyncio.timeout(5), pace.slot():
            return pace.allowed == 1.0

    assert asyncio.run(main())


@pytest.mark.parametrize("caps", [{"calls_per_minute": 10}, {"tokens_per_minute": 1000}])
def test_a_cap_per_minute_holds_in_every_window(monkeypatch: pytest.MonkeyPatch, caps: dict[str, Any]) -> None:
    """Simulated time: sleeping moves the clock, so a quarter of an hour passes in a moment."""
    clock, calls = Clock(), list[float]()
    really_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        await really_sleep(0)

    monkeypatch.setattr("agentlightning.trainer.pace.asyncio.sleep", sleep)

    async def main() -> None:
        pace = Pace(1, clock=clock, **caps)
        for _ in range(60):
            async with pace.slot():
                calls.append(clock.now)
                pace.saw(step(tokens=100))

    asyncio.run(main())
    windows = [sum(start <= when < start + 60 for when in calls) for start in calls]
    assert max(windows) == 10
    assert 5 * 60 <= calls[-1] <= 6 * 60


def test_a_turn_nobody_waits_for_any_more_goes_to_the_next() -> None:
    async def main() -> str:
        pace = Pace(1)

        async def hold(name: str) -> str:
            async with pace.slot():
                return name

        async with pace.slot():
            given_up, patient = asyncio.ensure_future(hold("given up")), asyncio.ensure_future(hold("patient"))
            await asyncio.sleep(0)
            given_up.cancel()
        async with asyncio.timeout(5):
            return await patient

    assert asyncio.run(main()) == "patient"


@pytest.fixture
def strict() -> Iterator[FakeOpenAI]:
    """A provider that refuses whoever has more than four calls open."""
    with FakeOpenAI(shouting_model) as server:
        yield server


def test_a_run_adapts_to_a_provider_that_refuses(tmp_path: Path) -> None:
    """Every third call of the first thirty is refused; the run ends well, judged, with nothing lost."""
    counted = Counter[str]()

    def now_and_then(body: dict[str, Any]) -> Any:
        counted["calls"] += 1
        if counted["calls"] <= 30 and counted["calls"] % 3 == 0:
            return JSONResponse({"error": {"message": "slow down"}}, 429)
        return shouting_model(body)

    with FakeOpenAI(now_and_then) as server:
        agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
        trainer = Trainer(
            agent, data_dir=tmp_path / "data", output_dir=tmp_path / "out", progress=False, max_epochs=1, retries=5
        )
        result = trainer.train(loud_tasks())
    assert result.verdict == "improved"
    assert any("429" in note for note in result.notes)


def test_rollouts_wait_for_one_another_only_beside_others_and_never_long() -> None:
    async def main() -> list[float]:
        pace = Pace(8)
        found = [pace.patience()]

        async def one(seconds: float) -> None:
            async with pace.slot():
                await asyncio.sleep(seconds)
                found.append(pace.patience())

        await one(0.05)
        await asyncio.gather(*(one(0.05) for _ in range(4)))
        for _ in range(20):
            await asyncio.gather(*(one(0.05) for _ in range(8)))
        return found

    alone_before, alone, *together = asyncio.run(main())
    assert alone_before == alone == 0.0
    assert max(together) == 0.01, "a slow rollout waits no longer than a fast one"
