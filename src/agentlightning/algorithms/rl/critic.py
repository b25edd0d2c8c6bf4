"""PPO's critic: an adapter of its own that says, before each turn of an agent, what the rollout will still earn.

It looks at turns, not tokens: what is worth knowing is in the observation before an answer, and a turn is what an agent
decides. Values are the engine's `rate` of the conversation so far; the critic learns with the engine's loss `value`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agentlightning.algorithms.rl.advantages import ZERO, deviation, gae, mean
from agentlightning.algorithms.rl.config import RLConfig
from agentlightning.algorithms.rl.credit import Advantages
from agentlightning.algorithms.rl.play import Play
from agentlightning.data.sample import Sample, Turn
from agentlightning.engine.base import Engine, Learning


def critic_of(agent: str) -> str:
    """The critic's adapter."""
    return f"{agent}.critic"


async def judged_by_critic(engine: Engine, plays: Sequence[Play], config: RLConfig) -> list[Advantages]:
    """Advantages of one agent's plays, whitened over the batch; afterwards the critic has learned from them."""
    values = await _values(engine, plays)
    raw: list[Advantages] = []
    returns: list[Advantages] = []
    for play, expected in zip(plays, values, strict=True):
        rewards = [play.step_rewards.get(turn, 0.0) for turn in play.turns]
        rewards[-1] += play.reward
        found = gae(rewards, expected, config.discount, config.gae_lambda)
        raw.append(dict(zip(play.turns, found, strict=True)))
        returns.append({turn: a + v for turn, a, v in zip(play.turns, found, expected, strict=True)})
    await _learn(engine, plays, returns, config)
    return _whitened(raw)


async def _values(engine: Engine, plays: Sequence[Play]) -> list[list[float]]:
    """What the critic expects before each turn of each play; zeros before it has ever learned."""
    agent = plays[0].agent
    if not await engine.snapshot(critic_of(agent)):
        return [[0.0] * len(play.turns) for play in plays]
    before = [(i, turn, _before(s, turn)) for i, play in enumerate(plays) for s in play.samples for turn in s.turns]
    rated = await engine.rate([prefix for _, _, prefix in before], adapter=critic_of(agent))
    found: list[dict[int, float]] = [{} for _ in plays]
    for (number, turn, _), value in zip(before, rated, strict=True):
        found[number][turn.step] = value
    return [[found[i][turn] for turn in play.turns] for i, play in enumerate(plays)]


def _before(sample: Sample, turn: Turn) -> Sample:
    """The conversation up to the turn, its last token in the place of an answer."""
    ids = [*sample.prompt_ids, *sample.completion_ids[: turn.start]]
    return msgspec.structs.replace(
        sample,
        prompt_ids=ids[:-1],
        completion_ids=ids[-1:],
        mask=[1],
        logprobs=None,
        advantages=None,
        turns=[Turn(turn.step, 0, 1)],
    )


async def _learn(engine: Engine, plays: Sequence[Play], returns: Sequence[Advantages], config: RLConfig) -> None:
    samples = [s.with_turn_advantages(r) for p, r in zip(plays, returns, strict=True) for s in p.samples]
    learning = Learning(
        loss="value",
        learning_rate=config.critic_lr,
        num_minibatches=config.num_minibatches,
        max_tokens_per_pass=config.max_tokens_per_pass,
    )
    await engine.update(samples, adapter=critic_of(plays[0].agent), learning=learning)


def _whitened(raw: Sequence[Advantages]) -> list[Advantages]:
    """Mean 0 and deviation 1 over plays (each play's mean counts once), as PPO is usually run."""
    means = [mean(list(found.values())) for found in raw]
    centre = mean(means)
    spread = deviation([value for found in raw for value in found.values()])
    scale = spread if spread > ZERO else 1.0
    return [{turn: (value - centre) / scale for turn, value in found.items()} for found in raw]
