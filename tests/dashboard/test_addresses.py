"""What the dashboard answers, over HTTP, on a real store: who may look, what each address says, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.dashboard.records import BETTER, RUN, WORSE, evaluation, records, rollout

from agentlightning.dashboard.app import dashboard_app
from agentlightning.data.record import make_record
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.trajectories import read_trajectories, trajectory_records

TOKEN = {"authorization": "Bearer secret"}
Work = Callable[[httpx.AsyncClient, Store], Coroutine[Any, Any, Any]]


def ask(folder: Path, work: Work, **headers: str) -> Any:
    """Do `work` with a client of a dashboard over the run of `records`."""

    async def run() -> Any:
        store = open_store(str(folder / "store"))
        await store.append(records())
        transport = httpx.ASGITransport(dashboard_app(store, "secret"))
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8200", headers=headers
            ) as client:
                return await work(client, store)
        finally:
            await store.close()

    return asyncio.run(run())


def get(folder: Path, path: str) -> Any:
    async def work(client: httpx.AsyncClient, _: Store) -> Any:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask(folder, work, **TOKEN)


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/api/runs", f"/api/runs/{RUN}", "/api/rollouts/r-good", "/api/events"]
)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"cookie": "agentlightning_8200=wrong"}])
def test_without_the_token_nothing_is_shown(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> httpx.Response:
        return await client.get(path)

    answer = ask(tmp_path, work, **headers)
    assert answer.status_code == 401 and "helper" not in answer.text


def test_the_printed_address_leaves_a_cookie_and_takes_the_token_out_of_the_address(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> tuple[httpx.Response, httpx.Response]:
        return await client.get("/?token=secret&x=1"), await client.get("/api/runs")

    welcome, then = ask(tmp_path, work)
    assert (welcome.status_code, welcome.headers["location"]) == (303, "/?x=1")
    cookie = welcome.headers["set-cookie"].lower()
    assert "agentlightning_8200=secret" in cookie and "httponly" in cookie and "samesite=strict" in cookie
    assert then.status_code == 200 and then.json()["runs"][0]["id"] == RUN


def test_a_name_that_merely_resolves_here_is_not_answered(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> list[int]:
        names = ("evil.example", "127.0.0.1.evil.example:8200", "localhost:8200", "[::1]:8200")
        return [(await client.get("/api/runs", headers={"host": name})).status_code for name in names]

    assert ask(tmp_path, work, **TOKEN) == [421, 421, 200, 200]


def test_pages_may_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> httpx.Response:
        return await client.get("/")

    answer = ask(tmp_path, work, **TOKEN)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in answer.text


def test_runs_are_listed_with_what_came_of_them(tmp_path: Path) -> None:
    [run] = get(tmp_path, "/api/runs")["runs"]
    assert (run["status"], run["verdict"], run["before"], run["after"]) == ("finished", "improved", 0.5, 1.0)
    assert run["sums"] == {
        "rollouts": 4, "judged": 3, "failed": 1, "mean": 0.75, "usd": 0.04, "tokens": 36, "calls": 4,
    }  # fmt: skip


def test_a_run_says_how_it_went(tmp_path: Path) -> None:
    run = get(tmp_path, f"/api/runs/{RUN}")
    assert run["outcomes"] == {"won": 1, "same": 1, "lost": 0}
    assert [(one["policy"], one["mean"], one["decision"]) for one in run["evaluations"]] == [
        ("original", 0.5, ""),
        (BETTER.id, 1.0, "accepted"),
    ]
    assert run["baseline"]["mean"] == 0.5 and run["baseline"]["low"] < 0.5 < run["baseline"]["high"]
    assert run["series"] == {"1-apo": {"incumbent": [[1, 0.5], [2, 1.0]]}}
    assert run["splits"]["test"]["rollouts"] == 1 and run["config"] == {"seed": 3}
    assert [line["text"] for line in run["log"]] == ["round 1", "round 2"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["r-bad", "r-poor", "r-good", "r-test"]),
        ("?split=test", ["r-test"]),
        (f"?policy={WORSE.id}", ["r-poor"]),
        ("?q=ZeroDiv", ["r-bad"]),
        ("?q=TOO%20LONG", ["r-poor"]),
        ("?order=low", ["r-poor", "r-good", "r-test", "r-bad"]),
        ("?offset=3", ["r-test"]),
        ("?q=nothing+like+it", []),
    ],
)
def test_rollouts_are_filtered_searched_and_ordered(tmp_path: Path, query: str, ids: list[str]) -> None:
    assert [row["id"] for row in get(tmp_path, f"/api/runs/{RUN}/rollouts{query}")["rows"]] == ids


def test_a_rollout_is_shown_whole(tmp_path: Path) -> None:
    shown = get(tmp_path, "/api/rollouts/r-bad")
    assert shown["error"] == "ZeroDivisionError" and shown["features"]["error_tags"][0]["name"] == "timeout"
    assert shown["steps"][0]["call"]["messages"][0]["content"] == "Be kind to Ada."


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/runs/run-9", "there is no run 'run-9'"),
        ("/api/rollouts/r-9", "there is no rollout 'r-9'"),
        (f"/api/runs/{RUN}/prompts/p-9", "there is no policy 'p-9'"),
        (f"/api/runs/{RUN}/rollouts?order=best", "order 'best' is not known"),
        (f"/api/runs/{RUN}/rollouts?offset=-1", "'-1' is no whole number"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, path: str, said: str) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> httpx.Response:
        return await client.get(path)

    answer = ask(tmp_path, work, **TOKEN)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_versions_form_a_tree_with_what_was_decided(tmp_path: Path) -> None:
    original, better, worse = get(tmp_path, f"/api/runs/{RUN}/prompts")
    assert (original["id"], original["mean"]) == ("original", 0.5)
    assert (better["parent"], better["decision"], better["mean"], better["is_handed_back"]) == (
        "original",
        "accepted",
        1.0,
        True,
    )
    assert (worse["decision"], worse["mean"], worse["is_handed_back"]) == ("rejected", None, False)


def test_a_version_shows_its_changes_line_by_line_and_task_by_task(tmp_path: Path) -> None:
    version = get(tmp_path, f"/api/runs/{RUN}/prompts/{BETTER.id}")
    assert version["against"] == "original"
    assert version["sites"][0]["lines"] == [[" ", "Be kind to ⟦name⟧."], ["+", "Answer in one word."]]
    assert version["tasks"] == [
        {"task": "t-2", "before": 1.0, "after": 1.0},
        {"task": "t-1", "before": 0.0, "after": 1.0},
    ]
    against = get(tmp_path / "again", f"/api/runs/{RUN}/prompts/{BETTER.id}?against={WORSE.id}")
    assert ["-", "Be rude to ⟦name⟧."] in against["sites"][0]["lines"]


def test_what_is_new_is_taken_in_and_the_latest_record_counts(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> list[Any]:
        before = (await client.get("/api/runs")).json()["runs"][0]["sums"]
        await store.append(trajectory_records(rollout("r-new", "t-6", reward=0.0)))
        await store.append(trajectory_records(rollout("r-good", reward=0.0)))
        await store.append([evaluation("1-apo.late", WORSE.id, {"t-1": 0.0}, "1-apo")])
        after = (await client.get("/api/runs")).json()["runs"][0]["sums"]
        run = (await client.get(f"/api/runs/{RUN}")).json()
        return [before["rollouts"], after["rollouts"], after["mean"], len(run["evaluations"])]

    assert ask(tmp_path, work, **TOKEN) == [4, 5, (0.25 + 1.0 + 0.0 + 0.0) / 4, 3]


def test_rollouts_under_way_are_counted_and_can_be_opened(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> list[Any]:
        await store.append([make_record("run", "run-2", {"status": "running", "agent": "helper"}, run="run-2")])
        step, done = trajectory_records(rollout("r-way", run="run-2"), with_steps=True)
        await store.append([step])
        during = (await client.get("/api/runs/run-2")).json()["in_flight"]
        shown = (await client.get("/api/rollouts/r-way")).json()
        await store.append([done])
        after = (await client.get("/api/runs/run-2")).json()["in_flight"]
        return [during, shown["status"], len(shown["steps"]), after]

    assert ask(tmp_path, work, **TOKEN) == [1, "in flight", 1, 0]


def test_what_was_collected_outside_a_run_has_a_page(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> list[Any]:
        await store.append(trajectory_records(rollout("r-live", run="", split="live"), with_steps=True))
        runs = (await client.get("/api/runs")).json()
        listed = (await client.get("/api/runs/outside/rollouts")).json()
        return [runs["outside"]["rollouts"], [run["id"] for run in runs["runs"]], [r["id"] for r in listed["rows"]]]

    assert ask(tmp_path, work, **TOKEN) == [1, [RUN], ["r-live"]]


def test_a_rating_stands_among_the_rollouts_rewards(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> Any:
        said = {"rollout": "r-poor", "stars": 4, "rater": "ada", "comment": "short enough"}
        assert (await client.post("/api/feedback", json=said)).status_code == 200
        [rated] = [found async for found in read_trajectories(store, {"id": "r-poor"})]
        return rated.rewards[-1]

    given = ask(tmp_path, work, **TOKEN)
    assert (given.value, given.source, given.reason) == (0.75, "human", "short enough")


def test_a_pair_is_blind_and_not_asked_twice(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> list[Any]:
        path = f"/api/runs/{RUN}/pair?rater=ada"
        asked = (await client.get(path)).json()
        one, two = asked["pair"]
        choice = {"better": two["id"], "worse": one["id"], "rater": "ada"}
        assert (await client.post("/api/feedback", json=choice)).status_code == 200
        [kept] = [stored.record.body async for stored in store.read("feedback", {"run": RUN})]
        another = (await client.get(path.replace("ada", "bob"))).json()
        return [asked, (await client.get(path)).json()["left"], another["left"], kept["better"]]

    asked, left, left_for_another, better = ask(tmp_path, work, **TOKEN)
    assert asked["left"] == 1 and {one["id"] for one in asked["pair"]} == {"r-good", "r-poor"}
    assert not {"policy_id", "reward", "rewards"} & set(asked["pair"][0])
    assert (left, left_for_another, better) == (0, 1, asked["pair"][1]["id"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rollout": "r-good", "stars": 6}, "not on the scale 1 to 5"),
        ({"rollout": "r-good"}, "feedback says nothing"),
        ({"rollout": "r-9", "stars": 3}, "there is no rollout 'r-9'"),
        ({"better": "r-good", "worse": "r-good"}, "named twice"),
        ({"better": "r-good"}, "say either"),
        ({"rollout": "r-good", "stars": 3, "value": 1}, "value"),
        ("{", "no JSON"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused_and_not_kept(tmp_path: Path, body: Any, said: str) -> None:
    async def work(client: httpx.AsyncClient, store: Store) -> Any:
        sent = (
            {"content": body, "headers": {"content-type": "application/json"}}
            if isinstance(body, str)
            else {"json": body}
        )
        answer = await client.post("/api/feedback", **sent)
        return answer, [stored async for stored in store.read("feedback")]

    answer, kept = ask(tmp_path, work, **TOKEN)
    assert answer.status_code == 400 and said in answer.json()["error"] and kept == []


def test_a_form_of_another_site_cannot_write(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: Store) -> int:
        body = '{"rollout": "r-good", "stars": 5}'
        return (await client.post("/api/feedback", content=body, headers={"content-type": "text/plain"})).status_code

    assert ask(tmp_path, work, **TOKEN) == 415
