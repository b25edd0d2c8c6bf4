"""A rollout with one agent in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.trajectory import Step
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install

install()

KEY = "sk-secret-4f9a7b2c6d8e"
MESSAGES: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
LOOK: Any = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": 17, "deep": "yes"}'}}
SITE = PromptSite(id="s1", agent="helper", kind="system", template="Be kind.")
STEERED = Policy().with_prompt(SITE, "Be brief.")


@contextmanager
def rollout(policy: Policy | None = None) -> Iterator[Recorder]:
    """Run a block as a rollout of `helper`."""
    recorder = Recorder()
    scope = Scope("helper", recorder=recorder, policy=policy)
    with entered(scope):
        yield recorder
    scope.close()


def only_step(recorder: Recorder) -> Step:
    [step] = recorder.steps()
    return step


def text_of(step: Step) -> str:
    assert step.reply is not None, step.error
    return step.reply.text
