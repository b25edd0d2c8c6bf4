"""An agent's structure reads as a few lines, and as data that a record can hold."""

from __future__ import annotations

import msgspec

from agentlightning.data.structure import Link, Member, Structure, in_turn, plain_structure

TEAM = Structure(
    "newsroom",
    "autogen Swarm",
    [Member("writer", instructions="You write.\nShort.", tools=["search"]), Member("critic", description="x" * 200)],
    [Link("writer", "critic", "may hand over to"), Link("critic", "end")],
)


def test_it_reads_as_lines() -> None:
    assert TEAM.text().splitlines() == [
        "newsroom (autogen Swarm)",
        "  writer: You write. Short. [tools: search]",
        f"  critic: {'x' * 100}…",
        "  writer (may hand over to) → critic",
        "  critic → end",
    ]


def test_it_survives_a_record() -> None:
    assert msgspec.convert(plain_structure(TEAM), Structure) == TEAM


def test_a_round_comes_back_to_the_first() -> None:
    assert [(each.source, each.target) for each in in_turn(["a", "b", "c"], is_round=True)] == [
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
    ]
    assert in_turn(["a"], is_round=True) == [] and len(in_turn(["a", "b"])) == 1
