"""APO as a whole, in simulated worlds with hidden rules: what it gains, what it never loses, and when it stops."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
from benchmarks.apo.simulated import Optimizer, SimulatedSession
from benchmarks.apo.worlds import World, fresh_world

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.apo.algorithm import APO
from agentlightning.algorithms.apo.search import Search
from agentlightning.data.call import Message, Reply
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.errors import ConfigError, ModelError


def search(session: SimulatedSession, **params: Any) -> Policy:
    return asyncio.run(APO(**params).train(session))


def always(text: str, finish_reason: str = "stop") -> Optimizer:
    """An optimiser that says the same every time."""
    return lambda messages, draw: Reply(message={"role": "assistant", "content": text}, finish_reason=finish_reason)


def numbered(line: str) -> Optimizer:
    """An optimiser that always proposes something new and useless."""
    count = iter(range(10**6))

    def answer(messages: list[Message], draw: int) -> Reply:
        text = f"Idea: {line}\n<instruction>\n{line} {next(count)}\n</instruction>"
        return Reply(message={"role": "assistant", "content": text}, finish_reason="stop")

    return answer


def gain(world: World, calls: float = 500, **params: Any) -> float:
    session = SimulatedSession(world, calls=calls)
    found = search(session, **params)
    return world.true_mean(found, session.sites) - world.true_mean(session.policy, session.sites)


def is_well_founded(policy: Policy, session: SimulatedSession) -> bool:
    """The original, or not behind it in validation, or a clear gain that no calls were left to validate."""
    if policy.is_original:
        return True
    if policy.id in session.evaluations:
        means = {id: entry.mean for id, entry in session.evaluations.items()}
        return means[policy.id] > means["original"] - 2 / len(session.validation_tasks)
    record = next(entry for entry in session.decisions if entry.policy_id == policy.id and entry.decision == "accepted")
    found = re.fullmatch(r"([+-][\d.]+) on (\d+) tasks", record.reason)
    return found is not None and float(found[1]) * int(found[2]) >= 1.5


def decisions(session: SimulatedSession, kind: str) -> list[str]:
    return [entry.reason for entry in session.decisions if entry.decision == kind]


def test_apo_is_known_by_its_name() -> None:
    assert ALGORITHMS.load("apo") is APO


def test_a_misspelt_setting_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'num_candidates'"):
        APO(num_candidate=2)


def test_an_informative_optimiser_leads_to_a_much_better_prompt() -> None:
    gains = [gain(World(seed=seed, skill=0.8, hint=0.9)) for seed in range(5)]
    assert min(gains) > 0.3 and sum(gains) / len(gains) > 0.5


def test_graded_rewards_improve_too() -> None:
    assert gain(World(seed=1, skill=0.8, is_graded=True)) > 0.3


def test_the_original_comes_back_when_every_idea_harms() -> None:
    world = World(seed=2, floor=0.5, stability=1.0)
    harmful = iter(world.harm)

    def harm(messages: list[Message], draw: int) -> Reply:
        topic, action = next(harmful)
        text = f"Idea: x\n<instruction>\n{world.start}\nWhen the message mentions {topic}, {action}.\n</instruction>"
        return Reply(message={"role": "assistant", "content": text}, finish_reason="stop")

    session = SimulatedSession(world, calls=400, optimizer=harm)
    assert search(session, rounds=4, bootstrap_demos=0, num_drafts=1).is_original
    assert len(decisions(session, "rejected")) > 3


def test_the_original_comes_back_when_ideas_change_nothing() -> None:
    session = SimulatedSession(World(seed=3, stability=1.0), optimizer=numbered("Be careful. " * 10))
    assert search(session, bootstrap_demos=0).is_original
    assert "no candidate was accepted in 15 rounds" in session.lines[-1]


@pytest.mark.parametrize("seed", range(20, 26))
def test_what_comes_back_is_well_founded(seed: int) -> None:
    session = SimulatedSession(fresh_world(seed), calls=400)
    assert is_well_founded(search(session), session)
    assert len(session.evaluations) > 2


def test_no_cut_off_of_the_budget_leaves_a_policy_that_is_not_well_founded() -> None:
    for calls in range(0, 220, 4):
        session = SimulatedSession(World(seed=4, skill=0.9), calls=calls)
        found = search(session, minibatch_size=4)
        assert session.budget.spent <= calls
        assert is_well_founded(found, session)


def test_a_cut_off_nobody_announced_loses_nothing_either() -> None:
    for calls in range(0, 220, 4):
        session = SimulatedSession(World(seed=5, skill=0.9), calls=calls)
        session.budget = Unannounced(session.budget)  # pyright: ignore[reportAttributeAccessIssue]
        found = search(session, minibatch_size=4)
        assert is_well_founded(found, session)


class Unannounced:
    """A budget in dollars or minutes: it ends, but in calls there is no telling when."""

    calls_left = float("inf")
    calls_per_rollout = 1.0

    def __init__(self, meter: Any) -> None:
        self.spend = meter.spend


def test_a_round_the_budget_cannot_finish_is_not_begun() -> None:
    session = SimulatedSession(World(seed=6), calls=24 + 8 + 5 + 8 - 1)
    search(session)
    assert session.budget.spent == 24
    assert "too few for another round" in session.lines[-1]


@pytest.mark.parametrize("line", ["Be calm.", "Be careful."])
def test_calls_too_few_for_a_validation_still_pay_for_a_clear_gain_and_for_no_other(line: str) -> None:
    class Calm(SimulatedSession):
        def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
            is_one = "careful" in policy.text_at(self.sites[0]) and task.id == min(known)
            is_right = "calm" in policy.text_at(self.sites[0]) or is_one
            return msgspec.structs.replace(super().act(policy, task, draw), reward=float(is_right))

    session = Calm(World(seed=6), calls=24 + 8 + 5 + 8, optimizer=numbered(line))
    known = [task.id for task in next(session.epochs()).tasks[:8]]
    found = search(session)
    assert found.is_original == (line == "Be careful.") and is_well_founded(found, session)
    assert list(session.evaluations) == ["original"] and session.budget.spent == 45


def test_a_candidate_that_falls_behind_in_the_first_block_is_not_run_on_the_second() -> None:
    class Worse(SimulatedSession):
        def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
            run = super().act(policy, task, draw)
            return run if policy.is_original else msgspec.structs.replace(run, reward=0.0)

    session = Worse(World(seed=2, floor=0.5), optimizer=numbered("Be brief."))
    search(session, rounds=1, bootstrap_demos=0, delete_lines=False)
    lost = {entry.policy_id for entry in session.decisions if entry.decision == "rejected"}
    num_run = [sum(policy_id == id for policy_id, _, _ in session.rollouts) for id in lost]
    assert num_run == [4, 4, 4]


def test_both_blocks_of_a_race_hold_what_the_incumbent_fails_and_what_it_passes() -> None:
    session = SimulatedSession(World(seed=4, floor=0.5))
    race = Search(session, batch_size=8, accepts=APO().accepts)
    turn = next(race.turns())
    groups = asyncio.run(race.run(race.incumbent, turn.judges))
    passed = {group.task_id for group in groups if group.mean == 1.0}
    shares = [sum(task.id in passed for task in block) for block in race.blocks(turn.judges)]
    assert sum(shares) == len(passed) and abs(shares[0] - shares[1]) <= 1


def test_results_do_not_depend_on_the_order_in_which_things_end() -> None:
    calm, hasty = (
        SimulatedSession(World(seed=7), calls=300, jitter_seconds=jitter, epochs=3) for jitter in (0.0, 0.003)
    )
    assert search(calm).id == search(hasty).id
    assert calm.decisions == hasty.decisions and calm.lines == hasty.lines
    assert set(calm.completions) == set(hasty.completions)


class Killed(Exception):
    """Stands for a process that ends in the middle."""


@pytest.mark.parametrize("num_answers", [2, 8, 15])
def test_a_run_killed_and_resumed_ends_as_if_it_had_never_stopped(num_answers: int) -> None:
    world = World(seed=8)
    whole = SimulatedSession(world, calls=700)
    expected = search(whole)

    class Mortal(SimulatedSession):
        async def complete(self, messages: list[Message], **options: Any) -> Reply:
            if len(self.completions) == num_answers:
                raise Killed
            return await super().complete(messages, **options)

    cut = Mortal(world, calls=700)
    with pytest.raises(Killed):
        search(cut)
    resumed = SimulatedSession(world, calls=700 - cut.budget.spent, restored=cut.checkpoints[-1])
    resumed.rollouts, resumed.completions = cut.rollouts, cut.completions
    assert search(resumed).id == expected.id
    assert resumed.decisions == whole.decisions
    assert cut.budget.spent + resumed.budget.spent == whole.budget.spent


@pytest.mark.parametrize("num_calls", [580, 610, 640])
def test_a_run_killed_while_it_leaves_out_lines_resumes_exactly(num_calls: int) -> None:
    world = World(seed=5, skill=0.9, hint=0.9, spurious=0.4)
    whole = SimulatedSession(world, calls=720, epochs=2)
    expected = search(whole)
    assert [entry.details["operator"] for entry in whole.decisions if entry.decision != "refused"][-1] == "delete"

    class Mortal(SimulatedSession):
        async def _run(self, policy: Policy, task: Task, draw: int) -> Trajectory:
            if self.budget.spent >= num_calls:
                raise Killed
            return await super()._run(policy, task, draw)

    cut = Mortal(world, calls=720, epochs=2)
    with pytest.raises(Killed):
        search(cut)
    resumed = SimulatedSession(world, calls=720 - cut.budget.spent, epochs=2, restored=cut.checkpoints[-1])
    resumed.rollouts, resumed.completions = cut.rollouts, cut.completions
    assert search(resumed).id == expected.id
    assert resumed.decisions == whole.decisions


def test_broken_proposals_are_mended_once_and_then_refused() -> None:
    session = SimulatedSession(World(seed=9), optimizer=always("no tags at all"), epochs=1)
    assert search(session, rounds=1, num_candidates=2, num_drafts=1).is_original
    assert len(session.completions) == 4
    repair = max(session.completions, key=lambda key: len(key[0]))[0]
    assert "found 0 <instruction>" in repair
    assert len(decisions(session, "refused")) == 2


def test_a_truncated_text_is_refused() -> None:
    text = "Idea: more\n<instruction>\nYou help customers well.\n</instruction>"
    session = SimulatedSession(World(seed=9), optimizer=always(text, finish_reason="length"), epochs=1)
    search(session, rounds=1)
    assert all("cut off" in reason for reason in decisions(session, "refused"))


def test_equal_proposals_of_one_round_are_run_once() -> None:
    text = "Idea: more\n<instruction>\nYou help customers well.\n</instruction>"
    session = SimulatedSession(World(seed=9), optimizer=always(text), epochs=1)
    search(session, rounds=1, num_candidates=3)
    assert len(decisions(session, "refused")) == 2 and len(decisions(session, "rejected")) == 1


def test_five_drafts_make_a_candidate_until_three_rounds_brought_nothing() -> None:
    session = SimulatedSession(World(seed=11, stability=1.0), optimizer=numbered("Smile more. " * 10))
    search(session, rounds=5, num_candidates=1, bootstrap_demos=0)
    requests = [request for request, _ in session.completions]
    assert sorted(Counter(requests).values()) == [1, 1, 5, 5, 5]
    assert len(decisions(session, "rejected")) == 5


def test_an_optimiser_that_stays_silent_ends_the_search_with_its_reason() -> None:
    def down(messages: list[Message], draw: int) -> Reply:
        raise ModelError("the optimiser is down")

    session = SimulatedSession(World(seed=10), optimizer=down)
    assert search(session, bootstrap_demos=0).is_original
    assert "failed in 2 rounds in a row (the optimiser is down)" in session.lines[-1]


def test_without_an_optimiser_model_worked_examples_still_help() -> None:
    def down(messages: list[Message], draw: int) -> Reply:
        raise ModelError("the optimiser is down")

    gains: list[float] = []
    for seed in range(4):
        session = SimulatedSession(World(seed=seed, imitation=0.8), calls=500, optimizer=down)
        found = search(session)
        assert not found.prompts and not session.completions
        gains.append(session.world.true_mean(found, session.sites) - session.world.true_mean(Policy(), session.sites))
    assert min(gains) >= 0 and sum(gains) / len(gains) > 0.1
    assert any("trying worked examples" in line for line in session.lines)


def test_one_lost_proposal_does_not_end_a_round() -> None:
    good = numbered("Be careful.")

    def flaky(messages: list[Message], draw: int) -> Reply:
        if draw == 0:
            raise ModelError("try later")
        return good(messages, draw)

    session = SimulatedSession(World(seed=10), optimizer=flaky)
    search(session, rounds=1, num_drafts=1)
    assert "2 candidates, 1 lost to the optimiser model" in session.lines[0]


def test_ideas_that_did_not_help_are_told_to_the_optimiser() -> None:
    session = SimulatedSession(World(seed=11, stability=1.0), optimizer=numbered("Smile more. " * 10))
    search(session, rounds=2)
    last = list(session.completions)[-1][0]
    assert "<rejected>" in last and "Smile more" in last.split("<rejected>")[1] and "on 8 tasks)" in last


def test_a_perfect_agent_costs_no_proposal() -> None:
    session = SimulatedSession(World(seed=12, floor=1.0, ceiling=1.0), calls=1000)
    assert search(session).is_original
    assert not session.completions and "no failed run" in session.lines[-1]


def test_the_estimate_is_an_upper_bound_of_what_a_search_runs() -> None:
    session = SimulatedSession(World(seed=12), epochs=2)
    algorithm = APO(patience=100)
    asyncio.run(algorithm.train(session))
    asked = len(session.rollouts) - len(session.validation_tasks)
    estimate = algorithm.estimate_rollouts(40, 24, 2)
    assert asked <= estimate < 5 * asked
    assert APO(rounds=1, bootstrap_demos=0, delete_lines=False).estimate_rollouts(40, 24, 2) == 8 * 4 + 24


def test_no_site_and_no_task_are_said_and_cost_nothing() -> None:
    session = SimulatedSession(World(seed=12))
    session.sites = []
    assert search(session).is_original
    assert "no prompt site" in session.lines[0] and session.budget.spent == 0


class CrossFitted(SimulatedSession):
    """Writes down which inputs each candidate was drawn from, and where it was first run."""

    def __init__(self, world: World) -> None:
        super().__init__(world, calls=2000, is_cross_fitted=True, epochs=4)
        self.drawn_from: dict[str, str] = {}
        self.first_run: dict[str, list[Task]] = {}

    async def complete(self, messages: list[Message], **options: Any) -> Reply:
        reply = await super().complete(messages, **options)
        self.drawn_from.setdefault(reply.text.split("<instruction>\n")[-1].split("\n</")[0], messages[0]["content"])
        return reply

    async def rollout(
        self, tasks: list[Task], *, policy: Policy | None = None, n: int = 1, draw: int = 0
    ) -> list[Group]:
        self.first_run.setdefault((policy or self.policy).id, tasks)
        return await super().rollout(tasks, policy=policy, n=n, draw=draw)


@pytest.mark.parametrize("num_tasks", [2, 3, 12, 25])
def test_cross_fitting_never_compares_on_the_tasks_an_idea_came_from(num_tasks: int) -> None:
    session = CrossFitted(World(seed=13, num_train=num_tasks, skill=0.9))
    search(session, num_drafts=1)  # of drafts that are not run, one may be written again in another round
    reflected = [entry for entry in session.decisions if entry.details.get("operator") == "reflect"]
    tried = [session.policies[entry.policy_id] for entry in reflected]
    assert tried
    for policy in tried:
        request = session.drawn_from[policy.prompts["main.system"]]
        assert all(f"<input>{task.input}</input>" not in request for task in session.first_run[policy.id])


def test_cross_fitting_still_improves() -> None:
    gains: list[float] = []
    for seed in range(14, 18):
        world = World(seed=seed, num_train=16, skill=0.9, hint=0.9)
        session = SimulatedSession(world, calls=1000, is_cross_fitted=True)
        gains.append(world.true_mean(search(session), session.sites) - world.true_mean(Policy(), session.sites))
    assert sum(gains) / len(gains) > 0.25


def test_one_task_alone_cannot_be_cross_fitted() -> None:
    session = SimulatedSession(World(seed=15, num_train=1), is_cross_fitted=True)
    assert search(session).is_original
    assert "at least 2 needed" in session.lines[0]


def test_two_agents_both_get_better_instructions() -> None:
    world = World(seed=16, agents=("triage", "writer"), skill=0.9, hint=0.9)
    session = SimulatedSession(world, calls=800)
    found = search(session)
    assert set(found.prompts) == {"triage.system", "writer.system"}
    request = next(iter(session.completions))[0]
    assert '<instruction agent="triage" kind="system"' in request and '<other agent="writer"' in request


class Crashing(SimulatedSession):
    """The agent crashes on every task, unjudged, until its prompt says to be calm."""

    def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
        ran = super().act(policy, task, draw)
        if "calm" in policy.text_at(self.sites[0]):
            return msgspec.structs.replace(ran, reward=1.0)
        return msgspec.structs.replace(ran, reward=None, rewards=[], status="failed", error="boom", output=None)


def test_an_agent_that_always_crashes_can_be_mended() -> None:
    session = Crashing(World(seed=17), calls=300, optimizer=numbered("Stay calm."))
    assert "calm" in search(session, rounds=2).prompts["main.system"]
    request = next(iter(session.completions))[0]
    assert 'outcome="failed" score="none"' in request and "the run ended with an error: boom" in request


def test_a_candidate_that_crashes_is_not_an_improvement() -> None:
    class Fragile(SimulatedSession):
        def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
            ran = super().act(policy, task, draw)
            if policy.is_original or ran.reward == 1.0:
                return ran
            return msgspec.structs.replace(ran, reward=None, rewards=[], status="failed", error="boom")

    session = Fragile(World(seed=18, floor=0.5, stability=1.0), optimizer=numbered("Hurry. " * 10))
    assert search(session, rounds=3, bootstrap_demos=0).is_original


def test_runs_nothing_could_judge_teach_nothing_and_cost_no_proposal() -> None:
    class Unjudged(SimulatedSession):
        def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
            return msgspec.structs.replace(super().act(policy, task, draw), reward=None, rewards=[])

    session = Unjudged(World(seed=19))
    assert search(session).is_original
    assert not session.completions and "no run could be judged" in session.lines[0]


def test_an_optimiser_none_of_whose_proposals_can_be_run_is_pointed_out() -> None:
    session = SimulatedSession(World(seed=7), optimizer=lambda *_: Reply(message={"content": "No."}), epochs=1)
    search(session, bootstrap_demos=0)
    assert "none of the" in session.lines[-1] and "expected one of each around the text" in session.lines[-1]


def test_the_plan_counts_the_proposals_of_every_round() -> None:
    assert APO().estimate_proposals(40, 2) == 2 * 5 * 3 * 5
    assert APO(rounds=4, num_candidates=2, num_drafts=1).estimate_proposals(40, 2) == 8
