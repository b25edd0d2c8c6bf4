"""A policy written to files and read back is the same policy, and a broken file says where it is broken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.resource import Demo, Policy, PromptSite, Slot
from agentlightning.errors import DataError
from agentlightning.trainer.policy_folder import load_policy, read_policy, save_policy
from agentlightning.trainer.result import TrainingResult

SITE = PromptSite(
    id="support:system",
    agent="support",
    kind="system",
    template="You help ⟦customer⟧.\nToday is ⟦date⟧.",
    slots=[Slot("customer", examples=["Ada"]), Slot("date", "date")],
    coverage=0.98,
    num_observed=40,
)
POLICY = Policy().with_prompt(SITE, "Help ⟦customer⟧ politely.\n\nIt is ⟦date⟧.\n")

awkward = st.sampled_from(
    ["", "yes", "null", "0x1f", "1e3", "2024-01-01", "~", "- a\n- b", "a: b", "# no", "%TAG", "---\n...", "'\""]
) | st.sampled_from(
    [
        "a\r\nb",
        "x \ny ",
        "\tx",
        " x",
        "a\n\n\n",
        "\n\na",
        "a\x85b",
        "a\u2028b",
        "\ufeffa",
        "é⚡\n漢字",
        "x " * 60,
        "\x00\x07",
    ]
)
texts = st.one_of(awkward, st.text(st.characters(exclude_categories=["Cs"]), max_size=60), awkward.map(lambda t: t * 2))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@given(
    template=texts.filter(lambda t: "⟦" not in t and "⟧" not in t),
    text=texts.filter(lambda t: t.strip() and "⟦" not in t and "⟧" not in t),
    demo=texts,
    site_id=texts.filter(bool),
)
def test_any_text_survives_saving_and_loading(template: str, text: str, demo: str, site_id: str) -> None:
    slots = "⟦slot:3⟧ and ⟦name⟧"
    site = PromptSite(site_id, "agent", "prefix", f"{template}{slots}", [Slot("name", examples=[demo])])
    policy = Policy(
        prompts={site_id: f"{slots}{text}"},
        sites=[site],
        demos={"agent": [Demo(demo, text)]},
        models={"agent": text},
        sampling={"agent": {"stop": [demo], "temperature": 0.1, "seed": None}},
    )
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_policy(save_policy(policy, folder))
        copies = [file.read_bytes().decode() for file in Path(folder, "prompts").iterdir()]
    assert loaded == policy
    assert loaded.id == policy.id
    assert copies == [f"{slots}{text}"]


def test_the_original_agent_can_be_saved_too(tmp_path: Path) -> None:
    assert load_policy(save_policy(Policy(), tmp_path)).is_original


def test_prompts_stand_in_the_file_as_they_are_written(tmp_path: Path) -> None:
    text = save_policy(POLICY, tmp_path).read_text(encoding="utf-8")
    assert "  text: |\n    Help ⟦customer⟧ politely.\n\n    It is ⟦date⟧.\n" in text
    assert (tmp_path / "prompts" / "support-system.txt").read_bytes().decode() == POLICY.prompts["support:system"]


def test_what_was_measured_is_kept_beside_the_policy(tmp_path: Path) -> None:
    result = TrainingResult(
        policy=POLICY,
        verdict="improved",
        baseline=0.5,
        final=0.75,
        interval=(0.1, 0.4),
        num_test_tasks=40,
        run_id="run-1",
    )
    saved = read_policy(save_policy(POLICY, tmp_path, result=result, predict="my_package.algo:Mine"))
    assert saved.measured is not None and saved.measured.interval == (0.1, 0.4)
    assert saved.predict == "my_package.algo:Mine"
    assert saved.policy == POLICY.id


def test_a_hand_edited_prompt_loads_and_gets_its_own_id(tmp_path: Path) -> None:
    path = save_policy(POLICY, tmp_path)
    edit(path, "politely", "briefly")
    loaded = load_policy(tmp_path)
    assert loaded.prompts["support:system"].startswith("Help ⟦customer⟧ briefly")
    assert loaded.id != POLICY.id


def test_a_hand_edit_that_loses_a_slot_is_refused_by_name(tmp_path: Path) -> None:
    path = save_policy(POLICY, tmp_path)
    edit(path, "Help ⟦customer⟧ politely", "Help politely")
    with pytest.raises(DataError, match=r"policy\.yaml.*'support:system'.*slot ⟦customer⟧ appears 0 times"):
        load_policy(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format: 1", "format: 2", r"format 2 is not known; this release reads format 1"),
        ("format: 1\n", "", r"has no 'format'"),
        ("format: 1", "format: [1", r"not valid YAML"),
        ("agent: support", "agent: 42", r"prompts\[0\]\.agent: expected `str`, got `int`\. Put the value in quotes"),
        ("kind: system", "kind: sistem", r"prompts\[0\]\.kind: invalid enum value 'sistem'"),
        ("  original:", "  orginal:", r"orginal`\. Did you mean 'original'\?"),
    ],
)
def test_a_broken_file_names_the_file_and_the_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = save_policy(POLICY, tmp_path)
    edit(path, old, new)
    with pytest.raises(DataError, match=message) as caught:
        load_policy(tmp_path)
    assert str(path) in str(caught.value)


def test_a_site_that_appears_twice_is_refused(tmp_path: Path) -> None:
    path = save_policy(POLICY, tmp_path)
    content = yaml.safe_load(path.read_bytes())
    path.write_text(yaml.safe_dump(content | {"prompts": content["prompts"] * 2}), encoding="utf-8")
    with pytest.raises(DataError, match="appears twice"):
        load_policy(path)


def test_a_missing_policy_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no policy at .*policy\.yaml"):
        load_policy(tmp_path)


def test_a_prompt_without_its_site_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the site itself"):
        save_policy(Policy(prompts={"lost": "text"}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sites_whose_names_clash_as_files_get_a_copy_each(tmp_path: Path) -> None:
    policy = Policy()
    for site_id in ("a/b", "a:b", "A b", "../.."):
        policy = policy.with_prompt(PromptSite(site_id, "agent", "system", "old"), f"new for {site_id}")
    save_policy(policy, tmp_path)
    copies = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "prompts").iterdir()}
    assert copies == {
        "a-b.txt": "new for a/b",
        "a-b-2.txt": "new for a:b",
        "A-b-3.txt": "new for A b",
        "prompt.txt": "new for ../..",
    }
    assert load_policy(tmp_path) == policy


def test_saving_again_removes_the_copies_of_the_earlier_save_and_nothing_else(tmp_path: Path) -> None:
    save_policy(POLICY, tmp_path)
    (tmp_path / "prompts" / "mine.txt").write_text("keep", encoding="utf-8")
    save_policy(Policy(), tmp_path)
    assert [file.name for file in (tmp_path / "prompts").iterdir()] == ["mine.txt"]


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = save_policy(POLICY, tmp_path)
    before = path.read_bytes()
    unwritable = Policy(models={"agent": "x"}, sampling={"agent": {"stop": object()}})
    with pytest.raises(TypeError):
        save_policy(unwritable, tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
