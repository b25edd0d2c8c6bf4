"""Prompt sites found in observed calls: which there are, what is a slot in them, and why some cannot be used."""

import json
import random
import time
from typing import Any

import pytest

from agentlightning.data.call import Call
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.template import match, slot_names
from agentlightning.interception.sites import ObservedCall, SiteReport, discover_sites

QUESTIONS = [
    "What is the capital of France?",
    "What is the capital of Spain?",
    "Who wrote Hamlet?",
    "What is 2+2?",
    "How tall is Everest?",
    "What is the boiling point of water?",
    "Name three rivers in Europe.",
    "Explain gravity in one sentence.",
    "Which planet is the largest?",
    "When did the war end?",
]
USERS = ["Bob", "Al Green", "Mary Ann Lee", "Joe", "Sue", "Kim Park", "Zed", "Ann", "Liu Wei", "Omar"]
WORD_LIST = (
    "the of and to in that was for with his but from had this which one were all there would their been has when who "
    "will no more if out so said what about than into them can only other time new some could these two may first then "
    "any like our over man me even most made after also did many before must well back through years much where your"
)
WORDS = WORD_LIST.split()


def seen(
    task: int,
    given: str | dict[str, Any],
    *,
    system: Any = None,
    user: Any = None,
    agent: str = "bot",
    later: list[dict[str, Any]] | None = None,
    tool_results: list[str] | None = None,
) -> ObservedCall:
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages += [{"role": "user", "content": given if user is None else user}, *(later or [])]
    return ObservedCall(f"t-{task}", given, Call(agent, "m", messages), tool_results or [])


def systems(texts: list[str], **fields: Any) -> list[ObservedCall]:
    return [seen(i, QUESTIONS[i % len(QUESTIONS)], system=text, **fields) for i, text in enumerate(texts)]


def the_site(report: SiteReport) -> PromptSite:
    assert report.unusable == []
    (site,) = report.sites
    return site


def document(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choice(WORDS) + rng.choice(["", "", "", ",", "."]) for _ in range(num_words))


def test_a_constant_system_message_is_one_site_without_slots() -> None:
    site = the_site(discover_sites(systems(["You are a careful assistant. Answer briefly."] * 6)))
    assert site == PromptSite(
        "bot:system", "bot", "system", "You are a careful assistant. Answer briefly.", [], coverage=1.0, num_observed=6
    )


def test_what_differs_between_calls_becomes_a_slot() -> None:
    site = the_site(discover_sites(systems([f"You are the assistant of {user}. Be kind." for user in USERS])))
    assert site.template == "You are the assistant of ⟦text_1⟧. Be kind."
    assert site.coverage == 1.0
    assert match(site.template, "You are the assistant of Someone Else. Be kind.") == {"text_1": "Someone Else"}


def test_a_slot_may_be_empty_in_some_calls() -> None:
    hints = ["Try small cases first. " if i % 3 == 0 else "" for i in range(9)]
    texts = [f"You are a careful tutor who explains every step. {hint}End with the number alone." for hint in hints]
    site = the_site(discover_sites(systems(texts)))
    assert site.template == "You are a careful tutor who explains every step. ⟦text_1⟧End with the number alone."


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("2026-11-22", "date_1"),
        ("2026-11-22T10:30:00Z", "date_1"),
        ("November 22, 2026", "date_1"),
        ("Sunday, 22 Nov 2026 10:30", "date_1"),
        ("22.11.2026", "date_1"),
        ("11/22/26", "date_1"),
        ("2026年11月22日 星期日", "date_1"),
        ("10:30", "time_1"),
        ("10:30:05 PM", "time_1"),
        ("0b7c2f9e-5d7a-4c1b-9a53-2f6f0f1f9a77", "id_1"),
        ("order-1234567", "id_1"),
        ("9f86d081884c7d65", "id_1"),
        ("1234567", "number_1"),
        ("1,234,567.89", "number_1"),
    ],
)
def test_dates_times_ids_and_long_numbers_are_slots_even_when_constant(value: str, name: str) -> None:
    site = the_site(discover_sites(systems([f"You are an assistant. Mind this: {value} and be brief."] * 4)))
    assert site.template == f"You are an assistant. Mind this: ⟦{name}⟧ and be brief."
    assert site.slots[0].type == name.removesuffix("_1")
    assert site.slots[0].examples == [value]


@pytest.mark.parametrize(
    ("today", "tomorrow"),
    [
        ("Today is Saturday, November 28, 2026", "Today is Monday, March 1, 2027"),
        ("Today is Sat 28 Nov 2026 09:15:02", "Today is Mon 1 Mar 2027 22:40:11"),
        ("Today is Saturday", "Today is Monday"),
        ("It is the 28th of November 2026", "It is the 1st of March 2027"),
        ("Report for November 2026", "Report for March 2027"),
        ("Stand: Nov 28", "Stand: Mar 1"),
        ("The current year is 2026", "The current year is 2027"),
        ("Now: 2026-11-28T09:15:02.123456+00:00", "Now: 2027-03-01T22:40:11.654321+00:00"),
        (
            "{'date': datetime.date(2026, 11, 28)}; as of 28.11.2026",
            "{'date': datetime.date(2027, 3, 1)}; as of 01.03.2027",
        ),
        ("Heute ist Samstag, 28. November 2026", "Heute ist Montag, 1. März 2027"),
        ("Nous sommes samedi 28 novembre 2026", "Nous sommes lundi 1 mars 2027"),
        ("Hoy es sábado, 28 de noviembre de 2026", "Hoy es lunes, 1 de marzo de 2027"),
        ("Сегодня суббота, 28 ноября 2026 года", "Сегодня понедельник, 1 марта 2027 года"),
        ("今天是2026年11月28日星期六，请注意", "今天是2027年3月1日星期一，请注意"),
        ("今日は2026年11月28日（土）です", "今日は2027年3月1日（月）です"),
        ("오늘은 2026년 11월 28일 토요일입니다", "오늘은 2027년 3월 1일 월요일입니다"),
    ],
)
def test_a_prompt_learned_on_one_day_is_steered_on_another(today: str, tomorrow: str) -> None:
    rules = " You help the customers of a shop and promise nothing. Answer in two sentences."
    site = the_site(discover_sites(systems([today + "." + rules] * 9)))
    policy = Policy().with_prompt(site, "Above all: be kind. " + site.template)
    applied = policy.apply(systems([tomorrow + "." + rules])[0].call)
    assert applied.call.messages[0]["content"] == f"Above all: be kind. {tomorrow}.{rules}"


@pytest.mark.parametrize(
    "text", ["Never deploy on Fridays or in May.", "Use 3 of the 2000 examples.", "March on, Wed them"]
)
def test_words_that_are_no_dates_stay_instruction_text(text: str) -> None:
    assert the_site(discover_sites(systems([f"You are the planner. {text}"] * 9))).slots == []


def test_a_date_beside_chinese_characters_is_found() -> None:
    site = the_site(discover_sites(systems(["你是一名客服助手。今天是2026-11-22,时间10:30请回答"] * 3)))
    assert site.template == "你是一名客服助手。今天是⟦date_1⟧,时间⟦time_1⟧请回答"


def test_small_numbers_and_product_names_stay_instruction_text() -> None:
    text = "You are GPT-4o with Python 3.11.2. Answer in 3 sentences, at most 100 words, in UTF-8, 95% sure, see [1]."
    assert the_site(discover_sites(systems([text] * 4))).template == text


def test_a_user_message_around_the_input_is_a_prefix_site() -> None:
    calls = [seen(i, q, user=f"Answer the question.\nQuestion: {q}\nAnswer:") for i, q in enumerate(QUESTIONS)]
    site = the_site(discover_sites(calls))
    assert (site.id, site.kind) == ("bot:prefix", "prefix")
    assert site.template == "Answer the question.\nQuestion: ⟦input⟧\nAnswer:"


def test_words_that_all_inputs_share_do_not_become_instruction_text() -> None:
    questions = [f"What is the capital of {country}?" for country in ("France", "Spain", "Peru", "Chad")]
    calls = [seen(i, q, user=f"Think first, then answer: {q}") for i, q in enumerate(questions)]
    assert the_site(discover_sites(calls)).template == "Think first, then answer: ⟦input⟧"


def test_an_input_that_is_the_same_in_every_task_is_a_slot() -> None:
    given = {"city": "Paris", "note": "bring an umbrella"}
    calls = [seen(i, given, system="You guide through Paris. Note: bring an umbrella", user="Go!") for i in range(4)]
    site = the_site(discover_sites(calls))
    assert site.template == "You guide through ⟦input_city⟧. Note: ⟦input_note⟧"


def test_fields_of_a_dict_input_name_their_slots() -> None:
    calls = [
        seen(i, {"question": q, "asked by": u}, user=f"Answer with care.\nQuestion: {q}\nUser: {u}")
        for i, (q, u) in enumerate(zip(QUESTIONS, USERS, strict=True))
    ]
    template = "Answer with care.\nQuestion: ⟦input_question⟧\nUser: ⟦input_asked_by⟧"
    assert the_site(discover_sites(calls)).template == template


def test_a_dict_input_given_to_the_agent_as_json_is_the_input() -> None:
    rows = [{"question": q, "user": u} for q, u in zip(QUESTIONS, USERS, strict=True)]
    calls = [seen(i, row, user=f"Handle this request: {json.dumps(row)}") for i, row in enumerate(rows)]
    site = the_site(discover_sites(calls))
    assert site.template == "Handle this request: ⟦input⟧"
    assert site.slots[0].type == "json"


def test_a_field_that_stands_twice_gets_two_slots_even_when_another_field_has_the_second_name() -> None:
    calls = [
        seen(i, {"a": q, "a_2": u}, user=f"Read this: {q}\nThen this: {u}\nAnd once more: {q}")
        for i, (q, u) in enumerate(zip(QUESTIONS, USERS, strict=True))
    ]
    template = "Read this: ⟦input_a⟧\nThen this: ⟦input_a_2⟧\nAnd once more: ⟦input_a_3⟧"
    assert the_site(discover_sites(calls)).template == template


def test_a_short_common_input_does_not_punch_holes_into_instructions() -> None:
    text = "You give the answer to the question, and only the answer."
    inputs = ["answer", "the", "question", "only", "You give"]
    calls = [seen(i, given, system=text, user="Go") for i, given in enumerate(inputs)]
    assert the_site(discover_sites(calls)).template == text


def test_a_sentence_of_the_input_quoted_in_every_call_is_a_slot() -> None:
    given = "Please help. My parcel was lost in the mail last week. It was blue."
    calls = [
        seen(i, given, system="You are an agent.\nCase: My parcel was lost in the mail last week.\nBe kind.")
        for i in range(4)
    ]
    assert the_site(discover_sites(calls)).template == "You are an agent.\nCase: ⟦text_1⟧\nBe kind."


def test_an_input_cut_off_after_some_length_is_a_slot() -> None:
    given = "Summarise the long report about the harvest of last year and its price effects on small shops"
    calls = [seen(i, given, user=f"Do what the user says: {given[:60]}... Be brief.") for i in range(3)]
    (template,) = [site.template for site in discover_sites(calls).sites]
    assert template.startswith("Do what the user says: ⟦text_1⟧")
    assert template.endswith("... Be brief.")


def test_text_found_in_tool_results_is_a_slot() -> None:
    policy = "Refunds are possible within 30 days of purchase."
    text = f"You are a careful support agent.\nPolicy: {policy}\nBe kind to the user."
    template = "You are a careful support agent.\nPolicy: ⟦text_1⟧\nBe kind to the user."
    given = systems([text] * 4, tool_results=[json.dumps({"policy": policy})])
    assert the_site(discover_sites(given)).template == template
    later = [{"role": "assistant", "content": None}, {"role": "tool", "tool_call_id": "1", "content": policy}]
    assert the_site(discover_sites(systems([text] * 4, later=later))).template == template


def test_a_retrieved_document_in_the_middle_is_one_slot() -> None:
    rng = random.Random(1)
    texts = [
        f"You answer from the context below and cite it.\n<context>\n{document(rng, 900)}\n</context>\nAnswer as JSON: "
        '{"answer": "…", "sources": [1, 2]}. Never guess.'
        for _ in range(10)
    ]
    site = the_site(discover_sites(systems(texts)))
    assert site.template == (
        "You answer from the context below and cite it.\n<context>\n⟦text_1⟧\n</context>\nAnswer as JSON: "
        '{"answer": "…", "sources": [1, 2]}. Never guess.'
    )
    assert site.coverage == 1.0
    assert all(len(example) <= 80 for example in site.slots[0].examples)
    assert len(site.slots[0].examples) == 3


def test_a_document_that_several_tasks_share_does_not_split_the_site() -> None:
    rng = random.Random(2)
    instructions = (
        "You are the support agent of a large shop. Read the customer's question twice, check the order, and answer in "
        "at most three friendly sentences. Never promise a refund that the policy does not allow.\nContext:\n"
    )
    documents = [document(rng, 300) for _ in range(12)]
    picked = [documents[0] if i % 3 == 0 else documents[i % 12] for i in range(24)]
    site = the_site(discover_sites(systems([instructions + each for each in picked])))
    assert site.template == instructions + "⟦text_1⟧"


def test_a_document_in_most_tasks_is_no_branch_when_a_more_general_prompt_matches_it() -> None:
    rng = random.Random(6)
    often = document(rng, 200)
    texts = [often if i % 3 else document(rng, 200) for i in range(18)]
    site = the_site(
        discover_sites(systems([f"Use this text.\n{text}\nAnswer in one short sentence." for text in texts]))
    )
    assert site.template == "Use this text.\n⟦text_1⟧\nAnswer in one short sentence."


def test_lists_of_varying_length_are_one_slot() -> None:
    rng = random.Random(3)
    texts = [
        "You sell fruit. In stock:\n"
        + "".join(f"- name: {rng.choice(WORDS)}, price: {rng.randint(1, 99)}\n" for _ in range(2 + i % 5))
        + "Recommend one of them politely."
        for i in range(12)
    ]
    site = the_site(discover_sites(systems(texts)))
    assert site.template == "You sell fruit. In stock:\n- name: ⟦list_1⟧\nRecommend one of them politely."
    one = "You sell fruit. In stock:\n- name: kiwi, price: 1\nRecommend one of them politely."
    assert match(site.template, one) == {"list_1": "kiwi, price: 1"}


def test_json_and_printed_lists_are_one_slot_each() -> None:
    texts = [
        f"You handle orders.\nOrder: {json.dumps({'n': i, 'items': ['x'] * (i % 4)})}\n"
        f'Allowed: {["a", "b", "c"][: 1 + i % 3]}\nReply with {{"status": "done"}}.'
        for i in range(9)
    ]
    site = the_site(discover_sites(systems(texts)))
    expected = 'You handle orders.\nOrder: ⟦json_1⟧\nAllowed: ⟦list_1⟧\nReply with {"status": "done"}.'
    assert site.template == expected


def test_braces_of_a_format_example_stay_instruction_text() -> None:
    text = 'Reply as {"answer": <your answer>, "why": {why}} or {{nothing}}. Use f"{name}" and $x$.'
    assert the_site(discover_sites(systems([text] * 4))).template == text


def test_a_chinese_prompt_is_aligned_by_character() -> None:
    names = ["张三", "李四", "王小明", "赵六", "欧阳锋", "孙七", "周八", "吴九", "郑十", "钱多多"]
    texts = [f"你是一名客服助手,请礼貌地回答。\n用户姓名:{name}\n请在三句话以内回答。" for name in names]
    site = the_site(discover_sites(systems(texts)))
    assert site.template == "你是一名客服助手,请礼貌地回答。\n用户姓名:⟦text_1⟧\n请在三句话以内回答。"


def test_words_shared_by_chance_between_two_slots_join_them() -> None:
    texts = [f"Write a poem for {a} and {b}, please, in two stanzas." for a, b in zip(USERS, USERS[::-1], strict=True)]
    assert the_site(discover_sites(systems(texts))).template == "Write a poem for ⟦text_1⟧, please, in two stanzas."


def test_labels_between_two_slots_keep_them_apart() -> None:
    texts = [
        f"You are a clerk. Name: {a}; City: {b}. Fill in the form." for a, b in zip(USERS, USERS[::-1], strict=True)
    ]
    template = "You are a clerk. Name: ⟦text_1⟧; City: ⟦text_2⟧. Fill in the form."
    assert the_site(discover_sites(systems(texts))).template == template


def test_a_marker_in_the_users_own_text_is_carried_over_and_never_a_slot_of_ours() -> None:
    text = "Keep every ⟦name⟧ placeholder as it stands, and ⟦ too."
    site = the_site(discover_sites(systems([text] * 4)))
    assert site.template == "Keep every ⟦text_1⟧ placeholder as it stands, and ⟦text_2⟧ too."
    assert match(site.template, text) == {"text_1": "⟦name⟧", "text_2": "⟦"}


def test_prompts_that_change_by_branch_are_separate_sites_the_most_frequent_first() -> None:
    refund = (
        "You are a refund agent for Acme. Check the order, then the policy, and explain the refund to the customer."
    )
    ship = "You are a shipping agent for Acme. Look up the parcel, report where it is, and apologise for any delay."
    report = discover_sites(systems([ship if i % 3 == 0 else refund for i in range(10)]))
    assert [(site.id, site.template, site.num_observed) for site in report.sites] == [
        ("bot:system", refund, 6),
        ("bot:system-2", ship, 4),
    ]
    assert [site.coverage for site in report.sites] == [1.0, 1.0]


def test_agents_have_their_own_sites_in_order_of_name() -> None:
    calls = [*systems(["You write code well."] * 3, agent="writer"), *systems(["You review code."] * 3, agent="critic")]
    assert [site.id for site in discover_sites(calls).sites] == ["critic:system", "writer:system"]
    assert [site.id for site in discover_sites(calls, agents=["writer"]).sites] == ["writer:system"]


def test_an_agent_that_was_asked_for_but_never_called_is_reported() -> None:
    report = discover_sites([], agents=["ghost"])
    assert report.sites == []
    ((site, reason),) = report.unusable
    assert site.agent == "ghost"
    assert "'ghost'" in reason


def test_the_report_does_not_depend_on_the_order_of_the_calls() -> None:
    rng = random.Random(4)
    calls = [
        *systems([f"You help {user} with care.\n{document(rng, 50)}\nBe brief." for user in USERS]),
        *systems(["You sum up what was said so far."] * 4),
        *[seen(i, q, user=f"Question of the day: {q}", agent="other") for i, q in enumerate(QUESTIONS)],
    ]
    report = discover_sites(calls)
    for _ in range(3):
        rng.shuffle(calls)
        assert discover_sites(calls) == report


def test_an_agent_without_instructions_has_an_empty_site() -> None:
    site = the_site(discover_sites([seen(i, q) for i, q in enumerate(QUESTIONS)]))
    assert site == PromptSite("bot:system", "bot", "system", "", coverage=1.0, num_observed=10)


def test_an_agent_with_a_prefix_site_gets_no_empty_one() -> None:
    calls = [seen(i, q, user=f"Answer this question: {q}") for i, q in enumerate(QUESTIONS)]
    assert the_site(discover_sites(calls)).kind == "prefix"


def test_an_empty_site_is_unusable_where_many_calls_have_a_system_message() -> None:
    calls = [seen(i, q, system="Hi" if i % 2 else None) for i, q in enumerate(QUESTIONS)]
    report = discover_sites(calls)
    assert report.sites == []
    ((site, reason),) = report.unusable
    assert (site.template, site.coverage) == ("", 0.5)
    assert "50.0%" in reason


@pytest.mark.parametrize("text", ["Hi", "1 2 3 4", "***", "你好吗", "   "])
def test_too_little_constant_text_is_no_site(text: str) -> None:
    report = discover_sites(systems([text] * 4))
    assert [site.template for site, _ in report.unusable] == [""]
    assert report.sites == []


def test_one_task_is_not_enough_to_tell_fixed_text() -> None:
    report = discover_sites(systems(["You are a careful assistant."]))
    ((site, reason),) = report.unusable
    assert site.coverage is None
    assert "one task" in reason


OPENING = "You are a careful assistant of a large bank, and you answer every question of the customer truthfully."


def test_coverage_is_measured_on_tasks_the_template_was_not_learned_from() -> None:
    report = discover_sites(systems([*[OPENING] * 7, OPENING + " Bye!"]))
    assert report.sites == []
    ((site, reason),) = report.unusable
    assert site.template == OPENING + "⟦text_1⟧"
    assert site.coverage == pytest.approx(0.875)
    assert "87.5%" in reason
    assert "Bye!" in reason


def test_a_lower_minimum_makes_the_same_site_usable() -> None:
    report = discover_sites(systems([*[OPENING] * 7, OPENING + " Bye!"]), min_coverage=0.8)
    assert the_site(report).coverage == pytest.approx(0.875)


def test_with_few_tasks_each_is_left_out_once() -> None:
    report = discover_sites(systems([*[OPENING] * 3, OPENING + " Bye!"]))
    assert [site.coverage for site, _ in report.unusable] == [pytest.approx(0.75)]


def test_a_task_counts_a_text_once_however_often_it_shows_it() -> None:
    calls = [*systems([OPENING] * 7), *[seen(7, "Say bye", system=OPENING + " Bye!")] * 50]
    ((site, _),) = discover_sites(calls).unusable
    assert site.coverage == pytest.approx(0.875)
    assert site.num_observed == 57


def test_only_the_first_call_of_a_conversation_shows_its_prefix() -> None:
    turns = [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Go on."}]
    calls = [
        each
        for i, q in enumerate(QUESTIONS)
        for each in (
            seen(i, q, user=f"Answer this question: {q}"),
            seen(i, q, user=f"(so far: we talked about {USERS[i]})", later=turns),
        )
    ]
    site = the_site(discover_sites(calls))
    assert (site.template, site.num_observed) == ("Answer this question: ⟦input⟧", 10)


def test_the_text_beside_an_image_is_a_site() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    calls = [
        seen(i, q, user=[image, {"type": "text", "text": f"Look at the image, then answer: {q}"}])
        for i, q in enumerate(QUESTIONS)
    ]
    assert the_site(discover_sites(calls)).template == "Look at the image, then answer: ⟦input⟧"


def test_instructions_in_several_parts_are_one_site_with_a_paragraph_for_each() -> None:
    parts = [{"type": "text", "text": "You are kind."}, {"type": "text", "text": "You are brief."}]
    report = discover_sites([seen(i, q, system=parts) for i, q in enumerate(QUESTIONS)])
    assert the_site(report).template == "You are kind.\n\nYou are brief."


def test_instructions_around_an_image_keep_their_places() -> None:
    parts = [{"type": "text", "text": "You see"}, {"type": "image_url"}, {"type": "text", "text": "and are brief."}]
    site = the_site(discover_sites([seen(i, q, system=parts) for i, q in enumerate(QUESTIONS)]))
    assert site.template == "You see\n⟦text_1⟧\nand are brief."


def test_a_users_parts_are_one_site_of_instructions_and_input() -> None:
    def asked(task: int) -> ObservedCall:
        parts = ["Classify the ticket as billing or other.", f"<ticket>\n{QUESTIONS[task]}\n</ticket>"]
        content = [{"type": "text", "text": part} for part in parts]
        return ObservedCall(f"t-{task}", QUESTIONS[task], Call("bot", "m", [{"role": "user", "content": content}]))

    calls = [asked(task) for task in range(8)]
    site = the_site(discover_sites(calls))
    template = "Classify the ticket as billing or other.\n⟦text_1⟧\n<ticket>\n⟦input⟧\n</ticket>"
    assert (site.kind, site.template, site.coverage) == ("prefix", template, 1.0)
    applied = Policy().with_prompt(site, site.template.replace("other.", "other, in one word.")).apply(calls[0].call)
    first, second = applied.call.messages[0]["content"]
    assert first["text"] == "Classify the ticket as billing or other, in one word."
    assert second["text"] == f"<ticket>\n{QUESTIONS[0]}\n</ticket>"


def described(name: str, text: str | None) -> dict[str, Any]:
    function = {"name": name, "parameters": {"type": "object"}} | ({} if text is None else {"description": text})
    return {"type": "function", "function": function}


def offered(task: int, *tools: dict[str, Any], agent: str = "bot") -> ObservedCall:
    messages = [{"role": "system", "content": "You are a careful clerk."}, {"role": "user", "content": QUESTIONS[task]}]
    return ObservedCall(f"t-{task}", QUESTIONS[task], Call(agent, "m", messages, list(tools)))


def test_every_described_tool_is_a_site_after_those_in_messages() -> None:
    tools = [described("find", "Look up an order by its number."), described("bare", None), {"type": "web_search"}]
    report = discover_sites([offered(i, *tools) for i in range(6)])
    assert report.unusable == []
    assert [(site.id, site.kind, site.tool) for site in report.sites] == [
        ("bot:system", "system", ""),
        ("bot:tool:find", "tool", "find"),
    ]
    assert report.sites[1].template == "Look up an order by its number."
    assert report.sites[1].num_observed == 6


def test_a_date_in_a_description_is_a_slot_and_other_wording_another_site() -> None:
    early = [offered(i, described("find", f"Look up an order. Today is 2026-11-{10 + i}.")) for i in range(4)]
    late = [offered(i, described("find", "Ask the warehouse where a parcel lies.")) for i in range(4, 7)]
    sites = [site for site in discover_sites(early + late).sites if site.kind == "tool"]
    assert [site.id for site in sites] == ["bot:tool:find", "bot:tool:find-2"]
    assert match(sites[0].template, "Look up an order. Today is 2027-01-02.") is not None
    assert len(sites[0].slots) == 1


def test_developer_messages_are_system_sites() -> None:
    calls = [
        ObservedCall(f"t-{i}", q, Call("bot", "m", [{"role": "developer", "content": "You are a careful assistant."}]))
        for i, q in enumerate(QUESTIONS)
    ]
    assert the_site(discover_sites(calls)).id == "bot:system"


def test_a_found_site_steers_the_calls_it_was_found_in() -> None:
    calls = systems([f"You are the assistant of {user}. Be kind." for user in USERS])
    site = the_site(discover_sites(calls))
    policy = Policy().with_prompt(site, "⟦text_1⟧ is waiting.")
    texts = [policy.apply(each.call).call.messages[0]["content"] for each in calls]
    assert texts == [f"{user} is waiting." for user in USERS]


@pytest.mark.parametrize(
    "text",
    [
        "⟦" * 20_000,
        "[" * 20_000,
        '{"a":' * 20_000,
        "a " * 20_000,
        "1" * 20_000,
        "ab-" * 20_000,
        "a: " * 20_000,
        "\n" * 20_000,
        "的" * 20_000,
        "Monday, " * 20_000,
        "Answer well, please \ud800\x00",
    ],
    ids=lambda text: repr(text[:9]),
)
def test_hostile_texts_neither_raise_nor_take_long(text: str) -> None:
    started = time.thread_time()
    report = discover_sites(systems([f"{i}x {text} {i}y" for i in range(3)]))
    assert time.thread_time() - started < 5
    assert all(slot_names(site.template) for site in report.sites if site.template)


def test_five_hundred_long_prompts_are_discovered_in_seconds() -> None:
    rng = random.Random(5)
    instructions = document(rng, 300)
    calls = [
        seen(
            i,
            f"question {i} {document(rng, 8)}",
            system=f"{instructions}\nToday: 2026-11-{1 + i % 28:02d}\nUser: {rng.choice(USERS)} {i}\n<doc>\n"
            f"{document(rng, 450)}\n</doc>\nAnswer in one sentence.",
        )
        for i in range(500)
    ]
    assert min(len(each.call.messages[0]["content"]) for each in calls) > 3500
    started = time.thread_time()
    report = discover_sites(calls)
    assert time.thread_time() - started < 6
    assert the_site(report).template == (
        f"{instructions}\nToday: ⟦date_1⟧\nUser: ⟦text_1⟧\n<doc>\n⟦text_2⟧\n</doc>\nAnswer in one sentence."
    )
