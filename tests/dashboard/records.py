"""A small training run as records: a baseline, two candidates of which one was accepted, four rollouts with steps."""

from __future__ import annotations

from typing import Any

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.data.record import Record, make_record
from agentlightning.data.resource import Policy, PromptSite, Slot
from agentlightning.data.trajectory import ErrorTag, Features, Reward, Step, Trajectory
from agentlightning.store.trajectories import trajectory_records

RUN = "run-1"
SITE = PromptSite(
    id="helper:system",
    agent="helper",
    kind="system",
    template="Be kind to ⟦name⟧.",
    slots=[Slot("name", examples=["Ada"])],
    coverage=0.9,
    num_observed=12,
)
BETTER = Policy().with_prompt(SITE, "Be kind to ⟦name⟧.\nAnswer in one word.")
WORSE = Policy().with_prompt(SITE, "Be rude to ⟦name⟧.")


def rollout(id: str, task: str = "t-1", *, run: str = RUN, **fields: Any) -> Trajectory:
    """One rollout with a model step; `fields` go to the trajectory."""
    messages = [{"role": "system", "content": "Be kind to Ada."}, {"role": "user", "content": f"question of {task}"}]
    call = Call(agent="helper", model="m", messages=messages)
    reply = Reply(message={"role": "assistant", "content": f"answer of {id}"}, usage=Usage(7, 2), model="m")
    step = Step(
        id=f"{id}.0",
        rollout_id=id,
        index=0,
        kind="model",
        agent="helper",
        started_at=100.0,
        latency_seconds=0.5,
        call=call,
        reply=reply,
    )
    given: dict[str, Any] = {
        "agent_id": "helper",
        "task": task,
        "input": f"question of {task}",
        "output": f"answer of {id}",
        "reward": 1.0,
        "rewards": [Reward(1.0, "as expected")],
        "timestamp": 100.0,
        "seconds": 0.6,
        "run_id": run,
        "stage": "1-apo",
        "policy_id": "original",
        "features": Features(success=True, num_model_calls=1),
        "usage": Usage(7, 2),
        "usd": 0.01,
        "steps": [step],
    }
    return Trajectory(id=id, **(given | fields))


def records() -> list[Record]:
    """The run, finished."""
    failed = Features(success=False, error_tags=[ErrorTag("timeout", 0, "took too long")], num_model_calls=1)
    rollouts = [
        rollout("r-good"),
        rollout("r-poor", reward=0.25, rewards=[Reward(0.25, "too long")], policy_id=WORSE.id),
        rollout("r-bad", "t-2", status="failed", error="ZeroDivisionError", reward=None, rewards=[], features=failed),
        rollout("r-test", "t-3", stage="test", split="test", policy_id=BETTER.id),
    ]
    return [
        make_record("run", RUN, running(), run=RUN),
        make_record("site", SITE.id, SITE, run=RUN),
        *(record for one in rollouts for record in trajectory_records(one, with_steps=True)),
        evaluation("baseline.original", "original", {"t-1": 0.0, "t-2": 1.0}, "baseline"),
        evaluation(f"1-apo.{BETTER.id}", BETTER.id, {"t-1": 1.0, "t-2": 1.0}, "1-apo"),
        decision(BETTER, "accepted", "+0.50 on 2 tasks"),
        decision(WORSE, "rejected", "-0.50 on 2 tasks"),
        make_record("log", "l-1", {"text": "round 1", "stage": "1-apo", "metrics": {"incumbent": 0.5}}, run=RUN),
        make_record("log", "l-2", {"text": "round 2", "stage": "1-apo", "metrics": {"incumbent": 1.0}}, run=RUN),
        make_record("run", RUN, finished(), run=RUN),
    ]


def running() -> dict[str, Any]:
    return {"status": "running", "agent": "helper", "started_at": 99.0, "kind": "training", "config": {"seed": 3}}


def finished() -> dict[str, Any]:
    """The run's last record."""
    tasks = [
        {"task_id": "t-3", "split": "test", "input": "q", "baseline_reward": 0.0, "final_reward": 1.0},
        {"task_id": "t-4", "split": "test", "input": "q", "baseline_reward": 1.0, "final_reward": 1.0},
        {"task_id": "t-5", "split": "test", "input": "q", "baseline_reward": 1.0},
    ]
    result = {
        "policy": BETTER,
        "verdict": "improved",
        "baseline": 0.5,
        "final": 1.0,
        "difference": 0.5,
        "interval": [0.1, 0.9],
        "num_test_tasks": 2,
        "cost": {"calls": 9, "input_tokens": 63, "output_tokens": 18, "usd": 0.04, "seconds": 12.0},
        "notes": ["rewards come from a function"],
        "tasks": tasks,
    }
    return {"status": "finished", "agent": "helper", "started_at": 99.0, "result": result}


def evaluation(id: str, policy: str, scores: dict[str, float], stage: str) -> Record:
    mean = sum(scores.values()) / len(scores)
    body = {"policy_id": policy, "scores": scores, "unjudged": [], "mean": mean, "stage": stage}
    return make_record("evaluation", id, body, run=RUN)


def decision(policy: Policy, how: str, reason: str) -> Record:
    body = {"policy": policy, "decision": how, "parent": "original", "reason": reason, "stage": "1-apo"}
    return make_record("policy", policy.id, body | {"details": {"round": 1, "idea": "try it"}}, run=RUN)
