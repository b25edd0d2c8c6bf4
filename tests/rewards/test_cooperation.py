"""How a team's reward becomes the agents' rewards, and the bias each rule is documented to have."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from agentlightning.errors import ConfigError, DataError
from agentlightning.rewards.cooperation import difference, mixed, share_out, shared

TEAM = ["crawler", "cleaner"]


def values(shares: Any) -> dict[str, float]:
    assert all(share.reason for share in shares.values())
    return {agent: share.value for agent, share in shares.items()}


def test_shared_gives_everybody_the_same():
    assert values(shared(0.75, TEAM)) == {"crawler": 0.75, "cleaner": 0.75}


def test_mixed_weighs_the_team_against_ones_own():
    own = {"crawler": 1.0, "cleaner": 0.0}
    assert values(mixed(0.5, own, TEAM)) == {"crawler": 0.75, "cleaner": 0.25}
    assert values(mixed(0.5, own, TEAM, own_weight=0)) == values(shared(0.5, TEAM))
    assert values(mixed(0.5, {"crawler": 1.0}, TEAM)) == {"crawler": 0.75}
    with pytest.raises(ConfigError, match="own_weight"):
        mixed(0.5, own, TEAM, own_weight=1.5)


def test_mixed_can_pay_an_agent_for_hurting_the_team():
    honest = mixed(0.8, {"crawler": 0.2}, TEAM)["crawler"].value
    selfish = mixed(0.6, {"crawler": 0.9}, TEAM)["crawler"].value
    assert selfish > honest  # the bias its docstring tells of
    assert shared(0.6, TEAM)["crawler"].value < shared(0.8, TEAM)["crawler"].value


def test_difference_pays_for_what_would_be_missing():
    shares = difference(0.9, {"crawler": [0.5, 0.7], "cleaner": [0.9]}, TEAM)
    assert values(shares) == {"crawler": pytest.approx(0.3), "cleaner": 0.0}
    assert values(difference(0.4, {"crawler": [0.8]}, TEAM)) == {"crawler": -0.4}


def test_a_counterfactual_that_nobody_judged_is_not_a_zero():
    assert values(difference(0.9, {"crawler": [None, 0.5], "cleaner": [None]}, TEAM)) == {"crawler": pytest.approx(0.4)}


def test_difference_tells_who_matters_where_shared_cannot():
    """A team succeeds when its first agent does; the second is idle. What its own deed leaves unexplained is noise."""
    chance = random.Random(0)
    deeds: list[tuple[float, float]] = []
    by_rule: dict[str, list[dict[str, float]]] = {"shared": [], "difference": []}
    for _ in range(400):
        luck, deed, idle = chance.gauss(0, 1), chance.choice([0.0, 1.0]), chance.choice([0.0, 1.0])
        team = deed + luck
        deeds.append((deed, idle))
        by_rule["shared"].append(values(share_out("shared", team, TEAM)))
        without = {"crawler": [luck], "cleaner": [team]}
        by_rule["difference"].append(values(share_out("difference", team, TEAM, without=without)))

    def spread(rule: str, agent: str, index: int) -> float:
        """Standard deviation of an agent's reward that its own deed does not explain."""
        groups = [
            [row[agent] for row, deed in zip(by_rule[rule], deeds, strict=True) if deed[index] == k] for k in (0, 1)
        ]
        return math.sqrt(sum(sum((x - sum(g) / len(g)) ** 2 for x in g) for g in groups) / len(deeds))

    assert spread("difference", "crawler", 0) < 1e-9 < 0.5 < spread("shared", "crawler", 0)
    assert {row["cleaner"] for row in by_rule["difference"]} == {0.0}


@pytest.mark.parametrize("rule", ["mixed", "difference", "solo"])
def test_what_a_rule_needs_is_asked_for(rule: Any):
    with pytest.raises(ConfigError, match="cooperation"):
        share_out(rule, 0.5, TEAM)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float):
    with pytest.raises(DataError, match="no reward"):
        shared(bad, TEAM)
    with pytest.raises(DataError, match="crawler"):
        mixed(0.5, {"crawler": bad}, TEAM)
    with pytest.raises(DataError, match="crawler"):
        difference(0.5, {"crawler": [bad]}, TEAM)
