"""The pages in a real browser, served by the real command: what they show, that they follow a run and keep clicks.

Needs Debian's or any other Chromium; AGENTLIGHTNING_EXPECT_BROWSER makes its absence a failure.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.dashboard.records import BETTER, RUN, records, rollout, running

from agentlightning.data.record import Record, make_record
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.trajectories import trajectory_records

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

if CHROMIUM is None and not os.environ.get("AGENTLIGHTNING_EXPECT_BROWSER"):
    pytest.skip("there is no Chromium here", allow_module_level=True)


def with_store(folder: Path, work: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
    """Do it in a thread of its own: the browser's driver has a loop running in this one."""

    async def run() -> Any:
        store = open_store(str(folder))
        try:
            return await work(store)
        finally:
            await store.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


def append(folder: Path, more: list[Record]) -> None:
    with_store(folder, lambda store: store.append(more))


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    async def work(store: Store) -> list[dict[str, Any]]:
        return [stored.record.body async for stored in store.read(kind)]

    return with_store(folder, work)


@contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """The command while it runs; the address it prints."""
    code = "from agentlightning.cli.main import main; main()"
    command = [sys.executable, "-c", code, "dashboard", "--store", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        try:
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "AGENTLIGHTNING_EXPECT_BROWSER is set, and there is no Chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[tuple[Any, Path, Callable[[str], None]]]:
    """A page on a dashboard over the run of `records`, the store's folder, and a way to go to another page.

    Whatever the browser complains about fails the test.
    """
    append(tmp_path, records())
    complaints: list[str] = []
    page = browser.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    with dashboard(tmp_path) as address:
        page.goto(address)
        yield page, tmp_path, lambda place: page.goto(address.partition("?")[0] + place)
        page.close()
    assert not complaints


def fact(page: Any, name: str, value: str) -> Any:
    """A number at the top of a page, when it has this value."""
    return page.locator(".facts > div").filter(has_text=re.compile(rf"^{name}{value}$"))


def test_every_page_shows_its_subject(opened: Any) -> None:
    page, _, go = opened
    page.get_by_role("link", name=RUN).click()
    page.get_by_text("improved").first.wait_for()
    page.get_by_text("+0.50 (95 % interval +0.10 to +0.90) on 2 tasks the search never saw").wait_for()
    assert page.locator(".chart canvas").count() == 3  # validation, rewards, incumbent
    page.get_by_role("link", name="Rollouts").click()
    page.get_by_text("ZeroDivisionError").wait_for()
    assert page.locator("tbody tr").first.inner_text().startswith("r-bad")
    page.get_by_role("link", name="r-bad").click()
    page.get_by_text("shows the failure").wait_for()
    page.get_by_text("Be kind to Ada.").wait_for()
    go(f"#/runs/{RUN}/prompts")
    page.get_by_text("handed back").wait_for()
    assert page.locator("ins").inner_text() == "Answer in one word."
    go(f"#/runs/{RUN}/sites")
    page.get_by_text("below 95 %: not optimised").wait_for()
    go(f"#/compare?runs={RUN},{RUN}")
    page.get_by_text("2 runs side by side").wait_for()
    go("#/nowhere")
    page.get_by_text("There is no such page").wait_for()


def test_rollouts_are_filtered_by_typing(opened: Any) -> None:
    page, _, go = opened
    go(f"#/runs/{RUN}/rollouts")
    page.get_by_label("search").fill("too long")
    page.get_by_label("search").press("Enter")
    page.get_by_text("1 rollouts").wait_for()
    assert page.locator("tbody tr").first.inner_text().startswith("r-poor")


def test_an_open_page_follows_the_run(opened: Any) -> None:
    page, folder, _ = opened
    append(folder, [make_record("run", "run-2", running(), run="run-2")])
    page.get_by_role("link", name="run-2").click()
    fact(page, "in flight", "0").wait_for()
    step, done = trajectory_records(rollout("r-new", run="run-2"), with_steps=True)
    append(folder, [step])
    fact(page, "in flight", "1").wait_for()
    append(folder, [done])
    fact(page, "rollouts", "1").wait_for()


def test_a_rating_and_a_choice_are_kept(opened: Any) -> None:
    page, folder, go = opened
    go("#/rollouts/r-good")
    assert page.get_by_role("button", name="4").is_disabled()
    page.get_by_label("your name").fill("ada")
    page.get_by_label("your name").press("Tab")
    page.get_by_role("button", name="4").click()
    page.get_by_text("kept: 4 of 5").wait_for()
    go(f"#/runs/{RUN}/rate")
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("Nothing is left to compare").wait_for()
    rating, choice = read(folder, "feedback")
    assert (rating["rollout"], rating["value"], rating["rater"]) == ("r-good", 0.75, "ada")
    assert {choice["better"], choice["worse"]} == {"r-good", "r-poor"} and choice["rater"] == "ada"


def test_text_of_an_agent_is_never_run(opened: Any) -> None:
    page, folder, go = opened
    evil = "<img src=x onerror='document.title=\"hacked\"'><script>document.title='hacked'</script>"
    append(folder, trajectory_records(rollout("r-evil", output=evil, error=evil, status="failed"), with_steps=True))
    go("#/rollouts/r-evil")
    page.locator(".problem").first.wait_for()
    assert evil in page.locator(".problem").first.inner_text() and "hacked" not in page.title()


def test_a_version_is_chosen_in_the_tree(opened: Any) -> None:
    page, _, go = opened
    go(f"#/runs/{RUN}/prompts")
    page.locator(".node.rejected").click()
    page.locator("ins", has_text="Be rude").wait_for()
    assert BETTER.id not in page.locator(".version h2").inner_text()
