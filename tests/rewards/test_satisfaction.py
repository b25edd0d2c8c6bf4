"""A user's own word counts before what the agent reports, and both before a model's guess."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.rewards.cases import rollout
from tests.servers import FakeOpenAI

from agentlightning.data.trajectory import Reward
from agentlightning.errors import ConfigError, DataError
from agentlightning.models.client import ModelClient
from agentlightning.models.endpoint import Endpoint
from agentlightning.rewards.base import Services, bound, evaluate_reward
from agentlightning.rewards.combine import describe_reward
from agentlightning.rewards.judge import JudgeReward
from agentlightning.rewards.satisfaction import HumanFeedback, UserConfirmationRate, UserSatisfaction

GUESS = '{"reason": "they would ask again", "score": 0.4}'


def judged(kind: Any, bodies: list[dict[str, Any]], server: FakeOpenAI | None = None, **fields: Any) -> Reward | None:
    async def feedback(rollout_id: str) -> list[dict[str, Any]]:
        return [body for body in bodies if body["rollout"] == rollout_id]

    complete = ModelClient(Endpoint(model="m", base_url=server.base_url)).complete if server else None
    function = bound(kind, Services(complete=complete, judge="m", feedback=feedback))
    return asyncio.run(evaluate_reward(function, *rollout(output="It left.", **fields)))


RATED = [{"kind": "rating", "rollout": "r-1", "value": 0.75, "rater": "Ann", "comment": "quick"}]


def test_what_users_said_counts_before_anybodys_guess():
    with FakeOpenAI(GUESS) as server:
        given = judged(UserSatisfaction(), RATED, server)
        assert given == Reward(0.75, "rated by 1 person: quick", "user_satisfaction", "human")
        assert server.requests == []


def test_what_the_agent_reports_counts_next():
    emitted = Reward(1.0, "thumbs up", "user_confirmation_rate", "emitted")
    assert judged(UserConfirmationRate(), [], rewards=[emitted]) == emitted


def test_else_a_model_stands_for_the_user_and_the_source_says_so():
    with FakeOpenAI(GUESS) as server:
        given = judged(UserSatisfaction(), [{**RATED[0], "rollout": "r-2"}], server)
        assert given == Reward(0.4, "they would ask again", "user_satisfaction", "judge")
        assert "stand for the user" in server.requests[0].json["messages"][1]["content"]
        judged(UserConfirmationRate("Say yes."), [], server)
        assert "Say yes." in server.requests[1].json["messages"][1]["content"]


def test_without_users_and_model_nothing_is_made_up():
    assert judged(UserSatisfaction(), []) is None
    with FakeOpenAI(GUESS) as server:
        assert judged(HumanFeedback(), [], server) is None


def test_broken_feedback_is_an_error_and_not_a_zero():
    with pytest.raises(DataError, match="a value from 0 to 1"):
        judged(HumanFeedback(), [{"kind": "rating", "rollout": "r-1", "value": 5}])


def test_the_run_is_told_where_the_reward_comes_from():
    async def complete(messages: Any) -> Any: ...

    described = describe_reward(bound(UserSatisfaction(), Services(complete=complete, judge="m at localhost")))
    assert described == (
        "user_satisfaction: what users said, where there is none a model that stands for the user: m at localhost"
    )


def test_a_judge_without_a_model_is_refused_before_anything_is_run():
    with pytest.raises(ConfigError, match=r"models\.judge"):
        bound(JudgeReward(), Services())
