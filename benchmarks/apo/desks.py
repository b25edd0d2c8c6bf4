"""A second family of worlds, unlike the first: order forms filled in by a table of exceptions nobody wrote down.

An order has fields, an answer has entries; an entry's code is a default unless an exception fires, and a long tail of
them does. Instructions may come with lines, some of them wrong; the same rule is obeyed more or less well as it is
worded, and less the more lines there are. Answers may need a form, or count for nothing. Rewards are binary, graded,
or on another scale, and the grader itself may be mistaken. Everything random is a pure function of names.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import msgspec

from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.data.task import Task

FIELDS = {
    "region": ("north", "south", "east", "west", "island"),
    "product": ("lamp", "chair", "fridge", "book", "bike", "tent", "piano"),
    "client": ("newcomer", "regular", "school", "hospital"),
    "channel": ("web", "telephone", "shop"),
    "payment": ("card", "cash", "cheque", "transfer"),
}
ENTRIES = ("tax", "route", "priority", "label", "team", "packing")
CODES = ("amber", "blue", "coral", "delta", "ember", "flint", "gold")
FORMS = ("ORDER", "DONE", "DESK")
WORDINGS = (
    "If the {field} is {value}, put {code} under {entry}.",
    "Put {code} under {entry} whenever the {field} is {value}.",
    "For {field} {value}: {entry} is {code}.",
    "Keep in mind that {value} as {field} calls for {code} as {entry}.",
)
FORM_WORDINGS = ("Write the word {form} in every answer.", "An answer contains the word {form}.")
FILLERS = ("Work with care.", "Check every order twice before you answer.", "A good clerk is quick and exact.")
PAIR = re.compile(r"\b(\w+)=(\w+)")
_ORDER = re.compile(r"(\w+) (\w+)(?=[,.])")
_LINE_LENGTH = 45
"""Characters of a usual line: the unit in which prompts are long."""


class Line(msgspec.Struct, frozen=True):
    """What a line says: a code for an entry on a condition, or (without one) that answers have a form."""

    entry: str
    code: str
    field: str = ""
    value: str = ""
    wording: int = 0

    @property
    def text(self) -> str:
        if not self.entry:
            return FORM_WORDINGS[self.wording].format(form=self.code)
        told = {"field": self.field, "value": self.value, "code": self.code, "entry": self.entry}
        return WORDINGS[self.wording].format(**told)


def _pattern(wording: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+)", re.escape(wording)))


_PATTERNS = [_pattern(wording) for wording in WORDINGS]
_FORM_PATTERNS = [_pattern(wording) for wording in FORM_WORDINGS]


@functools.cache
def read_line(text: str) -> Line | None:
    """The rule a line of instruction states, or None."""
    for number, pattern in enumerate(_PATTERNS):
        if found := pattern.fullmatch(text.strip()):
            return Line(found["entry"], found["code"], found["field"], found["value"], number)
    for number, pattern in enumerate(_FORM_PATTERNS):
        if found := pattern.fullmatch(text.strip()):
            return Line("", found["form"], wording=number)
    return None


@functools.lru_cache(maxsize=1000)
def read_lines(text: str) -> list[Line]:
    """All rules of an instruction."""
    return [line for said in text.splitlines() if (line := read_line(said))]


class Desk(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One hidden problem. Rates are probabilities."""

    EXAMPLE: ClassVar[re.Pattern[str]] = re.compile(
        r"Order train-\d+: [\w ,]+\..{0,40}?\w+=\w+(?:; \w+=\w+)*", re.DOTALL
    )

    seed: int
    agents: tuple[str, ...] = ("clerk",)
    num_fields: int = 4
    num_entries: int = 2
    num_exceptions: int = 10
    num_forms: int = 1
    num_start_lines: int = 0
    """Lines the instructions begin with; about a third of them are wrong."""
    clarity: float = 0.7
    """A grader's reason names what is wrong."""
    is_told: bool = False
    """A clear reason also says what would have been right."""
    is_labelled: bool = False
    skill: float = 0.6
    """The optimiser finds the condition that best tells failures from successes, or a code nobody told it."""
    rewrite: float = 0.3
    """A proposal words all lines anew, and may lose some."""
    damage: float = 0.1
    verbose: float = 0.3
    broken: float = 0.05
    heeds_focus: bool = True
    """The optimiser does what a request's focus and list of rejected ideas say."""
    poor_wording: float = 0.5
    """How well the worst wording is obeyed."""
    weight: float = 0.02
    """How much less all lines are obeyed for each line over `free_lines`."""
    free_lines: int = 6
    known: float = 0.8
    """The default is written where no exception fires."""
    floor: float = 0.1
    """An exception nobody stated is met by chance."""
    imitation: float = 0.4
    stability: float = 0.6
    """A task's luck is its own (else fresh for every prompt and rollout)."""
    mistaken: float = 0.0
    """The grader's reward is any reward."""
    is_graded: bool = False
    scale: tuple[float, float] = (0.0, 1.0)
    num_train: int = 40
    num_validation: int = 24
    num_test: int = 200

    @property
    def calls_per_rollout(self) -> int:
        return len(self.agents)

    def draw(self, *names: object) -> random.Random:
        return random.Random("/".join(map(str, ("desk", self.seed, *names))))

    # -- the hidden table -----------------------------------------------------------------------------------------

    @cached_property
    def fields(self) -> list[str]:
        return self.draw("fields").sample(list(FIELDS), self.num_fields)

    @cached_property
    def entries(self) -> list[str]:
        return self.draw("entries").sample(ENTRIES, self.num_entries)

    @cached_property
    def defaults(self) -> dict[str, str]:
        return {entry: self.draw("default", entry).choice(CODES) for entry in self.entries}

    @cached_property
    def exceptions(self) -> list[Line]:
        """The first that fires decides."""
        rng = self.draw("exceptions")
        places = [(entry, field, value) for entry in self.entries for field in self.fields for value in FIELDS[field]]
        picked = rng.sample(places, min(len(places), self.num_exceptions))
        others = {entry: [code for code in CODES if code != self.defaults[entry]] for entry in self.entries}
        return [Line(entry, rng.choice(others[entry]), field, value) for entry, field, value in picked]

    @cached_property
    def forms(self) -> list[str]:
        return list(FORMS[: self.num_forms])

    def owner(self, name: str) -> str:
        """Whose entry, or form, it is."""
        names = self.entries if name in self.entries else list(FORMS)
        return self.agents[names.index(name) % len(self.agents)]

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        return {}

    def right(self, given: str) -> dict[str, str]:
        """Entry → its right code for an order."""
        if given not in self._known:
            self._known[given] = self._looked_up(order_of(given))
        return self._known[given]

    def _looked_up(self, order: dict[str, str]) -> dict[str, str]:
        right = dict(self.defaults)
        for line in reversed(self.exceptions):
            if order.get(line.field) == line.value:
                right[line.entry] = line.code
        return right

    def start_of(self, agent: str) -> str:
        """The instruction the agent has to begin with."""
        return self._starts[agent]

    @cached_property
    def _starts(self) -> dict[str, str]:
        return {agent: self._start(agent) for agent in self.agents}

    def _start(self, agent: str) -> str:
        rng = self.draw("start", agent)
        lines = [self.first_line(agent)]
        own = [line for line in self.exceptions if self.owner(line.entry) == agent]
        for line in rng.sample(own, min(len(own), self.num_start_lines)):
            said = msgspec.structs.replace(line, wording=rng.randrange(len(WORDINGS)))
            wrong = msgspec.structs.replace(said, code=rng.choice(CODES))
            lines.append(rng.choice([said.text, wrong.text, rng.choice(FILLERS)]))
        return "\n".join(dict.fromkeys(lines))

    def first_line(self, agent: str) -> str:
        return f"You are the {agent} of an order desk. Fill in the form."

    # -- tasks ----------------------------------------------------------------------------------------------------

    def tasks(self, split: str) -> list[Task]:
        count = {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}[split]
        return [self._task(split, number) for number in range(count)]

    def _task(self, split: str, number: int) -> Task:
        rng = self.draw(split, number)
        chosen = {field: rng.choices(FIELDS[field], self._weights(field))[0] for field in self.fields}
        given = f"Order {split}-{number}: {', '.join(f'{field} {value}' for field, value in chosen.items())}."
        expected = self.write(self.right(given), self.forms) if self.is_labelled else None
        return Task(id=f"{split}-{number}", input=given, expected=expected)

    def _weights(self, field: str) -> list[float]:
        weights = [1 / (rank + 1) for rank in range(len(FIELDS[field]))]
        return self.draw("weights", field).sample(weights, len(weights))

    # -- the task model -------------------------------------------------------------------------------------------

    def obedience(self, line: Line, num_lines: float) -> float:
        """How probably a line that applies is followed."""
        rng = self.draw("wording", bool(line.entry), line.wording)
        wording = rng.uniform(self.poor_wording, 1.0)
        return wording * max(0.2, 1 - self.weight * max(0.0, num_lines - self.free_lines))

    def chance(self, text: str, demos: Sequence[Demo], given: str, entry: str) -> float:
        """The probability that the agent with this instruction gets one entry of an order right."""
        order, right = order_of(given), self.right(given)[entry]
        untold = self.known if right == self.defaults[entry] else self.floor
        told = [line for line in read_lines(text) if line.entry == entry and order.get(line.field) == line.value]
        if told:
            followed = sum(self.obedience(line, _length(text, demos)) for line in told) / len(told)
            share = sum(line.code == right for line in told) / len(told)
            return followed * share + (1 - followed) * untold
        shown = [dict(PAIR.findall(demo.output)).get(entry) for demo in demos if _alike(order_of(demo.input), order)]
        return max(untold, self.imitation * (right in shown))

    def form_chance(self, text: str, demos: Sequence[Demo], form: str) -> float:
        """The probability that an answer has the form."""
        lines = [line for line in read_lines(text) if not line.entry and line.code == form]
        told = max((self.obedience(line, _length(text, demos)) for line in lines), default=0.0)
        return max(self.floor, told, self.imitation * any(form in demo.output.split() for demo in demos))

    def act(self, agent: str, text: str, demos: Sequence[Demo], given: str, draw: int = 0) -> str:
        """The agent's answer: its entries, and the forms it has."""
        said: dict[str, str] = {}
        for entry in self._owned(agent, self.entries):
            right = self.right(given)[entry]
            is_right = self._luck(text, demos, given, entry, draw) < self.chance(text, demos, given, entry)
            wrong = [code for code in CODES if code != right]
            said[entry] = right if is_right else self.draw("wrong", text, given, entry, draw).choice(wrong)
        chances = {form: self.form_chance(text, demos, form) for form in self._owned(agent, self.forms)}
        met = [form for form, chance in chances.items() if self._luck(text, demos, given, form, draw) < chance]
        return self.write(said, met)

    def _luck(self, text: str, demos: Sequence[Demo], given: str, name: str, draw: int) -> float:
        rng = self.draw("luck", text, *map(repr, demos), given, name, draw)
        own = self.draw("luck", given, name).random()
        return own if rng.random() < self.stability else rng.random()

    def _owned(self, agent: str, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.owner(name) == agent]

    @staticmethod
    def write(entries: dict[str, str], forms: Sequence[str]) -> str:
        pairs = "; ".join(f"{entry}={code}" for entry, code in entries.items())
        return " ".join([pairs or "nothing to fill in", *forms])

    # -- the grader -----------------------------------------------------------------------------------------------

    def grade(self, given: str, output: str) -> float:
        rng = self.draw("grade", given, output)
        value = rng.choice((0.0, 1.0)) if rng.random() < self.mistaken else self._quality(given, output)
        low, high = self.scale
        return low + (high - low) * value

    def in_unit(self, reward: float) -> float:
        """A reward from 0 to 1, whatever the scale: gepa takes 1 for perfect, and its merge nothing below 0."""
        low, high = self.scale
        return (reward - low) / (high - low)

    def _quality(self, given: str, output: str) -> float:
        wrong, missing = self.faults(given, output)
        return self._value([1.0 - (e in wrong) for e in self.entries], [1.0 - (f in missing) for f in self.forms])

    def _value(self, entries: Sequence[float], forms: Sequence[float]) -> float:
        """Share of entries, or whether all are right; a form that is missing halves, or costs all of it."""
        value = sum(entries) / len(entries) if self.is_graded else _product(entries)
        return value * _product([(1 + form) / 2 if self.is_graded else form for form in forms])

    def faults(self, given: str, output: str) -> tuple[list[str], list[str]]:
        """(entries that are wrong, forms that are missing)."""
        done, right = dict(PAIR.findall(output)), self.right(given)
        missing = [form for form in self.forms if form not in re.findall(r"\w+", output)]
        return [entry for entry in self.entries if done.get(entry) != right[entry]], missing

    def reason(self, given: str, output: str) -> str:
        """What the grader says about one fault, if it can tell."""
        wrong, missing = self.faults(given, output)
        if not wrong and not missing:
            return "all of it is right"
        rng = self.draw("reason", given, output)
        if rng.random() >= self.clarity:
            return "something is wrong here"
        fault = rng.choice([*wrong, *missing])
        if fault in missing:
            return f"the word {fault} is missing" if self.is_told else "the form is wrong"
        return f"the {fault} should be {self.right(given)[fault]}" if self.is_told else f"the {fault} is wrong"

    def true_mean(self, policy: Policy, sites: list[PromptSite]) -> float:
        """The held-out mean without luck or a grader's mistakes, from 0 to 1."""
        return self.true_mean_of({site.agent: policy.text_at(site) for site in sites}, policy.demos)

    def true_mean_of(self, texts: dict[str, str], demos: dict[str, list[Demo]]) -> float:
        """The same for the agents' bare texts and worked examples."""
        return sum(self._expected(texts, demos, str(task.input)) for task in self.tasks("test")) / self.num_test

    def _expected(self, texts: dict[str, str], demos: dict[str, list[Demo]], given: str) -> float:
        def of(name: str) -> tuple[str, list[Demo]]:
            return texts[self.owner(name)], demos.get(self.owner(name), [])

        entries = [self.chance(*of(entry), given, entry) for entry in self.entries]
        return self._value(entries, [self.form_chance(*of(form), form) for form in self.forms])


@functools.lru_cache(maxsize=10_000)
def order_of(given: str) -> dict[str, str]:
    """Field → value, as an order states them."""
    return dict(_ORDER.findall(given.partition(":")[2]))


def fresh_desk(seed: int) -> Desk:
    """A desk with its own difficulty."""
    rng = random.Random(f"desk/{seed}")
    num_entries = rng.randint(1, 3)
    return Desk(
        seed=seed,
        agents=("clerk", "packer", "courier")[: min(num_entries, rng.choice((1, 1, 1, 2, 3)))],
        num_fields=rng.randint(2, 5),
        num_entries=num_entries,
        num_exceptions=rng.randint(4, 16),
        num_forms=rng.choice((0, 0, 1, 1, 2)),
        num_start_lines=rng.choice((0, 0, 3, 6, 10)),
        clarity=rng.uniform(0.2, 1.0),
        is_told=rng.random() < 0.5,
        is_labelled=rng.random() < 0.4,
        skill=rng.uniform(0.3, 0.95),
        rewrite=rng.uniform(0.0, 0.8),
        damage=rng.uniform(0.0, 0.3),
        verbose=rng.uniform(0.0, 0.6),
        heeds_focus=rng.random() < 0.5,
        poor_wording=rng.uniform(0.4, 1.0),
        weight=rng.choice((0.0, 0.01, 0.02, 0.04)),
        free_lines=rng.randint(2, 10),
        known=rng.uniform(0.75, 1.0),
        floor=rng.uniform(0.05, 0.4),
        imitation=rng.uniform(0.0, 0.8),
        stability=rng.uniform(0.1, 1.0),
        mistaken=rng.choice((0.0, 0.0, 0.1, 0.2)),
        is_graded=rng.random() < 0.5,
        scale=rng.choice(((0.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (0.0, 10.0))),
    )


def _alike(shown: dict[str, str], order: dict[str, str]) -> bool:
    """Whether an example resembles an order enough to be copied: in half of its fields."""
    return 2 * sum(shown.get(field) == value for field, value in order.items()) >= len(order)


def _length(text: str, demos: Sequence[Demo]) -> float:
    shown = sum(len(demo.input) + len(demo.output) for demo in demos)
    return (len(text) + shown / 2) / _LINE_LENGTH


def _product(values: Sequence[float]) -> float:
    total = 1.0
    for value in values:
        total *= value
    return total
