"""The form in which a request wants its reply: tags, fences, DSPy's fields, JSON, or nothing but the text."""

from __future__ import annotations

import json


def is_strict(request: str) -> bool:
    """Whether a reply that cannot be read would end the search that asks."""
    return "[[ ## proposed_instruction ## ]]" in request or "Respond with a JSON object" in request


def reply_in_form(request: str, idea: str, text: str) -> str:
    if "<instruction>" in request:
        return f"Idea: {idea}\n<instruction>\n{text}\n</instruction>"
    if "[[ ## proposed_instruction ## ]]" in request:
        return f"[[ ## proposed_instruction ## ]]\n{text}\n\n[[ ## completed ## ]]"
    if "Respond with a JSON object" in request:
        return json.dumps({"new_instruction": text})
    if "Return only the" in request:
        return text
    return f"```\n{text}\n```"
