"""Whatever the prompts are: a template fits the texts it came from, and gives each back to the letter."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from agentlightning.data.call import Call
from agentlightning.data.resource import Policy
from agentlightning.data.template import candidate_problems, fit, marker, match, render, slot_names
from agentlightning.interception.alignment import constant_runs, learn, tokenise
from agentlightning.interception.sites import ObservedCall, discover_sites
from agentlightning.interception.slots import Values, find_spans

INSTRUCTION_WORDS = (
    "always answer politely explain reasons before giving results check units carefully never invent facts cite "
    "sources keep sentences short prefer examples avoid jargon respect privacy mention limits offer alternatives"
)
INSTRUCTIONS = INSTRUCTION_WORDS.split()
NUM_SEEN = 8

any_text = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab \n.,:[]{}\"'0123-⟦⟧今天是"), max_size=60
)
letters = st.text(string.ascii_lowercase, min_size=1, max_size=6)


@st.composite
def agents_prompts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A true template of 1–4 instruction runs, and texts of it; no two texts share a word of a slot's value."""
    size = draw(st.integers(1, 4))
    runs = [draw(st.lists(st.sampled_from(INSTRUCTIONS), min_size=4, max_size=8)) for _ in range(size)]
    constants = [" ".join(run) for run in runs]
    texts: list[str] = []
    for number in range(NUM_SEEN + 3):
        tag = string.ascii_uppercase[number]
        values = [draw(st.lists(letters, min_size=1, max_size=4)) for _ in constants[1:]]
        words = [" ".join(f"{word}{tag}" for word in value) for value in values]
        texts.append(constants[0] + "".join(f" {v} {c}" for v, c in zip(words, constants[1:], strict=True)))
    return constants[0], texts


def observed(texts: list[str]) -> list[ObservedCall]:
    return [
        ObservedCall(f"t-{i}", f"task {i}", Call("bot", "m", [{"role": "system", "content": text}]))
        for i, text in enumerate(texts)
    ]


@settings(max_examples=60, deadline=None)
@given(agents_prompts())
def test_a_discovered_template_matches_what_was_seen_and_what_was_not(case: tuple[str, list[str]]) -> None:
    opening, texts = case
    (site,) = discover_sites(observed(texts[:NUM_SEEN])).sites
    assert site.template.startswith(opening)
    assert site.coverage == 1.0
    for text in texts:
        values = match(site.template, text)
        assert values is not None
        assert render(site.template, values) == text


@settings(max_examples=60, deadline=None)
@given(agents_prompts())
def test_a_candidate_that_loses_doubles_or_invents_a_slot_is_refused(case: tuple[str, list[str]]) -> None:
    (site,) = discover_sites(observed(case[1])).sites
    assert candidate_problems(site.template, site.template) == []
    assert candidate_problems(site.template, site.template + " ⟦other⟧")
    for slot in site.slots:
        assert candidate_problems(site.template, site.template.replace(marker(slot.name), ""))
        assert candidate_problems(site.template, site.template + marker(slot.name))


@settings(max_examples=150, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=5), any_text)
def test_any_texts_give_a_template_that_each_of_them_fits_to_the_letter(texts: list[str], given_input: str) -> None:
    tokens = [tokenise(text, find_spans(text, [Values([("input", given_input)])])) for text in texts]
    constants = constant_runs(learn(tokens))
    for text in texts:
        places = fit(constants, text)
        assert places is not None
        values = [text[start:end] for start, end in places]
        assert constants[0] + "".join(v + c for v, c in zip(values, constants[1:], strict=True)) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=6))
def test_any_traffic_gives_sites_whose_slots_are_those_of_the_template(pairs: list[tuple[str, str]]) -> None:
    calls = [
        ObservedCall(
            f"t-{i}", f"task {i}", Call("bot", "m", [{"role": "system", "content": a}, {"role": "user", "content": b}])
        )
        for i, (a, b) in enumerate(pairs)
    ]
    report = discover_sites(calls)
    assert discover_sites(calls[::-1]) == report
    sites = [*report.sites, *(site for site, _ in report.unusable)]
    assert len({site.id for site in sites}) == len(sites)
    for site in sites:
        assert slot_names(site.template) == tuple(slot.name for slot in site.slots)
        assert len(set(slot_names(site.template))) == len(site.slots)
        policy = Policy().with_prompt(site, "New text. " + "".join(marker(slot.name) for slot in site.slots))
        if site.template:
            assert any(policy.apply(each.call).steered for each in calls)
