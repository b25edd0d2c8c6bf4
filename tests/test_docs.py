"""The documentation is kept true by `make docs`; this keeps its checker honest, and the generated tables current."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs import check
from scripts import write_config_docs

from agentlightning.demo.server import SimulatedServer

ROOT = Path(__file__).resolve().parent.parent


def page_with(folder: Path, text: str) -> check.Outcome:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    with SimulatedServer() as server:
        return check.check(page, server.base_url)


def test_the_tables_of_the_configuration_page_are_current():
    page = write_config_docs.PAGE.read_text(encoding="utf-8")
    assert page == write_config_docs.write(page), "run `make schema`, or scripts/write_config_docs.py"


def test_every_setting_has_a_meaning_in_the_tables():
    rows = [line for line in write_config_docs.tables().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_map_links_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


def test_both_readmes_show_the_same_code():
    english, chinese = (check.runnable(ROOT / name) for name in ("README.md", "README.zh-CN.md"))
    assert [_without_comments(block.code) for block in english] == [_without_comments(block.code) for block in chinese]


def test_blocks_of_a_page_share_names_files_and_the_simulated_model(tmp_path: Path):
    outcome = page_with(
        tmp_path,
        "```python\n# other.py\nx = 1\n```\n```python\nimport os, other\nassert x == other.x\n"
        "assert os.path.exists('tickets.jsonl') and '127.0.0.1' in os.environ['OPENAI_BASE_URL']\n```\n",
    )
    assert (outcome.problem, outcome.num_blocks) == ("", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```python\n\nassert 1 == 2\n```\n", "line 3"),
        ("```python\nraise SystemExit(0)\n```\n", "exit status 0"),
        ("```yaml\n# al_config.yaml\nagnet: {}\n```\n", "Did you mean 'agent'"),
        ("```console\n$ agentlightning show nothing\n```\n", "exited with 2"),
        ("```python\nx = 1\n", "never closed"),
        ("<!-- not run: -->\n```python\nx = 1\n```\n", "say why"),
        ("```python\nprint('Improved from 0.1 to 0.2.')\n```\n```text\nImproved from 0.1 to 0.9.\n```\n", "0.9"),
        ("[away](nowhere.md)\n", "nowhere.md"),
    ],
)
def test_a_page_that_does_not_hold_is_refused_with_the_place(tmp_path: Path, text: str, said: str):
    assert said in page_with(tmp_path, text).problem


def test_a_block_is_left_out_only_with_a_reason(tmp_path: Path):
    outcome = page_with(tmp_path, "<!-- not run: costs money -->\n```python\nassert 1 == 2\n```\n")
    assert (outcome.problem, outcome.num_blocks) == ("", 0)


def _without_comments(code: str) -> str:
    return "\n".join(line.partition("  # ")[0] for line in code.splitlines())
