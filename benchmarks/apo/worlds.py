"""Simulated worlds for prompt search: hidden rules, an agent that obeys its prompt, an optimiser that guesses rules.

A task mentions topics; each topic has one right action among several. An instruction line "When the message mentions
T, A." with the right action makes tasks about T succeed more often, a wrong one does nothing or harms. The optimiser
reads the request as a model would (nothing else) and proposes right and wrong lines from the failed runs shown.
Everything random is a pure function of names, so a world answers the same in any order and at any speed.
"""

from __future__ import annotations

import random
import re
from functools import cached_property

import msgspec

from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Task

TOPICS = (
    *("refund", "parcel", "invoice", "login", "warranty", "coupon", "address"),
    *("subscription", "battery", "ticket", "deposit", "menu", "seat"),
)
ACTIONS = (
    *("check the record", "ask for the number", "quote the policy", "offer a choice"),
    *("open a case", "send a link", "call back"),
)
LINE = re.compile(r"When the message mentions (\w+), ([a-z ]+)\.")
RUN = re.compile(
    r'<run outcome="(\w+)" score="[^"]*">\n<input>(.*?)</input>.*?<reason>(.*?)</reason>\n</run>', re.DOTALL
)


class World(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One hidden problem. Rates are probabilities."""

    seed: int
    start: str = "You help customers. Answer the message."
    num_topics: int = 8
    hint: float = 0.7
    """The grader's reason names the topic that went wrong."""
    skill: float = 0.5
    """A proposed line has the right action, when many runs show what went wrong."""
    harmful: float = 0.3
    """A wrong action harms (else it does nothing)."""
    damage: float = 0.1
    """A rewrite loses one of the existing lines."""
    broken: float = 0.05
    """A reply has no tags."""
    floor: float = 0.15
    ceiling: float = 0.95
    stability: float = 0.6
    """A task's luck is its own (else fresh in every rollout)."""
    is_graded: bool = False
    num_train: int = 40
    num_validation: int = 24
    num_test: int = 200
    agents: tuple[str, ...] = ("main",)
    calls_per_rollout: int = 1

    def draw(self, *names: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, *names))))

    @cached_property
    def topics(self) -> list[str]:
        return self.draw("topics").sample(TOPICS, self.num_topics)

    def owner(self, topic: str) -> str:
        return self.agents[self.topics.index(topic) % len(self.agents)]

    @cached_property
    def right(self) -> dict[str, str]:
        """Topic → its right action."""
        return {topic: self.draw("right", topic).choice(ACTIONS) for topic in self.topics}

    @cached_property
    def harm(self) -> dict[tuple[str, str], list[str]]:
        """Each harmful line → the topics it harms: its own and some others."""
        wrong = [(topic, action) for topic in self.topics for action in ACTIONS if action != self.right[topic]]
        rng = self.draw("harm")
        return {
            pair: [topic for topic in self.topics if topic == pair[0] or rng.random() < 0.3]
            for pair in wrong
            if rng.random() < self.harmful
        }

    def tasks(self, split: str) -> list[Task]:
        count = {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}[split]
        return [self._task(split, number) for number in range(count)]

    def _task(self, split: str, number: int) -> Task:
        rng, topics = self.draw(split, number), self.topics
        weights = [1 / (rank + 1.5) for rank in range(len(topics))]
        picked = dict.fromkeys(rng.choices(topics, weights, k=rng.choice((1, 1, 2))))
        return Task(id=f"{split}-{number}", input=f"Message {number} about {' and '.join(picked)}.")

    def mentioned(self, task: Task) -> list[str]:
        return [topic for topic in self.topics if topic in str(task.input)]

    def chance(self, policy: Policy, sites: list[PromptSite], task: Task) -> float:
        """Probability of success, before luck."""
        mentioned = self.mentioned(task)
        lines = {site.agent: LINE.findall(policy.text_at(site)) for site in sites}
        served = sum((topic, self.right[topic]) in lines.get(self.owner(topic), []) for topic in mentioned)
        harm = sum(
            any(topic in mentioned for topic in self.harm.get(pair, [])) for said in lines.values() for pair in said
        )
        useless = sum(len(said) for said in lines.values()) - served
        base = self.floor + (self.ceiling - self.floor) * served / len(mentioned)
        return base * 0.6**harm * 0.99**useless

    def reward(self, policy: Policy, sites: list[PromptSite], task: Task, draw: int) -> float:
        chance = self.chance(policy, sites, task)
        rng = self.draw("luck", policy.id, task.id, draw)
        own = self.draw("luck", task.id).random()
        luck = own if rng.random() < self.stability else rng.random()
        if self.is_graded:
            return round(min(1.0, max(0.0, chance + 0.3 * (0.5 - luck))), 2)
        return float(luck < chance)

    def true_mean(self, policy: Policy, sites: list[PromptSite]) -> float:
        """The held-out mean without luck: what a user would see in the long run."""
        tasks = self.tasks("test")
        return sum(self.chance(policy, sites, task) for task in tasks) / len(tasks)

    def reason(self, policy: Policy, sites: list[PromptSite], task: Task, draw: int) -> str:
        """What the grader says of a run: which topic went wrong, if it can tell."""
        lines = [pair for site in sites for pair in LINE.findall(policy.text_at(site))]
        mentioned = self.mentioned(task)
        missing = [topic for topic in mentioned if (topic, self.right[topic]) not in lines]
        rng = self.draw("reason", policy.id, task.id, draw)
        if self.reward(policy, sites, task, draw) == 1.0:
            return "right"
        return f"the part about {(missing or mentioned)[0]}" if rng.random() < self.hint else "see the message"


def fresh_world(seed: int) -> World:
    """A world with its own difficulty: how many rules, how clear the grader, how able the optimiser, how noisy."""
    rng = random.Random(f"world/{seed}")
    return World(
        seed=seed,
        num_topics=rng.randint(4, 12),
        hint=rng.uniform(0.2, 0.9),
        skill=rng.uniform(0.3, 0.9),
        harmful=rng.uniform(0.1, 0.5),
        damage=rng.uniform(0.0, 0.3),
        floor=rng.uniform(0.05, 0.4),
        ceiling=rng.uniform(0.8, 1.0),
        stability=rng.uniform(0.2, 1.0),
        is_graded=rng.random() < 0.25,
    )


def propose(world: World, request: str, draw: int) -> str:
    """The simulated optimiser's reply to a request, read from its text alone."""
    rng = world.draw("optimiser", request, draw)
    current = request.split("<instruction ", 1)[1].split(">\n", 1)[1].split("\n</instruction>")[0]
    lines = [] if current.startswith("(there is no") else current.splitlines()
    rejected = (
        set(LINE.findall(request.split("<rejected>")[1].split("</rejected>")[0])) if "<rejected>" in request else set()
    )
    focus = request.split("<focus>")[1].split("</focus>")[0]
    blamed = [_blamed(given, reason, rng) for outcome, given, reason in RUN.findall(request) if outcome == "failed"]
    if rng.random() < world.broken:
        return "Idea: better\nHere is the new text: be better."
    added: list[str] = []
    if len(lines) > 1 and rng.random() < world.damage:
        lines.pop(rng.randrange(1, len(lines)))
    if "shorter" in focus and len(lines) > 1:
        added = [f"drop: {lines.pop(rng.randrange(1, len(lines)))}"]
    else:
        for topic in _chosen(blamed, focus, rng):
            lines = [line for line in lines if f"mentions {topic}," not in line]
            added.append(_line(topic, _action(world, topic, blamed.count(topic), rejected, rng)))
        lines += added
    text = "\n".join(lines)
    return f"Idea: {' '.join(added) or 'reword'}\n<instruction>\n{text}\n</instruction>"


def _blamed(given: str, reason: str, rng: random.Random) -> str:
    named = [topic for topic in TOPICS if topic in reason]
    return named[0] if named else rng.choice([topic for topic in TOPICS if topic in given])


def _chosen(blamed: list[str], focus: str, rng: random.Random) -> list[str]:
    ranked = sorted(dict.fromkeys(blamed), key=lambda topic: (-blamed.count(topic), topic))
    if "all the failed" in focus:
        return ranked[:3]
    if "rare" in focus:
        return ranked[-1:]
    return ranked[:1] if "behind most" in focus else rng.sample(ranked, 1) if ranked else []


def _action(world: World, topic: str, support: int, rejected: set[tuple[str, str]], rng: random.Random) -> str:
    """Right more often the more failed runs show the same cause, as the rule behind them becomes visible."""
    if topic in world.right and rng.random() < world.skill * (1 - 0.5**support):
        return world.right[topic]
    fresh = [action for action in ACTIONS if (topic, action) not in rejected]
    return rng.choice(fresh or ACTIONS)


def _line(topic: str, action: str) -> str:
    return f"When the message mentions {topic}, {action}."
