"""Names of models, whose key goes where, and what a token costs."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.errors import DefinitionError
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.models import KEY, Models, is_loopback
from vrooli_cli.tier3.ai.prices import Price, Usage, flat, listed_price
from vrooli_cli.tier3.ai.remembered import Cassette
from vrooli_cli.tier3.ai.scripted import ScriptedAI

FAR = "https://models.example.com/v1"


def test_the_default_model_is_the_option_then_the_environment_then_the_file_then_ours() -> None:
    file: dict[str, Any] = {"default": {"model": "from-file"}}
    environ = {"VROOLI_MODEL": "from-environment"}
    option = Models(file, environ, default="from-option", allow_unpriced=True)
    assert option.targets()[0].model == "from-option"
    assert Models(file, environ, allow_unpriced=True).targets()[0].model == "from-environment"
    assert Models(file, allow_unpriced=True).targets()[0].model == "from-file"
    assert Models().targets()[0].model == "gpt-4o-mini"


def test_fallbacks_follow_a_name_each_once_and_in_order() -> None:
    models = Models({"a": {"model": "x", "fallback": ["b", "c"]}, "b": {"model": "y", "fallback": ["a", "d"]}})
    assert models.names(["a", "e"]) == ("a", "b", "d", "c", "e")


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"model": "m", "base_url": FAR, "price": {"input": 1, "output": 1}}, "needs its own api_key_env"),
        (
            {"model": "m", "base_url": FAR, "api_key_env": KEY, "price": {"input": 1, "output": 1}},
            "would send OPENAI_API_KEY to models.example.com",
        ),
        ({"model": "m", "base_url": FAR, "api_key_env": "MINE"}, "the price of the model 'x'"),
        ({"model": "m", "base_url": "ftp://x"}, "must be an http or https address"),
        ({"model": "m", "base_url": "http://[::1"}, "must be an http or https address"),
    ],
)
def test_a_definition_that_leaks_a_key_or_has_no_price_is_refused(definition: dict[str, Any], words: str) -> None:
    models = Models({"x": definition}, {KEY: "sk-ambient"})
    (problem,) = models.check([(("x",), ("steps", 0, "model"))])
    assert words in problem.message and problem.pointer == ("steps", 0, "model")
    with pytest.raises(DefinitionError):
        models.targets(["x"])


def test_the_ambient_key_is_sent_where_it_belongs() -> None:
    environ = {KEY: "sk-ambient", "MINE": "sk-mine", "OPENAI_BASE_URL": "https://gateway.example.com/v1"}
    free = {"price": {"input": 0, "output": 0}}
    definitions: dict[str, dict[str, Any]] = {
        "same": {"model": "m", "base_url": "https://gateway.example.com:443/other", **free},
        "own": {"model": "m", "base_url": FAR, "api_key_env": "MINE", **free},
        "none": {"model": "m", "base_url": FAR, "api_key_env": None, **free},
        "local": {"model": "m", "base_url": "http://127.0.0.2:1/v1"},
        "plain": {"model": "m", **free},
    }
    models = Models(definitions, environ)
    keys = {name: models.targets([name])[0].key for name in ("same", "own", "none", "local", "plain")}
    assert keys == {"same": "sk-ambient", "own": "sk-mine", "none": None, "local": None, "plain": "sk-ambient"}
    assert "sk-" not in repr(models.targets(["own", "plain"]))


def test_a_missing_key_is_one_line_that_says_what_to_set() -> None:
    error = Models().missing([()])
    assert error is not None and error.code == "AI_UNAVAILABLE" and "set OPENAI_API_KEY" in error.message
    local: dict[str, Any] = {
        "default": {"model": "x", "fallback": ["l"]},
        "l": {"model": "l", "base_url": "http://localhost/v1"},
    }
    assert Models(local, allow_unpriced=True).missing([()]) is None


def test_keys_and_prices_do_not_matter_when_no_endpoint_is_asked(tmp_path: Any) -> None:
    definitions = {"default": {"model": "m", "base_url": FAR, "api_key_env": "MINE"}}
    used = [((), ("steps", 0))]
    live = AIServiceManager().bind(definitions)
    assert live.check(used) and AIServiceManager(allow_unpriced=True).bind(definitions).missing([()]) is not None
    path = tmp_path / "c.yaml"
    path.write_text("cassette: 1\nexchanges: []\n")
    for manager in (AIServiceManager(ScriptedAI([])), AIServiceManager(cassette=Cassette.replay(path))):
        assert not manager.bind(definitions).check(used) and manager.bind(definitions).missing([()]) is None


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:1/v1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8/v1", True),
        ("http://a.localhost", True),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1@example.com/", False),
        ("http://0.0.0.0", False),
        ("nonsense", False),
    ],
)
def test_loopback_is_this_machine_only(url: str, local: bool) -> None:
    assert is_loopback(url) is local


def test_the_kept_price_list_knows_models_by_endpoint_and_by_provider() -> None:
    mini = listed_price("gpt-4o-mini", provider=None, base_url="https://api.openai.com/v1")
    assert mini is not None and mini.credits(Usage(1_000_000, 0)) == 150_000
    assert mini.credits(Usage(1_000_000, 0, 1_000_000)) == 75_000
    assert listed_price("gpt-4o-mini", provider=None, base_url=FAR) is None
    assert listed_price("no-such-model-at-all", provider="openai", base_url=FAR) is None


def test_a_written_price_needs_no_price_list() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "genai_prices"]:
        del sys.modules[name]
    Models({"x": {"model": "m", "price": {"input": 0.15, "output": 0.6}}}).targets(["x"])[0].price.credits(Usage(1, 1))
    assert "genai_prices" not in sys.modules


def test_the_cost_of_a_step_is_known_before_it_runs() -> None:
    definitions = {"default": {"model": "m", "price": {"input": 1, "output": 2}}}
    bound = AIServiceManager().bind(definitions)
    assert bound.cost(400, max_tokens=100) == (100, 400 + 200)
    assert bound.cost(400, max_tokens=100, asks=3)[1] == 600 + 1000 + 1400


RATES = st.fractions(0, 100)


@given(RATES, RATES, st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_what_fits_never_costs_more_than_was_granted(
    given_rate: Fraction, made_rate: Fraction, credits: int, size: int, made: int
) -> None:
    price = Price(((0, given_rate),), ((0, made_rate), (5_000, made_rate * 2)), flat("0.5"))
    fits = price.fitting(credits, size)
    if fits:
        assert price.worst(size, min(fits, 10**6)) <= credits
    elif price.worst(size, 0) <= credits:
        assert price.worst(size, 1) > credits
    usage = Usage(size, made, min(made, size))
    assert price.credits(usage) <= price.worst(size, made)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 4, "cached_input_tokens": 9}, Usage(3, 4, 3)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, 4, 2)),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": "3", "completion_tokens": 4}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ("usage", None),
    ],
)
def test_usage_is_read_when_both_counts_are_there(raw: Any, usage: Usage | None) -> None:
    assert Usage.read(raw) == usage
