"""Optimised agents live beside and inside each other, in many threads, and each keeps its own policy."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers import FakeOpenAI

from agentlightning import (
    Policy,
    PromptSite,
    Trajectory,
    WrappedAgent,
    emit_reward,
    load_optimized_agent,
    open_store,
    wrap_agent,
)
from agentlightning.adapters import wrap
from agentlightning.errors import RolloutStopped
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Predict, Scope, current_scope, entered
from agentlightning.trainer.live import live_trajectories
from agentlightning.trainer.policy_folder import save_policy

WRAP = wrap.__file__


def ask(server: FakeOpenAI, instructions: str, question: str = "?") -> str:
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": question}]
    response = httpx.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
    return response.json()["choices"][0]["message"]["content"]


def replacing(agent: str, before: str, after: str) -> Policy:
    return Policy().with_prompt(PromptSite(f"{agent}:system", agent, "system", before), after)


def prompts(server: FakeOpenAI) -> list[str]:
    return [request.json["messages"][0]["content"] for request in server.requests]


def test_agents_loaded_beside_each_other_keep_their_own_policy_in_sixteen_threads(tmp_path: Path) -> None:
    def loaded(number: int) -> WrappedAgent:
        agent = wrap_agent(lambda question: ask(server, f"Be {number}.", question), name=f"agent{number}")
        save_policy(replacing(f"agent{number}", f"Be {number}.", f"I am {number}!"), tmp_path / str(number))
        return load_optimized_agent(tmp_path / str(number), agent)

    def work(number: int) -> None:
        for _ in range(4):
            agents[number](str(number))

    with FakeOpenAI() as server:
        agents = [loaded(number) for number in range(4)]
        threads = [threading.Thread(target=work, args=(n % 4,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [[message["content"] for message in request.json["messages"]] for request in server.requests]
    assert len(seen) == 64 and all(prompt == f"I am {asked}!" for prompt, asked in seen)


def test_a_policy_put_to_use_while_a_call_begins_is_taken_whole_or_not_at_all() -> None:
    """Another `use` is made before every single instruction that `wrap.py` runs for a call."""
    policies = [replacing("speak", "Be brief.", text) for text in ("first", "second")]
    uses: list[tuple[Policy, Predict]] = [(policy, lambda call, _: call) for policy in policies]
    num_instructions = 0

    def looks(question: str) -> tuple[Policy, Predict | None]:
        scope = current_scope()
        assert scope is not None
        return scope.policy, scope.predict

    def interrupt_at(place: int) -> Callable[..., Any]:
        instructions = itertools.count()

        def on_instruction(frame: Any, event: str, _: Any) -> Any:
            nonlocal num_instructions
            frame.f_trace_opcodes = True
            if event == "opcode" and (num_instructions := next(instructions)) == place:
                agent.use(*uses[1])
            return on_instruction

        return lambda frame, event, _: on_instruction(frame, event, _) if frame.f_code.co_filename == WRAP else None

    agent = wrap_agent(looks)
    seen: list[tuple[Policy, Predict | None]] = []
    place, before = 0, sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of instructions only if a frame wants it beforehand
    while place <= num_instructions:
        agent.use(*uses[0])
        sys.settrace(interrupt_at(place))
        try:
            seen.append(agent("?"))
        finally:
            sys.settrace(before)
        place += 1
    assert all(pair in uses for pair in seen) and seen[0] == uses[1] and seen[-1] == uses[0]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


def _boss_and_writer(server: FakeOpenAI) -> tuple[WrappedAgent, WrappedAgent]:
    """A boss that calls a writer; the writer has a policy of its own."""
    writer = wrap_agent(lambda question: ask(server, "Write.", question), name="writer").use(
        replacing("writer", "Write.", "Write well.")
    )
    return wrap_agent(lambda question: ask(server, "Plan.") + writer(question), name="boss"), writer


def test_an_optimised_agent_keeps_its_policy_inside_another(server: FakeOpenAI) -> None:
    boss, _ = _boss_and_writer(server)
    boss("?")
    boss.use(replacing("boss", "Plan.", "Plan well."))("?")
    assert prompts(server) == ["Plan.", "Write well.", "Plan well.", "Write well."]


def test_the_outer_policy_works_on_what_the_inner_one_made(server: FakeOpenAI) -> None:
    boss, _ = _boss_and_writer(server)
    boss.use(replacing("writer", "Write well.", "Write best."))("?")
    assert prompts(server) == ["Plan.", "Write best."]


def test_a_policy_of_both_is_not_applied_twice(server: FakeOpenAI, recwarn: pytest.WarningsRecorder) -> None:
    def speak(left: int) -> None:
        ask(server, "Be brief.")
        if left:
            agent(left - 1)

    agent = wrap_agent(speak)
    agent.use(replacing("speak", "Be brief.", "Be loud."))(2)
    assert prompts(server) == ["Be loud."] * 3 and not recwarn.list


def test_a_rollout_holds_what_a_guest_does(server: FakeOpenAI) -> None:
    def write(question: str) -> None:
        ask(server, "Write.", question)
        emit_reward(0.5)

    writer = wrap_agent(write, name="writer").use(replacing("writer", "Write.", "Write well."))
    recorder = Recorder()
    scope = Scope("boss", recorder=recorder)
    with entered(scope):
        writer("?")
    (step,) = recorder.steps()
    assert (step.agent, step.policy_id, step.steered_sites) == ("writer", "original", ["writer:system"])
    assert step.call is not None and step.call.messages[0]["content"] == "Write well."
    assert [reward.value for reward in scope.rewards] == [0.5]


def test_a_guest_ends_with_its_rollout(server: FakeOpenAI) -> None:
    writer = wrap_agent(lambda question: ask(server, "Write.", question), name="writer").use(
        replacing("writer", "Write.", "Write well.")
    )
    scope = Scope("boss", recorder=Recorder())
    scope.close()
    with entered(scope), pytest.raises(RolloutStopped):
        writer("?")
    assert not server.requests and scope.num_late_calls == 1


def test_a_live_rollout_of_the_outer_agent_holds_the_steered_call_of_the_inner(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    _, writer = _boss_and_writer(server)
    boss = wrap_agent(lambda question: writer(question), name="boss", store=tmp_path)
    boss("?")
    boss.collector.flush()
    (step,) = asyncio.run(_live(tmp_path)).steps
    assert (step.agent, step.steered_sites) == ("writer", ["writer:system"])


async def _live(folder: Path) -> Trajectory:
    store = open_store(folder)
    (rollout,) = await live_trajectories(store, "boss")
    await store.close()
    return rollout
