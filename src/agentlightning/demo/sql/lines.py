"""Lines of instruction that the demo's small model understands, and whether they are good advice: some help, some hurt.

The model was made to obey them, as a large model obeys whatever it is told. Nothing tells the optimiser which are good.
"""

from __future__ import annotations

LINES: dict[str, tuple[str, ...]] = {
    # help
    "schema first": (
        "Check the schema first.",
        "Look up the columns before you write a query.",
        "Use the schema tool before the first query.",
    ),
    "try again": (
        "Try again after an error.",
        "When a query fails, look up the columns and run it again.",
        "Do not give up when a query fails.",
    ),
    # hurt
    "answer right away": ("Answer right away.", "Answer without tools when you can.", "Be quick and guess the answer."),
    "short query": ("Keep the query short.", "Write the simplest query.", "Leave conditions out of the query."),
    # neither
    "be polite": ("Be polite.", "Stay friendly.", "Be kind and helpful."),
    "think": ("Think step by step.", "Take a deep breath.", "Think before you answer."),
    "clean": ("Write clean code.", "Use good style.", "Write code that others can read."),
    "expert": ("You are an expert.", "You are good at this.", "You know data very well."),
}

HELPFUL = ("schema first", "try again")
HARMFUL = ("answer right away", "short query")


def named(text: str) -> list[str]:
    """The names of the lines that a text holds, in their order there."""
    wordings = {wording.lower(): name for name, several in LINES.items() for wording in several}
    return [wordings[line] for line in (line.strip().lower() for line in text.splitlines()) if line in wordings]
