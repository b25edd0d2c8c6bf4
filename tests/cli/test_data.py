"""Exports and imports from the command line: the format by name or by ending, filters, and what was left out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.store.rollouts import add, weather

from agentlightning.cli.main import main
from agentlightning.store.open import open_store


@pytest.fixture
def address(tmp_path: Path) -> str:
    async def fill() -> None:
        store = open_store(tmp_path / "store")
        await add(
            store,
            weather("r1", run_id="one", agent_id="main"),
            weather("r2", "Blue, says ann@x.org.", 0.0, run_id="one", split="live"),
            weather("r3", "Rain.", 0.8, run_id="two", split="test"),
        )
        await store.close()

    asyncio.run(fill())
    return str(tmp_path / "store")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_filters_choose_what_is_exported(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    for arguments, ids in (
        ([], ["r1", "r2", "r3"]),
        (["--where", "split=live"], ["r2"]),
        (["-w", "split=train,test", "--min-reward", "0.9"], ["r1"]),
        (["--run", "two"], ["r3"]),
        (["--where", "reward=0"], ["r2"]),
    ):
        main(["export", str(out), "--store", address, *arguments])
        assert [line["id"] for line in lines(out)] == ids
    assert "3 trajectories written" in capsys.readouterr().out
    main(["export", str(out), "--store", address, "--mask"])
    assert "ann@x.org" not in out.read_text() and "[email_1]" in out.read_text()


@pytest.mark.parametrize(("name", "form"), [("x.parquet", None), ("x.jsonl", None), ("x", "parquet")])
def test_what_is_exported_can_be_imported(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, form: str | None
) -> None:
    path, flags = str(tmp_path / name), ["--format", form] if form else []
    main(["export", path, "--store", address, *flags])
    main(["import", path, "--store", str(tmp_path / "other"), *flags])
    main(["import", path, "--store", str(tmp_path / "other"), *flags])
    said = capsys.readouterr().out
    assert "3 trajectories imported, 0 were there already" in said
    assert "0 trajectories imported, 3 were there already" in said


def test_training_files_say_what_was_left_out_and_why(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", str(tmp_path / "sft.jsonl"), "-f", "sft", "--store", address])
    said = capsys.readouterr().out
    assert "1 examples written" in said and "from 3 rollouts" in said
    assert "left out 1: reward under 0.5 (such as r2)" in said
    assert "left out 1: split test is kept for measuring (such as r3)" in said
    main(["export", str(tmp_path / "dpo.jsonl"), "-f", "dpo", "--flavor", "openai", "--store", address])
    assert "1 pairs written" in capsys.readouterr().out
    assert "preferred_output" in lines(tmp_path / "dpo.jsonl")[0]


def test_spans_go_to_a_file_and_come_back_as_live_rollouts(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "spans.jsonl")
    main(["export", path, "-f", "otlp", "--store", address])
    main(["import", path, "-f", "otel", "--store", str(tmp_path / "other")])
    said = capsys.readouterr().out
    assert "12 spans written" in said and "3 trajectories imported" in said


def test_chat_logs_are_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    log.write_text(json.dumps({"messages": turns}))
    main(["import", str(log), "-f", "chat", "--agent", "greeter", "--store", str(tmp_path / "s")])
    assert "1 trajectories imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "out.jsonl", "--where", "split"], "Write FIELD=VALUE"),
        (["export", "-f", "sft"], "name the file to write"),
        (["export", "-f", "otlp", "--endpoint", "localhost"], "is no URL"),
        (["export", "-f", "otlp", "--endpoint", "http://x", "--header", "key"], "NAME=VALUE"),
        (["export", "out.csv", "-f", "csv"], "csv"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(open_store(tmp_path / "store").close())
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--store", str(tmp_path / "store")])
    assert ended.value.code == 2 and says in capsys.readouterr().err
