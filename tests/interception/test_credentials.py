"""What proves the caller is found wherever it stands; ordinary words stay."""

from __future__ import annotations

import pytest

from agentlightning.interception.credentials import credentials, without

URL = "https://h/v1/chat/completions"


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer sk-1234567890"),
        ("api-key", "sk-1234567890"),
        (b"X-Goog-Api-Key", b"sk-1234567890"),
        ("Cookie", "a=b; session=sk-1234567890"),
        ("Authorization", "Basic sk-1234567890=="),
    ],
)
def test_a_key_in_a_header_is_found(header: tuple[str, str]) -> None:
    assert b"sk-1234567890" in credentials(dict([header]), URL)


@pytest.mark.parametrize(
    "query", ["key=sk-1234567890", "a=1&access_token=sk-1234567890", "sig=sk-1234567890", "code=sk-1234567890"]
)
def test_a_key_in_the_query_is_found(query: str) -> None:
    assert b"sk-1234567890" in credentials({}, f"{URL}?{query}")


def test_a_user_and_a_password_in_the_address_are_found_in_both_spellings() -> None:
    assert {b"us/er-123", b"us%2Fer-123", b"s3cr3t-pw"} <= set(credentials({}, "https://us%2Fer-123:s3cr3t-pw@h/v1"))


def test_what_is_no_credential_stays() -> None:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 3.54.0",
        "Authorization": "Bearer anything",
    }
    assert credentials(headers, f"{URL}?api-version=2024-10-21") == []


def test_the_longer_of_two_overlapping_secrets_goes_first() -> None:
    secrets = credentials({"api-key": "abcdefgh1", "token": "abcdefgh1-longer"}, URL)
    assert without(secrets, b"abcdefgh1-longer abcdefgh1") == b"[secret] [secret]"
