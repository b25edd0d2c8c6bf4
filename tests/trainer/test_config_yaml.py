"""YAML as people type and paste it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.errors import ConfigError
from agentlightning.trainer.config_yaml import parse_scalar, parse_yaml, reindent

NBSP = "\u00a0"

DAMAGED = """\
agent:
 type: "autogen" # the framework

algorithm:
 - name: "apo"
  params:
   max_prompt_length: 500 # characters
 - name: "rl"
  params:
   reward_function: "task_success_rate"
   policy_lr: 0.001

trainer:
 max_epochs: 5
"""

REPAIRED_BLOCK = """\
    algorithm:
      - name: "apo"
        params:
          max_prompt_length: 500 # characters
      - name: "rl"
        params:
          reward_function: "task_success_rate"
          policy_lr: 0.001"""


def value(text: str):
    return parse_yaml(text, "x.yaml")[0]


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    return str(caught.value)


@pytest.mark.parametrize("text", [DAMAGED, DAMAGED.replace(" ", NBSP), DAMAGED.replace("  params", " params")])
def test_the_articles_damaged_indentation_is_shown_the_corrected_block(text: str):
    first, _, block = message(text).partition("\n")
    assert first.startswith("x.yaml line 6: the indentation does not fit the lines above.")
    assert block == REPAIRED_BLOCK


def test_the_corrected_block_is_what_was_meant():
    assert value(reindent(DAMAGED))["algorithm"][1] == {
        "name": "rl",
        "params": {"reward_function": "task_success_rate", "policy_lr": 0.001},
    }


def test_reindenting_what_is_right_changes_nothing_it_means():
    text = "a:\n- b: 1\n  c:\n     - d\n     - e: 1\n       f: 2\ng:\n    h: 1\n"
    assert value(reindent(text)) == value(text)


def test_non_breaking_spaces_count_as_spaces_outside_quotes():
    text = f"a:\n{NBSP}{NBSP}b:{NBSP}5{NBSP}# don't{NBSP}mind\n\u3000 c: {NBSP}\"x{NBSP}y\"\n  d: 'x{NBSP}y'\n"
    assert value(text) == {"a": {"b": 5, "c": f"x{NBSP}y", "d": f"x{NBSP}y"}}


def test_a_quote_in_a_comment_hides_no_space():
    assert value(f'a: 1 # 5" wide\nb:{NBSP}2 # 3" high\n') == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5), ("-5", -5), ("010", 10), ("0x1F", 31), ("0o17", 15), ("1e-5", 1e-5), ("1.5", 1.5), (".5", 0.5),
        ("3E4", 3e4), ("-.INF", -math.inf), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("12:30", "12:30"), ("2024-05-01", "2024-05-01"),
        ("1_000", "1_000"), ("[a, 1]", ["a", 1]), ("{a: b}", {"a": "b"}), ("'5'", "5"), ("none", "none"),
        ("file.py:f", "file.py:f"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, expected: object):
    assert parse_scalar(text, "x") == expected
    assert type(parse_scalar(text, "x")) is type(expected)


@given(st.floats(allow_nan=False))
def test_any_number_python_writes_is_read_back(number: float):
    text = repr(number).replace("inf", ".inf")
    assert parse_scalar(text, "x") == number


def test_every_key_and_item_has_its_line():
    lines = parse_yaml("a:\n  b: 1\nc:\n  - d\n  - e: 1\n    f: 2\n", "x.yaml")[1]
    assert lines == {
        ("a",): 1, ("a", "b"): 2, ("c",): 3, ("c", 0): 4, ("c", 1): 5, ("c", 1, "e"): 5, ("c", 1, "f"): 6,
    }  # fmt: skip


def test_anchors_and_merge_keys_work():
    assert value("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml line 3: 'a' stands twice (first on line 1). Keep one of them."),
        ("a:\n\tb: 1", "x.yaml line 2: indented with a tab, which YAML does not allow. Use two spaces instead."),
        ("a:\n  b\uff1a5\n  c: 1", "x.yaml line 2: a full-width colon '\uff1a' stands after the key."),
        ("a: 1\n  b: 2", "x.yaml line 2: this is not YAML: 'b: 2' (mapping values are not allowed here)."),
        ('a: "open', "x.yaml line 1: this is not YAML: 'a: \"open'"),
        ("1: x", "x.yaml line 1: a key must be text, found '1'. Put it in quotes."),
        ("[a]: x", "x.yaml line 1: a key must be text, found a list or mapping."),
        ("a: &a [*a]", "x.yaml line 1: an anchor contains itself."),
        ("a: !!python/object:os.system x", "x.yaml line 1: this is not YAML"),
        ("a: 1\n---\nb: 2", "x.yaml line 2: this is not YAML"),
        ("a: \x00", "x.yaml line 1: this is not YAML"),
    ],
)
def test_broken_yaml_is_told_where_and_what_to_do(text: str, expected: str):
    assert message(text).startswith(expected)


@given(st.text(alphabet="ab:-#\x00 \n'\"[]{},|>&*\u00a0\t", max_size=60))
def test_any_text_is_read_or_refused_with_our_own_error(text: str):
    try:
        parse_yaml(text, "x.yaml")
    except ConfigError as error:
        assert str(error).startswith("x.yaml")
