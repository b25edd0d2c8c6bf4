"""What every adapter promises, tried with the real framework: all calls seen, the right names, one agent steered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract.adapters.case import Case
from tests.contract.adapters.conftest import ALL, INSTALLED
from tests.contract.adapters.model import (
    broken,
    chat_model,
    lookup,
    loud_tasks,
    messages_model,
    question,
    responses_model,
)
from tests.contract.adapters.rollouts import Rollout, answers_of, rollout, rollouts, site_of
from tests.servers import FakeOpenAI

from agentlightning import Policy, Task, Trainer, load_optimized_agent, wrap_agent
from agentlightning.adapters import ADAPTERS
from agentlightning.errors import ConfigError
from agentlightning.interception.tools import Tape

HELLO = question("hello")


def loud_critic(done: Rollout, case: Case) -> Policy:
    site = site_of(done, case.critic)
    return Policy().with_prompt(site, site.template.replace("You are the critic. You repeat", "SHOUT. You repeat"))


def test_the_frameworks_this_environment_is_for_are_here() -> None:
    expected = {name for name in os.environ.get("AGENTLIGHTNING_EXPECT_FRAMEWORKS", "").split(",") if name}
    assert expected <= {case.name for case in INSTALLED}


def test_every_adapter_is_tried_and_what_is_left_out_has_a_reason() -> None:
    assert {case.name for case in ALL} == set(ADAPTERS.names())
    left_out = [(name, why) for case in ALL for name, why in case.left_out.items()]
    assert all(name in globals() and len(why) > 20 for name, why in left_out)


def test_it_is_recognised_and_names_its_members(case: Case, team: object) -> None:
    agent = wrap_agent(team)
    assert agent.adapter.name == case.name
    if case.has_known_members:
        assert {case.writer, case.critic} <= {*agent.names()}


def test_its_structure_is_told_to_people(case: Case, server: FakeOpenAI) -> None:
    agent = wrap_agent(case.team(server, tool=lookup))
    built = agent.adapter.structure()
    assert built.kind.split()[0] == case.name and set(built.tools) == {"lookup"}
    assert {case.writer, case.critic} <= {member.name for member in built.members}
    assert any({case.writer, case.critic} & {link.source, link.target} for link in built.links)
    assert all(name in built.text() for name in (case.writer, case.critic))


def test_another_type_is_refused_with_what_was_found(case: Case, team: object) -> None:
    with pytest.raises(Exception, match=f"agent_type='{case.name}' was asked for, but"):
        wrap_agent(42, case.name)


def test_every_call_is_seen_with_who_made_it(case: Case, team: object, server: FakeOpenAI) -> None:
    done = rollout(wrap_agent(team), HELLO)
    assert done.output == "hello"
    assert done.speakers == [case.writer, case.critic]
    assert len(server.requests) == len(done.calls)
    assert done.calls[-1].reply is not None and done.calls[-1].reply.text == "hello"
    assert all(step.error is None and step.dialect == case.dialect for step in done.calls)


def test_streams_are_put_together(case: Case, server: FakeOpenAI) -> None:
    done = rollout(wrap_agent(case.team(server, stream=True)), HELLO)
    assert done.output == "hello" and done.speakers == [case.writer, case.critic]
    assert all(step.call and step.call.stream and not step.is_partial for step in done.calls)
    assert done.calls[-1].reply is not None and done.calls[-1].reply.text == "hello"
    assert all(step.reply and step.reply.usage and step.reply.usage.output_tokens for step in done.calls)


def test_one_agent_is_steered_and_the_others_bytes_stay(case: Case, team: object, server: FakeOpenAI) -> None:
    agent = wrap_agent(team)
    before = rollout(agent, HELLO)
    after = rollout(agent, HELLO, loud_critic(before, case))
    assert (before.output, after.output) == ("hello", "LOUD HELLO")
    first, second, third, fourth = (seen.body for seen in server.requests)
    assert third == first and fourth != second
    assert [bool(step.steered_sites) for step in after.calls] == [False, True]


def test_a_loaded_agent_is_used_as_the_original_was(case: Case, team: object, server: FakeOpenAI) -> None:
    agent = wrap_agent(team)
    policy = loud_critic(rollout(agent, HELLO), case)
    better, plain = wrap_agent(case.team(server)).use(policy), wrap_agent(case.team(server))
    answers = answers_of(lambda: better(HELLO), lambda: case.ask(better, HELLO), lambda: case.ask(plain, HELLO))
    assert answers == ["LOUD HELLO", "LOUD HELLO", "hello"]


def test_a_refusing_model_fails_the_rollout_and_stands_in_its_record(
    case: Case, team: object, server: FakeOpenAI
) -> None:
    server.next_status(400, times=5)
    [done] = rollouts(wrap_agent(team), [HELLO])
    assert done.error is not None
    assert done.calls[0].status == 400 and "scripted 400" in (done.calls[0].error or "")


def needs_tools(case: Case) -> None:
    if not case.can_use_tools:
        pytest.skip("the packages installed here cannot use tools together")


def test_tools_are_recorded(case: Case, server: FakeOpenAI) -> None:
    needs_tools(case)
    done = rollout(wrap_agent(case.team(server, tool=lookup)), question("tool moon"))
    [tool] = done.tools
    assert (tool.name, tool.arguments, tool.agent) == ("lookup", {"word": "moon"}, case.tool_user)
    assert "meaning of moon" in str(tool.result) and tool.error is None and tool.latency_seconds is not None


def test_a_tools_exception_is_recorded(case: Case, server: FakeOpenAI) -> None:
    needs_tools(case)
    [done] = rollouts(wrap_agent(case.team(server, tool=broken)), [question("tool moon")])
    assert "no book for moon" in (done.tools[0].error or "")


def test_a_stubbed_tool_does_not_run(case: Case, server: FakeOpenAI) -> None:
    needs_tools(case)
    agent = wrap_agent(case.team(server, tool=broken), tools={"broken": {"mode": "stub", "returns": "stubbed"}})
    done = rollout(agent, question("tool moon"))
    assert [tool.result for tool in done.tools] == ["stubbed"]
    assert any("stubbed" in step.reply.text for step in done.calls if step.reply)


def test_a_recorded_tool_runs_once_and_a_replayed_one_never(case: Case, server: FakeOpenAI) -> None:
    needs_tools(case)
    runs: list[str] = []

    def counted(word: str) -> str:
        """Look a word up."""
        runs.append(word)
        return f"meaning of {word}"

    asked, tape = question("tool moon"), Tape()
    agent = wrap_agent(case.team(server, tool=counted), tools={"counted": "record"})
    first, second = (rollout(agent, asked, tape=tape) for _ in range(2))
    assert runs == ["moon"] and [tool.is_simulated for tool in (*first.tools, *second.tools)] == [False, True]
    read = Tape()
    read.put("counted", first.tools[0].arguments, first.tools[0].result)  # as from a store
    replaying = wrap_agent(case.team(server, tool=counted), tools={"counted": "replay"})
    third = rollout(replaying, asked, tape=read)
    assert runs == ["moon"]
    for done in (first, second, third):
        assert any("meaning of moon" in step.reply.text for step in done.calls if step.reply)
    [unknown] = rollouts(replaying, [question("tool sun")], tape=read)
    assert "ReplayMiss" in (unknown.tools[0].error or "") and runs == ["moon"]


def test_a_mode_for_a_tool_that_is_not_there_is_refused(case: Case, server: FakeOpenAI) -> None:
    with pytest.raises(Exception, match=r"'lookupp'.*Did you mean 'lookup'"):
        wrap_agent(case.team(server, tool=lookup), tools={"lookupp": "stub"}).prepare()


def test_every_rollout_is_set_up_and_torn_down(case: Case, team: object, tmp_path: Path) -> None:
    ready: set[str] = set()
    log: list[tuple[str, str]] = []

    async def empty(task: Task) -> None:
        ready.remove(task.id)
        log.append(("torn down", task.id))

    agent = wrap_agent(team, set_up=lambda task: ready.add(task.id), tear_down=empty)
    trainer = Trainer(agent, data_dir=tmp_path, output_dir=tmp_path / "out", progress=False, reward=lambda *_: 1.0)
    measured = trainer.evaluate([Task("a", HELLO), Task("b", question("bye"))])
    assert [t.output for t in measured.trajectories] == ["hello", "bye"]
    assert sorted(log) == [("torn down", "a"), ("torn down", "b")] and not ready


def slowly(model: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def answer(body: Any) -> Any:
        time.sleep(0.02)
        return model(body)

    return answer


def test_sixteen_rollouts_at_once_do_not_mix(case: Case, team: object, server: FakeOpenAI) -> None:
    server.reply(slowly(chat_model))
    server.route("/v1/responses", slowly(responses_model))
    server.route("/v1/messages", slowly(messages_model))
    asked = [f"word {i}x" for i in range(16)]
    done = rollouts(wrap_agent(team), [question(text) for text in asked])
    assert [each.error for each in done] == [None] * 16
    assert [each.output for each in done] == asked
    for text, each in zip(asked, done, strict=True):
        assert each.speakers == [case.writer, case.critic]
        assert all(question(text) in str(step.call) for step in each.calls)
    assert server.max_in_flight > 1


def test_one_agent_of_it_is_trained_end_to_end(case: Case, team: object, server: FakeOpenAI, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "agent": {"target_agents": [case.critic]},
        "trainer": {"output_dir": str(tmp_path / "out")},
    }
    if case.dialect != "chat":  # our own models are asked over chat completions
        config["models"] = {"optimizer": {"model": "m", "base_url": server.base_url}}
    made = Trainer(
        wrap_agent(team, name="duo"), config=config, data_dir=tmp_path / "data", max_epochs=1, progress=False
    )
    result = made.train(loud_tasks())
    assert result.verdict == "improved" and (result.baseline, result.final) == (0.0, 1.0)
    assert {site.rpartition(":")[0] for site in result.prompts} == {case.critic}
    better = load_optimized_agent(tmp_path / "out", wrap_agent(case.team(server), name="duo"))
    assert answers_of(lambda: better(HELLO)) == ["LOUD HELLO"]


def test_in_a_worker_process_it_is_seen_and_steered_as_in_our_own(
    case: Case, team: object, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = loud_critic(rollout(wrap_agent(team), HELLO), case)
    monkeypatch.setenv("CASE", type(case).__name__)
    monkeypatch.setenv("CASE_SERVER", server.url)
    agent = wrap_agent(team)
    agent.source = {"path": "tests.contract.adapters.in_workers:team", "base_dir": "."}
    done = rollouts(agent, [HELLO, HELLO], policy, num_workers=1)
    assert [(each.error, each.output) for each in done] == [(None, "LOUD HELLO")] * 2
    for each in done:
        assert each.speakers == [case.writer, case.critic]
        assert [bool(step.steered_sites) for step in each.calls] == [False, True]


def test_a_misspelt_target_lists_the_real_ones(case: Case, team: object, tmp_path: Path) -> None:
    config = {"agent": {"target_agents": [case.critic + "x"]}}
    with pytest.raises(ConfigError, match=f"Did you mean '{case.critic}'") as refused:
        trainer = Trainer(wrap_agent(team), config=config, data_dir=tmp_path, output_dir=tmp_path, progress=False)
        trainer.train(loud_tasks(4))
    assert case.writer in str(refused.value)
