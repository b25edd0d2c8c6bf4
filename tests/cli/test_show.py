"""Runs, rollouts and numbers from the command line, for finished, running, live and imported ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.store.rollouts import add, rollout, weather

from agentlightning.cli.main import main
from agentlightning.data.processor import process
from agentlightning.data.record import make_record
from agentlightning.store.open import open_store


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "250")

    async def fill() -> None:
        store = open_store(tmp_path / "store")
        result = {"verdict": "improved", "baseline": 0.25, "final": 0.75, "cost": {"calls": 9, "usd": 0.5}}
        begun = {"status": "running", "agent": "main", "started_at": 1.0e9, "kind": "training"}
        await store.append([make_record("run", "run-1", begun, run="run-1")])
        await store.append([make_record("run", "run-1", {"status": "finished", "result": result}, run="run-1")])
        await store.append([make_record("run", "run-2", begun, run="run-2")])
        await add(
            store,
            process(weather("r-good", run_id="run-1")),
            process(rollout("r-crashed", run_id="run-1", status="failed", error="boom")),
            process(weather("r-bad", "Blue.", 0.0, run_id="run-1", expected="Grey.", usd=0.02)),
            weather("r-going", run_id="run-2"),
            weather("r-live", split="live"),
            weather("r-imported", run_id="run-0"),
        )
        await store.close()

    asyncio.run(fill())
    return str(tmp_path / "store")


def test_ls_lists_finished_running_live_and_imported_rollouts(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["ls", "--store", address])
    said = capsys.readouterr().out
    finished = next(line for line in said.splitlines() if "run-1" in line)
    assert all(word in finished for word in ("finished", "improved", "0.250", "0.750", " 3 ", " 9 ", "0.5000"))
    assert "running" in next(line for line in said.splitlines() if "run-2" in line)
    assert "run-0" in said
    assert "1 rollouts outside any run (live, imported), 1 judged, mean reward 1.000" in said


def test_ls_gives_programs_an_object_a_run(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["ls", "--json", "--store", address])
    runs = {line["run"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    told = runs["run-1"]
    assert (told["status"], told["verdict"], told["before"], told["calls"]) == ("finished", "improved", 0.25, 9)
    assert runs["run-2"]["status"] == "running" and runs["run-2"]["verdict"] is None


def test_show_of_a_run_begins_with_what_failed(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "run-1", "--store", address])
    said = capsys.readouterr().out
    assert said.index("r-crashed") < said.index("r-bad") < said.index("r-good")
    assert "verdict improved" in said and "success 33% of 3" in said and "exception" in said
    main(["show", "run-1", "--store", address, "--where", "status=failed", "-n", "1"])
    said = capsys.readouterr().out
    assert "r-crashed" in said and "r-good" not in said


def test_show_of_a_rollout_has_its_steps_cost_and_tags(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "r-bad", "--store", address])
    said = capsys.readouterr().out
    assert "0. model gpt-5 → calls look_up" in said and "1. tool look_up" in said and "[0.50 s]" in said
    assert "Grey." in said and "20 tokens in, 10 out · $0.0200" in said and "wrong" in said
    main(["show", "r-crashed", "--store", address])
    assert "exception: boom" in capsys.readouterr().out


def test_stats_are_of_a_run_of_a_filter_or_of_everything(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats", "run-1", "--store", address])
    said = capsys.readouterr().out
    assert "33%" in said and "0.500" in said and "exception" in said and "r-crashed" in said
    assert "$0.0200 and 1 rollouts whose price is not known" in said and "p50 0.50 s" in said
    main(["stats", "--store", address, "--where", "split=live"])
    assert "live" in capsys.readouterr().out
    main(["stats", "--json", "--store", address])
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["total"]["num_rollouts"] == 6 and numbers["call_seconds"]["50"] == 0.5
    assert numbers["splits"]["live"]["mean_reward"] == 1.0
    main(["stats", "run-9", "--store", address])
    assert "no rollouts there" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["ls"], ["show", "run-1"]])
def test_no_id_is_cut_on_a_narrow_terminal(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill() -> None:
        store = open_store(tmp_path / "long")
        begun = {"status": "running", "agent": "an agent with a name", "started_at": 1.0e9, "kind": "training"}
        await store.append([make_record("run", "run-1", begun, run="run-1")])
        await store.append([make_record("run", "run-0123456789ab", begun, run="run-0123456789ab")])
        await add(store, weather("r-0123456789ab", run_id="run-1", policy_id="p-0123456789ab"))
        await store.close()

    asyncio.run(fill())
    monkeypatch.setenv("COLUMNS", "80")
    main([*command, "--store", str(tmp_path / "long")])
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    columns = ["".join(cell.strip() for cell in cells) for cells in zip(*rows, strict=True)]
    wanted = ["0123456789ab"] if command == ["ls"] else ["r-0123456789ab", "p-0123456789ab"]
    assert all(any(id in column for column in columns) for id in wanted)


def test_what_is_piped_stays_on_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS")
    main(["ls", "--store", address])
    [line] = [line for line in capsys.readouterr().out.splitlines() if "run-1" in line]
    assert "improved" in line and "0.750" in line
