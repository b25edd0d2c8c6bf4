"""Which text is a secret, and which only looks a little like one. The keys here are made up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.redaction import _RULES, names_secret, redact  # pyright: ignore[reportPrivateUsage]

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my key is sk-proj-abcDEF1234567890abcd, use it", "my key is [secret], use it"),
        ("sk-ant-api03-AbCdEf0123456789_-xyz", "[secret]"),
        ("OPENAI_API_KEY=sk-0123456789abcdef0123", "OPENAI_API_KEY=[secret]"),
        ("AKIAIOSFODNN7EXAMPLE and AIza" + "a1" * 17 + "b", "[secret] and [secret]"),
        ("ghp_" + "a1B2" * 9, "[secret]"),
        ("hf_" + "aB3d" * 8 + " xoxb-1234567890-abcdef", "[secret] [secret]"),
        (f"token {JWT}.", "token [secret]."),
        ("Bearer abc.def-123", "Bearer [secret]"),
        ("curl -H 'Authorization: Bearer abc123def456'", "curl -H 'Authorization: [secret]'"),
        ("Authorization: Basic dXNlcjpwYXNz\nAccept: */*", "Authorization: [secret]\nAccept: */*"),
        ('{"authorization": "Token s3cr3t", "x": 1}', '{"authorization": "[secret]", "x": 1}'),
        ('{\\"Authorization\\": \\"Bearer abcdef123456\\"}', '{\\"Authorization\\": \\"[secret]\\"}'),
        ("?api_key=0123456789abcdef&q=1", "?api_key=[secret]&q=1"),
        ("client_secret: 'abcdef-123456'", "client_secret: '[secret]'"),
    ],
)
def test_a_secret_is_taken_out_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The task-force met; see task-management-and-planning-2024 and a disk-encryption-at-rest-policy.",
        "The bearer of this letter holds bearer shares and bearer certificates.",
        "Write a function that takes an api_key: str and an access_token: Optional[str].",
        "Authorization is required. Ask for authorization first.",
        "skiing, sk-8 boards, 4111 apples, eyJust kidding",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("field", ["Authorization", "api_key", "x-api-key", "apiKey", "access_token", "password"])
def test_a_field_may_say_that_it_holds_a_secret(field: str) -> None:
    assert names_secret(field)


@pytest.mark.parametrize("field", ["author", "keys", "max_tokens", "token", "authorization_url", "content"])
def test_other_fields_do_not(field: str) -> None:
    assert not names_secret(field)


pieces = st.sampled_from(
    ["sk-", "Bearer ", "authorization", ": ", "=", '"', "\\", " ", "api_key", "0123456789abcdef", "x", "[secret]", JWT]
)
signals = st.sampled_from(
    "sk-|SK-|sk_live_|rk_test_|AKIA|asia|AIza|glpat-|xoxb-|XOXP-|hf_|gsk_|r8_|eyJ|ghp_|ghs_|github_pat_|Authorization|"
    "AUTHORIZATION|bearer |API-Key|apikey|accessToken|CLIENT_SECRET|auth-token|=|: | |\n|a1B2c3D4e5F6a7B8".split("|")
)


@given(st.lists(pieces | st.text(max_size=5), max_size=12).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.lists(signals | st.text(max_size=3), max_size=8).map("".join))
def test_looking_for_hints_first_overlooks_nothing(text: str) -> None:
    changed = text
    for rule in _RULES:
        changed = rule.pattern.sub(rule.replacement, changed)
    assert (redact(text) == text) == (changed == text)


@pytest.mark.parametrize("piece", ["a ", "bearer ", "api_key=", "authorization: ", "sk-", "eyJaaaaaaaa.", "Bearer a"])
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    started = time.perf_counter()
    redact(piece * (400_000 // len(piece)))
    assert time.perf_counter() - started < 3
