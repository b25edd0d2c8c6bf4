"""DSPy's MIPROv2 and GEPA on a simulated world: a program with one predictor per agent, models behind DSPy's own LM.

The task model reads its instruction and worked examples from DSPy's messages, and every call that passes is counted.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from types import SimpleNamespace
from typing import Any

import dspy
from benchmarks.apo.families import AnyWorld, Found, agent_and_text, propose

from agentlightning.data.resource import Demo

_FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
_GIVEN = re.compile(r"\[\[ ## message ## \]\]\n(.*?)(?=\n\n|\Z)", re.DOTALL)
_ANSWERED = re.compile(r"\[\[ ## answer ## \]\]\n(.*?)(?=\n\n|\Z)", re.DOTALL)

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


class Model(dspy.BaseLM):
    """The simulated task model and optimiser of a world, as one DSPy model each; `spent` is shared."""

    def __init__(self, world: AnyWorld, meter: dict[str, int], *, is_optimizer: bool) -> None:
        super().__init__(model="simulated", cache=False)
        self.world, self.meter, self.is_optimizer = world, meter, is_optimizer

    def forward(self, prompt: str | None = None, messages: list[Any] | None = None, **options: Any) -> Any:
        messages = messages or [{"role": "user", "content": prompt or ""}]
        self.meter["spent"] += 1
        text = self._propose(messages) if self.is_optimizer else self._act(messages)
        message = SimpleNamespace(content=text, tool_calls=None, role="assistant")
        choice = SimpleNamespace(message=message, finish_reason="stop", index=0)
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return SimpleNamespace(choices=[choice], usage=usage, model="simulated")

    def _act(self, messages: list[Any]) -> str:
        system, *turns, last = messages
        agent, text = agent_and_text(self.world, system["content"])
        demos = [
            Demo(_part(_GIVEN, asked["content"]), _part(_ANSWERED, answered["content"]))
            for asked, answered in zip(turns[::2], turns[1::2], strict=True)
        ]
        said = self.world.act(agent, text, demos, _part(_GIVEN, last["content"]))
        return f"[[ ## answer ## ]]\n{said}\n\n[[ ## completed ## ]]"

    def _propose(self, messages: list[Any]) -> str:
        request = "\n".join(str(message["content"]) for message in messages)
        asked = str(messages[-1]["content"]).rpartition("Respond with the corresponding output fields")
        wanted = _FIELD.findall(asked[2]) if asked[1] else []
        if not wanted or "proposed_instruction" in wanted:
            # Of several agents' texts that a request quotes, the one to improve comes under this heading.
            return propose(self.world, request, self.meter["spent"], heading="[[ ## basic_instruction ## ]]")
        # A description of the data set passes on the examples it was shown: the best summary there could be.
        told = " ".join(self.world.EXAMPLE.findall(request)) or "Several kinds of input come in."
        told = [f"[[ ## {name} ## ]]\n{told}" for name in wanted if name != "completed"]
        return "\n\n".join([*told, "[[ ## completed ## ]]"])


class Program(dspy.Module):
    """One predictor per agent; their answers make up the output."""

    def __init__(self, world: AnyWorld) -> None:
        super().__init__()
        for agent in world.agents:
            setattr(self, agent, dspy.Predict(dspy.Signature("message -> answer", world.start_of(agent))))
        self.agents = list(world.agents)

    def forward(self, message: str) -> Any:
        return dspy.Prediction(answer="; ".join(getattr(self, agent)(message=message).answer for agent in self.agents))


class Setup:
    """A world as DSPy sees it."""

    def __init__(self, world: AnyWorld) -> None:
        self.world, self.meter = world, {"spent": 0}
        self.task = Model(world, self.meter, is_optimizer=False)
        self.optimizer = Model(world, self.meter, is_optimizer=True)
        dspy.configure(lm=self.task, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False))

    def examples(self, split: str) -> list[Any]:
        found = [dspy.Example(message=str(task.input), **_label(task)) for task in self.world.tasks(split)]
        return [example.with_inputs("message") for example in found]

    def score(self, example: Any, prediction: Any, *rest: Any) -> float:
        return self.world.in_unit(self.world.grade(example.message, prediction.answer))

    def score_with_feedback(self, example: Any, prediction: Any, *rest: Any) -> Any:
        feedback = self.world.reason(example.message, prediction.answer)
        if self.world.is_labelled:
            feedback += f". Expected: {example.answer}"
        return dspy.Prediction(score=self.score(example, prediction), feedback=feedback)

    def found(self, program: Any) -> Found:
        agents = {agent: getattr(program, agent) for agent in self.world.agents}
        texts = {agent: predictor.signature.instructions for agent, predictor in agents.items()}
        demos = {
            agent: [Demo(demo["message"], demo.get("answer", "")) for demo in predictor.demos]
            for agent, predictor in agents.items()
        }
        return texts, demos, self.meter["spent"]


def run_dspy_gepa(world: AnyWorld, calls: int) -> Found:
    """GEPA as DSPy ships it (merging on), minibatches of 8; the iteration that spends the last call is finished."""
    setup = Setup(world)
    optimizer = dspy.GEPA(
        metric=setup.score_with_feedback,
        max_metric_calls=10 * calls,
        reflection_minibatch_size=8,
        reflection_lm=setup.optimizer,
        num_threads=1,
        seed=world.seed,
        gepa_kwargs={"stop_callbacks": lambda state: setup.meter["spent"] >= calls},
    )
    train, validation = setup.examples("train"), setup.examples("validation")
    return setup.found(optimizer.compile(Program(world), trainset=train, valset=validation))


def run_mipro(world: AnyWorld, calls: int) -> Found:
    """MIPROv2 with as many trials as the calls allow, minibatches of 8, six sets of demos, and for 200, 500 and 1,000
    calls the number of instructions of its light, medium and heavy mode.

    It cannot be stopped halfway, so its trials are planned: bootstrapping takes about 40 rollouts, proposing about 15
    calls, each trial 8 rollouts, and every fifth a full validation of 24.
    """
    setup = Setup(world)
    per_rollout = world.calls_per_rollout
    spare = calls - 15 - per_rollout * (40 + 2 * world.num_validation)
    num_trials = max(2, math.floor(spare / (per_rollout * (8 + world.num_validation / 5))))
    optimizer = dspy.MIPROv2(
        metric=setup.score,
        prompt_model=setup.optimizer,
        task_model=setup.task,
        auto=None,
        num_candidates=6,
        num_threads=1,
        seed=world.seed,
        max_bootstrapped_demos=4,
        max_labeled_demos=4 if world.is_labelled else 0,
    )
    optimizer.num_instruct_candidates = 6 if calls < 500 else 12 if calls < 1000 else 18
    program = optimizer.compile(
        Program(world),
        trainset=setup.examples("train"),
        valset=setup.examples("validation"),
        num_trials=num_trials,
        minibatch_size=8,
        minibatch_full_eval_steps=5,
    )
    return setup.found(program)


def _label(task: Any) -> dict[str, Any]:
    return {} if task.expected is None else {"answer": task.expected}


def _part(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].strip() if found else ""
