"""Of several drafts the most typical one is run, without the lines that hardly any other draft has."""

from __future__ import annotations

import os
import subprocess
import sys

from agentlightning.algorithms.apo.drafts import most_typical, without_loners

CURRENT = "You sort tickets."
REFUND = "If the ticket mentions a refund, answer returns."
PARCEL = "If the ticket mentions a parcel, answer shipping."
LAMP = "If the ticket mentions a lamp, answer billing."
TENT = "If the ticket mentions a tent, answer account."


def text(*lines: str) -> str:
    return "\n".join([CURRENT, *lines])


def test_the_draft_that_says_what_most_others_say_is_the_typical_one() -> None:
    drafts = [text(LAMP), text(REFUND), text(TENT), text(REFUND, PARCEL), text(REFUND)]
    assert most_typical(drafts, CURRENT) == text(REFUND)


def test_the_form_of_a_line_counts_less_than_what_it_is_about() -> None:
    drafts = [text(LAMP), text("A refund: answer returns."), text(REFUND)]
    assert most_typical(drafts, CURRENT) == text(REFUND)


def test_of_drafts_with_nothing_in_common_the_first_is_taken() -> None:
    drafts = [text("Be brief."), text("Use tools."), text("Stay calm.")]
    assert most_typical(drafts, CURRENT) == drafts[0]
    assert most_typical(drafts[:1], CURRENT) == drafts[0]


def test_a_new_line_that_too_few_of_the_others_have_is_left_out() -> None:
    drafts = [text(REFUND, LAMP), text(REFUND), text(REFUND), text(TENT, REFUND), text(PARCEL)]
    assert without_loners([drafts[0], *drafts[2:]], CURRENT) == text(REFUND)
    assert without_loners([text(REFUND, LAMP)] * 3, CURRENT) == text(REFUND, LAMP)


def test_a_line_stays_where_the_others_have_it_in_other_words_or_have_had_it_all_along() -> None:
    other = "Answer returns if the ticket mentions any refund."
    assert without_loners([text(REFUND), text(other), text(other)], CURRENT).splitlines()[1] in (REFUND, other)
    anew = "Where the ticket mentions a refund, answer returns."
    current = text(REFUND)
    drafts = [text(anew, PARCEL), text(REFUND, PARCEL), text(REFUND, PARCEL), text(REFUND, LAMP)]
    assert without_loners(drafts, current) in {text(anew, PARCEL), text(REFUND, PARCEL)}


def test_where_no_new_line_would_stay_the_draft_is_run_as_it_is() -> None:
    drafts = [text("Be brief."), text("Use tools."), text("Stay calm.")]
    assert without_loners(drafts, CURRENT) == drafts[0]


def test_two_drafts_are_too_few_to_outvote_a_line() -> None:
    drafts = [text(REFUND, LAMP), text(REFUND, TENT)]
    assert without_loners(drafts, CURRENT) == drafts[0]


SEARCH = """
import asyncio
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import fresh_world
from agentlightning.algorithms.apo.algorithm import APO

for seed in (12, 32):
    session = SimulatedSession(fresh_world(seed), calls=700)
    asyncio.run(APO().train(session))
    print(*(entry.policy_id for entry in session.decisions))
"""


def test_every_process_takes_the_same_draft() -> None:
    def decisions(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", SEARCH], env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout

    assert decisions("2") == decisions("3") != ""
