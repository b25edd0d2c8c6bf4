"""The rows that stores are measured with."""

from __future__ import annotations

from collections.abc import Iterator

from agentlightning.data.record import Record, make_record


def make_records(start: int, end: int) -> list[Record]:
    """Steps of about 1.5 KB, nine to a rollout; every tenth record is the rollout itself."""
    return [_rollout(i) if i % 10 == 9 else _step(i) for i in range(start, end)]


def _step(i: int) -> Record:
    body = {"id": f"s-{i}", "index": i % 10, "kind": "model", "agent": "solver", "call": {"messages": _messages(i)}}
    return make_record("step", f"s-{i}", body, run=f"run-{i // 10_000}", rollout=f"r-{i // 10}")


def _rollout(i: int) -> Record:
    split = "test" if i // 10 % 20 == 0 else "train"
    body = {"id": f"r-{i // 10}", "task": f"t-{i % 499}", "split": split, "status": "succeeded", "log": _messages(i)}
    return make_record("rollout", f"r-{i // 10}", body, run=f"run-{i // 10_000}", rollout=f"r-{i // 10}")


def _messages(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question {i}: " + "what is the capital of this country? " * 36}]


def batches(records: list[Record], size: int) -> Iterator[list[Record]]:
    """Consecutive batches."""
    return (records[start : start + size] for start in range(0, len(records), size))
