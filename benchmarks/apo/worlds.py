"""Simulated worlds for prompt search: hidden rules, an agent that obeys its prompt, a grader that sees its answer.

A message is about topics and mentions other things; each topic has one right action. The instruction line "When the
message mentions T, A." makes the agent do A for T. A line about a mere other thing works too, where it happens to fit,
and clashes with the right line elsewhere: the spurious rule. Wrong actions may harm, and long prompts are obeyed less.
Everything random is a pure function of names, so a world answers the same in any order and at any speed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import msgspec

from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.data.task import Task

TOPICS = (
    *("refund", "parcel", "invoice", "login", "warranty", "coupon", "address"),
    *("subscription", "battery", "ticket", "deposit", "menu", "seat"),
)
THINGS = ("rug", "lamp", "Monday", "holiday", "cousin", "office", "garden", "weekend", "birthday", "neighbour")
ACTIONS = (
    *("check the record", "ask for the number", "quote the policy", "offer a choice"),
    *("open a case", "send a link", "call back"),
)
FILLERS = ("Always read the message with great care.", "Be polite, precise and complete.", "Think before you answer.")
LINE = re.compile(r"When the message mentions (\w+), ([a-z ]+)\.")
ANSWER = re.compile(r"(\w+): ([a-z ]+)")
_LINE_LENGTH = 48
"""Characters of a usual line: the unit in which prompts are long."""


class World(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One hidden problem. Rates are probabilities."""

    EXAMPLE: ClassVar[re.Pattern[str]] = re.compile(
        r"Message train-\d+ about [\w ]+!.{0,40}?\w+: [a-z ]+(?:; \w+: [a-z ]+)*", re.DOTALL
    )

    seed: int
    start: str = "You help customers. Answer the message."
    num_topics: int = 8
    num_things: int = 6
    """Other things messages mention, which decide nothing."""
    hint: float = 0.7
    """The grader's reason names the topic that went wrong."""
    is_labelled: bool = False
    """Tasks have an expected answer."""
    skill: float = 0.5
    """A proposed line has the right action, when many runs show what went wrong."""
    spurious: float = 0.2
    """A proposed line speaks of a thing the failed message happens to mention, instead of the topic."""
    verbose: float = 0.2
    """A proposal adds a sentence that says nothing."""
    harmful: float = 0.3
    """A wrong action harms (else it does nothing)."""
    damage: float = 0.1
    """A rewrite loses one of the existing lines."""
    broken: float = 0.05
    """A reply has no tags."""
    imitation: float = 0.4
    """A topic's action is learned from a worked example that shows it."""
    weight: float = 0.01
    """How much less the prompt is obeyed for each line over `free_lines`."""
    free_lines: int = 6
    floor: float = 0.15
    ceiling: float = 0.95
    stability: float = 0.6
    """A task's luck is its own (else fresh for every prompt and rollout)."""
    is_graded: bool = False
    num_train: int = 40
    num_validation: int = 24
    num_test: int = 200
    agents: tuple[str, ...] = ("main",)

    @property
    def calls_per_rollout(self) -> int:
        return len(self.agents)

    def draw(self, *names: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, *names))))

    def start_of(self, agent: str) -> str:
        """The instruction the agent has to begin with; each of several agents has its own."""
        return self.start if len(self.agents) == 1 else f"You are the {agent}. {self.start}"

    @cached_property
    def topics(self) -> list[str]:
        return self.draw("topics").sample(TOPICS, self.num_topics)

    @cached_property
    def things(self) -> list[str]:
        return self.draw("things").sample(THINGS, self.num_things)

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
        picked = list(dict.fromkeys(rng.choices(topics, weights, k=rng.choice((1, 1, 2)))))
        things = rng.sample(self.things, min(len(self.things), rng.choice((0, 1, 2))))
        given = f"Message {split}-{number} about {' and '.join([*picked, *things])}!"
        expected = answer({topic: self.right[topic] for topic in picked}) if self.is_labelled else None
        return Task(id=f"{split}-{number}", input=given, expected=expected)

    def mentioned(self, given: str) -> list[str]:
        """The topics a message is about."""
        return [topic for topic in self.topics if topic in given]

    # -- the task model: what an agent does, given its text and worked examples ----------------------------------

    def obeys(self, text: str, demos: Sequence[Demo], given: str, topic: str) -> float:
        """The probability that the agent with this instruction does the right thing about one topic of a message."""
        said = LINE.findall(text)
        fitting = [action for word, action in said if word == topic or (word in self.things and word in given)]
        if not fitting and self.draw("imitation", topic).random() < self.imitation:
            fitting = [action for demo in demos for word, action in ANSWER.findall(demo.output) if word == topic]
        share = fitting.count(self.right[topic]) / len(fitting) if fitting else 0.0
        harm = sum(topic in self.harm.get(pair, []) for pair in said)
        shown = sum(len(demo.input) + len(demo.output) for demo in demos)
        length = (len(text) - len(self.start) + shown / 2) / _LINE_LENGTH
        attention = max(0.3, 1 - self.weight * max(0.0, length - self.free_lines))
        return (self.floor + (self.ceiling - self.floor) * share) * 0.6**harm * attention

    def act(self, agent: str, text: str, demos: Sequence[Demo], given: str, draw: int = 0) -> str:
        """The agent's answer: what it does about each of its topics."""
        return answer({topic: self._action(text, demos, given, topic, draw) for topic in self._owned(agent, given)})

    def _action(self, text: str, demos: Sequence[Demo], given: str, topic: str, draw: int) -> str:
        rng = self.draw("luck", text, *map(repr, demos), given, topic, draw)
        own = self.draw("luck", given, topic).random()
        luck = own if rng.random() < self.stability else rng.random()
        if luck < self.obeys(text, demos, given, topic):
            return self.right[topic]
        return rng.choice([action for action in ACTIONS if action != self.right[topic]])

    def _owned(self, agent: str, given: str) -> list[str]:
        return [topic for topic in self.mentioned(given) if self.owner(topic) == agent]

    # -- the grader -----------------------------------------------------------------------------------------------

    def grade(self, given: str, output: str) -> float:
        """Share of the topics done right in graded worlds, else whether all were."""
        mentioned, wrong = self.mentioned(given), self.wrong(given, output)
        return 1 - len(wrong) / len(mentioned) if self.is_graded else float(not wrong)

    def in_unit(self, reward: float) -> float:
        """A reward from 0 to 1: it is."""
        return reward

    def wrong(self, given: str, output: str) -> list[str]:
        done = dict(ANSWER.findall(output))
        return [topic for topic in self.mentioned(given) if done.get(topic) != self.right[topic]]

    def reason(self, given: str, output: str) -> str:
        """What the grader says: which topic went wrong, if it can tell."""
        wrong = self.wrong(given, output)
        if not wrong:
            return "all of it is right"
        is_clear = self.draw("reason", given, output).random() < self.hint
        return f"wrong about the {wrong[0]}" if is_clear else "something is wrong here"

    def true_mean(self, policy: Policy, sites: list[PromptSite]) -> float:
        """The held-out mean without luck: what a user would see in the long run."""
        texts = {site.agent: policy.text_at(site) for site in sites}
        return self.true_mean_of(texts, policy.demos)

    def true_mean_of(self, texts: dict[str, str], demos: dict[str, list[Demo]]) -> float:
        """The same for the agents' bare texts and worked examples."""
        total = 0.0
        for task in self.tasks("test"):
            given = str(task.input)
            chances = [
                self.obeys(texts[agent], demos.get(agent, []), given, topic)
                for topic in self.mentioned(given)
                for agent in [self.owner(topic)]
            ]
            total += sum(chances) / len(chances) if self.is_graded else _product(chances)
        return total / self.num_test


def answer(actions: dict[str, str]) -> str:
    """An answer as the agents write it."""
    return "; ".join(f"{topic}: {action}" for topic, action in actions.items()) or "nothing to do"


def fresh_world(seed: int) -> World:
    """A world with its own difficulty: how many rules, how clear the grader, how able the optimiser, how noisy, how
    much a long prompt hurts, one or two agents."""
    rng = random.Random(f"world/{seed}")
    return World(
        seed=seed,
        num_topics=rng.randint(4, 12),
        num_things=rng.randint(0, 8),
        hint=rng.uniform(0.2, 0.9),
        is_labelled=rng.random() < 0.4,
        skill=rng.uniform(0.3, 0.9),
        spurious=rng.uniform(0.0, 0.5),
        verbose=rng.uniform(0.0, 0.6),
        harmful=rng.uniform(0.1, 0.5),
        damage=rng.uniform(0.0, 0.3),
        imitation=rng.uniform(0.0, 0.8),
        weight=rng.choice((0.0, 0.01, 0.02, 0.04)),
        free_lines=rng.randint(2, 8),
        floor=rng.uniform(0.1, 0.45),
        ceiling=rng.uniform(0.8, 1.0),
        stability=rng.uniform(0.2, 1.0),
        is_graded=rng.random() < 0.25,
        agents=("main",) if rng.random() < 0.75 else ("reader", "writer"),
    )


def _product(values: Sequence[float]) -> float:
    total = 1.0
    for value in values:
        total *= value
    return total
