"""Agents as people write them: prompts from f-strings, templates and joins, with what varies in them known.

A world makes one prompt of a task after another as parts; those that are `str` are written by the agent's author,
those that are `Varying` come from elsewhere. So it can be checked what discovery takes for instruction text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from agentlightning.data.call import Call
from agentlightning.data.resource import PromptSite
from agentlightning.data.template import parse
from agentlightning.interception.sites import ObservedCall, discover_sites

NOUNS = (
    "invoice shipment router password account refund laptop contract visa booking order parcel battery screen meeting "
    "report server backup license ticket camera printer mortgage policy claim harbour orchard violin glacier lantern"
).split()
VERBS = "reset cancel return upgrade check delete move ship restore extend renew sign print explain verify".split()
ADJECTIVES = "old red urgent duplicate missing broken shared annual late foreign damaged digital".split()
NAMES = "Ana Bo Chen Dara Eli Fatima Goro Hana Ivan Jo Kofi Lena Mia Nils Olga Per Qiu Rosa Sven Tara Uma Vera".split()
FUNCTION_WORDS = "the of to a in your with for is and that from on by at as it".split()
EXAMPLES = [
    (f"My {a} {n} is lost", ("billing", "technical", "other")[i % 3])
    for i, (a, n) in enumerate(zip(ADJECTIVES, NOUNS, strict=False))
]


class Varying(str):
    """A part the author did not write."""

    __slots__ = ()


Parts = list[str]
V = Varying


class World(NamedTuple):
    """How its prompts are made from (random, question), and what discovery should find in sixteen of them."""

    make: Callable[[Random, str], Parts]
    num_sites: int = 1
    is_system: bool = True
    """Else the prompt is the user's message."""
    least_found: float = 0.95
    """Share of the author's words that must be in templates."""


def question(random: Random) -> str:
    asked = f"{random.choice(VERBS)} my {random.choice(ADJECTIVES)} {random.choice(NOUNS)}"
    return f"How do I {asked} for {random.choice(NAMES)}?"


def sentence(random: Random) -> str:
    words = [
        random.choice(random.choice((NOUNS, VERBS, ADJECTIVES, FUNCTION_WORDS))) for _ in range(random.randint(6, 18))
    ]
    return " ".join(words).capitalize() + "."


def passage(random: Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += sentence(random) + " "
    return text[:length].rstrip()


def several(random: Random, low: int, high: int, make: Callable[[int], str], joint: str = "\n") -> Varying:
    return V(joint.join(make(number) for number in range(random.randint(low, high))))


def day(random: Random) -> str:
    return f"2026-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}"


def _fstring(random: Random, _: str) -> Parts:
    name, tier = V(f"{random.choice(NAMES)} {random.choice(NAMES)}"), V(random.choice(("gold", "silver", "basic")))
    rules = "Always greet by name, then answer in two sentences. Never promise a refund."
    return [
        "You are a support agent.\nToday is ",
        V(day(random)),
        ".\nCustomer: ",
        name,
        " (tier: ",
        tier,
        ")\n" + rules,
    ]


def _retrieval(random: Random, asked: str) -> Parts:
    documents = several(random, 1, 4, lambda i: f"[{i + 1}] {passage(random, random.randint(800, 3500))}", "\n\n")
    rules = "Answer from the context below. If it does not hold the answer, say that you do not know.\n\nContext:\n"
    return [rules, documents, "\n\nQuestion: ", V(asked), "\nAnswer briefly, and cite passages by their number."]


def _long_passage(random: Random, _: str) -> Parts:
    rules = "\n</document>\nBe exact and quote numbers as they stand."
    return ["Use the document to answer.\n<document>\n", V(passage(random, 10_000)), rules]


def _bullets(random: Random, _: str) -> Parts:
    stock = several(random, 0, 8, lambda i: f"- {random.choice(ADJECTIVES)} {random.choice(NOUNS)}: {i} pieces")
    rules = "\n\nRules:\n- Never sell below stock.\n- Confirm every order with its total.\n- Offer an alternative."
    return ["You manage a warehouse.\n\nStock:\n", stock, rules]


def _json(random: Random, _: str) -> Parts:
    orders = [{"item": random.choice(NOUNS), "price": random.randint(1, 99)} for _ in range(random.randint(0, 5))]
    profile = V(json.dumps({"name": random.choice(NAMES), "orders": orders, "vip": random.random() < 0.5}, indent=2))
    rules = '\nRecommend one product that fits. Reply with JSON: {"product": "…", "why": "…"}'
    return ["You are a shopping assistant.\nProfile:\n", profile, rules]


def _react(random: Random, _: str) -> Parts:
    names = [f"{random.choice(VERBS)}_{random.choice(NOUNS)}" for _ in range(random.randint(2, 6))]
    tools = V("\n".join(f"{name}: {sentence(random)}" for name in names))
    steps = (
        "\n\nUse the following format:\n\nQuestion: the input question you must answer\nThought: you should always "
        "think about what to do\nAction: the action to take, should be one of ["
    )
    rest = (
        "]\nAction Input: the input to the action\nObservation: the result of the action\n... (this Thought/Action/"
        "Action Input/Observation can repeat N times)\nThought: I now know the final answer\nFinal Answer: the final "
        "answer to the original input question\n\nBegin!"
    )
    return [
        "Answer as best you can. You have access to the following tools:\n\n",
        tools,
        steps,
        V(", ".join(names)),
        rest,
    ]


def _jinja(random: Random, _: str) -> Parts:
    optional = ["The user is an administrator.\n"] if random.random() < 0.5 else []
    optional += ["Answer in German.\n"] if random.random() < 0.4 else []
    tables = several(random, 1, 5, lambda _: f"  {random.choice(NOUNS)}(id int, {random.choice(NOUNS)} text)")
    rules = "\nWrite SQL for the question. Use only the tables given. Return one statement and nothing else.\nTables:\n"
    return [
        "You are an analyst.\n",
        *map(V, optional),
        "Team: ",
        V(random.choice(NAMES)),
        rules,
        tables,
        "\nEnd of tables.",
    ]


def _chinese(random: Random, _: str) -> Parts:
    date = V(f"2026年{random.randint(1, 12)}月{random.randint(1, 28)}日")
    language = V(random.choice(("中文", "日本語", "한국어", "العربية", "Русский", "English")))
    name = V(random.choice(("王伟", "李娜", "张敏", "山田太郎")))
    return [
        "你是一个客服助手。今天是",
        date,
        "。请用",
        language,
        "回答用户的问题。不要承诺退款。回答不超过三句话。\n用户姓名：",
        name,
    ]


def _arabic(random: Random, _: str) -> Parts:
    name = V(random.choice(("أحمد", "ليلى", "يوسف", "مريم")))
    return ["أنت مساعد خدمة العملاء. اسم العميل: ", name, "\nأجب بإيجاز وبلطف، ولا تعد باسترداد الأموال."]


def _state(random: Random, _: str) -> Parts:
    budget, now = V(str(random.randint(100, 5000))), V(f"{day(random)}T{random.randint(0, 23):02d}:15:00Z")
    head = "<role>travel agent</role>\n<rules>\nNever book without a price.\n</rules>\n<state>\n  <city>"
    middle = '</city>\n  <budget currency="EUR">'
    return [
        head,
        V(random.choice(NAMES)),
        middle,
        budget,
        "</budget>\n  <now>",
        now,
        "</now>\n</state>\nAnswer in a line.",
    ]


def _code(random: Random, _: str) -> Parts:
    program = several(
        random, 2, 12, lambda i: random.choice((f"x = {i}", f"print({i})", f"def {random.choice(VERBS)}(y):", ""))
    )
    rules = "\n```\nUse at most five bullets. Quote the line number."
    return ["Review this Python file. List bugs first, then style.\n```python\n", program, rules]


def _conversation(random: Random, asked: str) -> Parts:
    turns = several(random, 0, 4, lambda _: f"User: {question(random)}\nAssistant: {sentence(random)}\n", "")
    head = "The following is a conversation between a customer and a helpful assistant. It is precise.\n\n"
    return [head, V(turns), V(f"User: {asked}"), "\nAssistant:"]


def _drawn_examples(random: Random, _: str) -> Parts:
    shown = [V(f"Message: {text}\nLabel: {label}\n") for text, label in random.sample(EXAMPLES, 3)]
    return ["Label each message as the examples do.\n\nExamples:\n", *shown, "\nOnly answer with the label."]


def _branches(random: Random, _: str) -> Parts:
    plan = "You plan. Split the request into at most four steps, each with a tool. Request id: "
    write = "You write the final answer from the plan and the results. Keep a friendly tone; sign as the team.\nPlan:\n"
    return random.choice(
        (
            [plan, V(f"req-{random.randint(10**6, 10**7)}")],
            [write, several(random, 1, 4, lambda i: f"{i + 1}. {sentence(random)}")],
        )
    )


def _branches_with_a_common_head(random: Random, _: str) -> Parts:
    head = "You are the help desk of a software company. Be polite, short and exact. Never give legal advice. "
    free = "The user has the free plan: point to the forum for anything that takes more than one answer."
    paid = "The user has the paid plan: offer a call with an engineer, and open a ticket when it is a bug."
    return [head + random.choice((free, paid))]


def _german(random: Random, _: str) -> Parts:
    date = V(f"{random.choice(('Montag', 'Dienstag', 'Mittwoch'))}, {random.randint(1, 28)}. März 2026")
    rules = ". Antworten Sie höflich in zwei Sätzen und nennen Sie nie einen Preis."
    number = V(str(random.randint(10**7, 10**8)))
    return ["Sie sind der Kundendienst der Stadtwerke. Heute ist ", date, ". Kundennummer ", number, rules]


def _russian(random: Random, _: str) -> Parts:
    name = V(random.choice(("Иван Петров", "Мария Иванова", "Олег Сидоров", "Анна Котова", "Пётр Ильин")))
    return ["Вы — сотрудник службы поддержки. Клиент: ", name, ". Отвечайте кратко, не обещайте возврат денег."]


def _thai(random: Random, _: str) -> Parts:
    name = V(random.choice(("สมชาย", "มานี", "ปิติ", "วีระ", "ชูใจ")))
    return ["คุณคือผู้ช่วยฝ่ายบริการลูกค้า ชื่อลูกค้าคือ ", name, " กรุณาตอบสั้นๆ และสุภาพ ห้ามสัญญาว่าจะคืนเงิน"]


def _all_json(random: Random, _: str) -> Parts:
    head = '{"role": "assistant", "rules": ["be brief", "cite your sources", "promise nothing"], "user": "'
    return [head, V(random.choice(NAMES)), '", "language": "en", "tone": "friendly and exact"}']


def _web_page(random: Random, _: str) -> Parts:
    page = several(random, 1, 12, lambda i: f"[{i}] <button> {random.choice(VERBS)} {random.choice(NOUNS)}")
    head = ["You are a web agent. Step ", V(str(random.randint(1, 9))), " of at most 12. Page title: "]
    rules = "\nChoose one element and say why in one line. Say DONE when the task is finished."
    return [*head, V(random.choice(NOUNS).title()), "\nElements:\n", page, rules]


def _draft_and_review(random: Random, _: str) -> Parts:
    draft, review = V(passage(random, random.randint(100, 900))), V(passage(random, random.randint(50, 400)))
    rules = "\n\nRewrite the draft so that the reviewer is content. Change nothing else."
    return ["Here is a draft of an answer:\n\n", draft, "\n\nHere is what a reviewer says of it:\n\n", review, rules]


WORLDS: dict[str, World] = {
    "an f-string with a date and a name": World(_fstring),
    "numbered passages of retrieved text": World(_retrieval, is_system=False),
    "one passage of ten thousand characters": World(_long_passage),
    "a list of varying length": World(_bullets),
    "a JSON dump": World(_json),
    "tools listed in the prompt": World(_react),
    "a template with optional lines": World(_jinja),
    "Chinese": World(_chinese, least_found=0.9),
    "Arabic": World(_arabic),
    "tags": World(_state),
    "a program": World(_code),
    "a conversation written out": World(_conversation, is_system=False),
    "examples drawn from a pool": World(_drawn_examples),
    "two branches": World(_branches, num_sites=2),
    "two branches with a common head": World(_branches_with_a_common_head, num_sites=2),
    "German": World(_german),
    "Russian": World(_russian),
    "Thai": World(_thai, least_found=0.9),
    "nothing but JSON": World(_all_json),
    "elements of a web page": World(_web_page),
    "a draft and a review": World(_draft_and_review),
}


def prompts(world: World, seed: int, count: int) -> list[tuple[str, Parts]]:
    """(question, prompt) of so many tasks."""
    random = Random(seed)
    questions = [question(random) for _ in range(count)]
    return [(asked, world.make(random, asked)) for asked in questions]


def call(world: World, asked: str, text: str) -> Call:
    """The model call in which such a prompt is sent."""
    alone = [{"role": "user", "content": text}]
    messages = [{"role": "system", "content": text}, {"role": "user", "content": asked}] if world.is_system else alone
    return Call(agent="a", model="m", messages=messages)


def sites_in(world: World, made: Sequence[tuple[str, Parts]]) -> list[PromptSite]:
    """The usable sites discovery finds in such prompts."""
    calls = [ObservedCall(f"t{i}", asked, call(world, asked, "".join(parts))) for i, (asked, parts) in enumerate(made)]
    kind = "system" if world.is_system else "prefix"
    return [site for site in discover_sites(calls).sites if site.kind == kind]


def share_found(made: Sequence[tuple[str, Parts]], sites: Sequence[PromptSite]) -> float:
    """How much of what the author wrote stands in the templates, in words."""
    wanted, there = _words(_written(made)), _words([part for site in sites for part in parse(site.template)[0]])
    return sum((wanted & there).values()) / sum(wanted.values())


def share_foreign(made: Sequence[tuple[str, Parts]], sites: Sequence[PromptSite]) -> float:
    """How much of the templates the author did not write, in words."""
    wanted, there = _words(_written(made)), _words([part for site in sites for part in parse(site.template)[0]])
    return sum((there - wanted).values()) / max(1, sum(there.values()))


def _written(made: Sequence[tuple[str, Parts]]) -> list[str]:
    return list({"".join(part for part in parts if not isinstance(part, Varying)) for _, parts in made})


def _words(texts: Sequence[str]) -> Counter[str]:
    return Counter(re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|\w+", " ".join(texts)))
