"""Masking: no form of a secret leaves; streams equal the whole; the journal's sentinels come back byte for byte."""

from __future__ import annotations

import base64
import html
import json
import shlex
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.language.masking import MASK, Masker, forms, show

TOKEN = "s3cr&t'\"<key>/é\\ñ+x"

secrets = st.text(st.characters(blacklist_categories=["Cs"]), min_size=4, max_size=24)
noise = st.text(max_size=12)


def written(secret: str) -> list[str]:
    """How programs write a secret: what must never be seen."""
    once = json.dumps(secret)[1:-1]
    return [
        secret,
        once,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(once)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        urlencode({"q": secret})[2:],
        shlex.quote(secret),
        html.escape(secret),
        html.escape(secret, quote=False),
    ]


def test_nothing_costs_nothing() -> None:
    masker = Masker({"empty": ""})
    data = b"anything"
    assert not masker
    assert masker.mask(data) is data
    assert masker.seal(data) is data
    assert masker.mask_text("x") == "x"
    assert masker.stream().feed("x") == "x"


@settings(max_examples=100, deadline=None)
@given(secret=secrets, before=noise, after=noise)
def test_every_form_of_a_secret_is_masked(secret: str, before: str, after: str) -> None:
    masker = Masker({"token": secret})
    for form in written(secret):
        masked = masker.mask_text(f"{before}{form}{after}")
        assert MASK in masked
        assert len(form) < 4 or form not in masked or form in MASK + before + after


@settings(max_examples=100, deadline=None)
@given(secret=secrets, before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_at_any_offset_is_masked(secret: str, before: bytes, after: bytes) -> None:
    masker = Masker({"token": secret})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + secret.encode() + after).decode()
        masked = masker.mask_text(text)
        assert MASK in masked
        # What is left of the secret are parts of letters at its two ends.
        left, _, right = masked.partition(MASK)
        assert len(left) <= 4 * len(before) // 3 + 2
        assert len(right) <= 4 * len(after) // 3 + 6


def test_each_long_line_of_a_secret_is_masked_by_itself() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nshort\nhkiG9w0BAQEFAASC\n-----END KEY-----"
    masker = Masker({"key": key})
    assert masker.mask_text("> MIIEvQIBADANBgkq <") == "> *** <"
    assert masker.mask_text("short") == "short"
    assert masker.mask_text(key) == MASK
    assert masker.mask(json.dumps({"k": key}).encode()) == b'{"k": "***"}'


def test_of_two_secrets_the_longer_one_is_taken() -> None:
    masker = Masker({"a": "abcd", "b": "abcdef"})
    assert masker.mask_text("abcdef abcde") == "*** ***e"


def test_a_short_secret_is_masked_only_as_a_whole_value() -> None:
    masker = Masker({"pin": "ab", "token": "longer"})
    assert masker.mask_value({"ab": ["ab", "xab", 3, None, "is longer"]}) == {MASK: [MASK, "xab", 3, None, "is ***"]}
    assert masker.mask(b'{"a":"ab","b":"xab"}') == b'{"a":"***","b":"xab"}'
    assert masker.unseal(masker.seal(b'["ab","xab"]')) == b'["ab","xab"]'


@pytest.mark.parametrize("secret", ["2024", "true", '"},{"', "1.5e", '":"a', "null", "[[[[", "false,"])
def test_json_stays_json_whatever_the_secret_is(secret: str) -> None:
    masker = Masker({"odd": secret})
    value: Any = {"a": secret, "n": 2024, "t": [True, None, 120243, 1.5e3], "b": "a", secret: "c"}
    line = json.dumps(value).encode()
    for data in (line, line + b"\n" + line + b"\n"):
        for masked in (masker.mask(data), masker.seal(data)):
            for one in masked.splitlines():
                read = json.loads(one)
                assert secret not in [read["a"], *read]
                assert read["n"] == 2024
        assert masker.unseal(masker.seal(data)) == data


def test_odd_secrets_are_masked_in_plain_text_too() -> None:
    assert Masker({"pin": "2024"}).mask(b"pin=2024\nx 2024") == b"pin=***\nx ***"


# -- streams -----------------------------------------------------------------------------------------------------------

pieces = st.lists(st.sampled_from(["a", "b", "ab", "abc", "ba", "cab", "x", "abcab", "\n", "abca"]), max_size=14)


@settings(max_examples=150, deadline=None)
@given(pieces=pieces, secrets=st.lists(st.text("abc", min_size=4, max_size=7), min_size=1, max_size=3))
def test_a_stream_masks_what_the_whole_text_would(pieces: list[str], secrets: list[str]) -> None:
    masker = Masker({f"s{index}": secret for index, secret in enumerate(secrets)})
    stream = masker.stream()
    out = "".join([*(stream.feed(piece) for piece in pieces), stream.close()])
    assert out == masker.mask_text("".join(pieces))


def test_a_stream_keeps_back_only_what_may_become_a_secret() -> None:
    stream = Masker({"t": "topsecret"}).stream()
    assert stream.feed("hello top") == "hello "
    assert stream.feed("ic") == "topic"
    assert stream.feed(" tops") == " "
    assert stream.feed("ecret!") == "***!"
    assert stream.feed("to") == ""
    assert stream.close() == "to"
    assert stream.close() == ""


# -- the journal -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    secret=secrets,
    parts=st.lists(st.sampled_from(range(11)) | noise | st.sampled_from(["\ue000", "\ue001", ":"]), max_size=8),
)
def test_what_was_sealed_comes_back_byte_for_byte(secret: str, parts: list[int | str]) -> None:
    masker = Masker({"token": secret, "other": "swordfish"})
    forms_ = written(secret)
    data = "".join(forms_[part] if isinstance(part, int) else part for part in parts).encode("utf-8", "surrogatepass")
    sealed = masker.seal(data)
    if not any(character in '0123456789+-.eEtruefalsn[]{},: \t\n"' for character in secret):
        assert secret.encode() not in sealed or secret.encode() in "\ue000token:other\ue001".encode()
    assert masker.unseal(sealed) == data


def test_people_see_stars_for_what_was_sealed_without_the_secret() -> None:
    masker = Masker({"token": TOKEN})
    sealed = masker.seal(json.dumps({"a": TOKEN, "b": "\ue000"}, ensure_ascii=False).encode())
    assert TOKEN.encode() not in sealed
    assert show(sealed).decode() == '{"a": "***", "b": "\ue000"}'


def test_a_sentinel_printed_by_a_tool_brings_no_secret() -> None:
    masker = Masker({"token": TOKEN})
    forged = "\ue000token:raw\ue001".encode()
    assert masker.unseal(masker.seal(forged)) == forged


def test_another_value_of_the_secret_takes_the_same_form() -> None:
    sealed = Masker({"token": "old value"}).seal(quote("old value").encode())
    assert Masker({"token": "new value"}).unseal(sealed) == b"new%20value"
    assert Masker({"unrelated": "new value"}).unseal(sealed) == sealed


def test_the_forms_are_few_for_a_plain_secret() -> None:
    assert len(set(forms("abcdefgh12345678").values())) <= 5
