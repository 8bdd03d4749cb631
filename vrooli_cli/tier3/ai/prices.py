"""What tokens cost, in credits: exact fractions until the one rounding of a call (spec ai.md, "Credits").

One credit is a millionth of a US dollar and prices are in dollars per million tokens, so a price is credits a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from vrooli_cli.model.values import lean

MESSAGE_TOKENS = 16
"""What a message costs beside its text, at the most: role marks and separators."""

Rate = tuple[tuple[int, Fraction], ...]
"""Credits a token by length of the request: ``(from that many input tokens, credits)``, ascending from 0."""


def flat(price: Any) -> Rate:
    """The same price for requests of any length."""
    return ((0, Fraction(str(price))),)


@lean()
class Usage:
    """Tokens of one answer, as the endpoint reports them.

    Attributes:
        input_tokens: Everything that was sent, cached or not.
        output_tokens: Everything that was made, hidden reasoning included.
        cached_input_tokens: The part of ``input_tokens`` that the endpoint still had.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0

    def wire(self) -> dict[str, int]:
        """The plain form."""
        plain = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return plain | ({"cached_input_tokens": self.cached_input_tokens} if self.cached_input_tokens else {})

    @classmethod
    def read(cls, raw: Any) -> Usage | None:
        """From an endpoint's ``usage``, or a script's; None when the two counts are not there."""
        if not isinstance(raw, Mapping):
            return None
        given = _count(raw, "prompt_tokens", "input_tokens")
        made = _count(raw, "completion_tokens", "output_tokens")
        if given is None or made is None:
            return None
        details = raw.get("prompt_tokens_details") or raw.get("input_tokens_details") or raw
        cached = _count(details, "cached_tokens", "cached_input_tokens") if isinstance(details, Mapping) else None
        return cls(given, made, min(cached or 0, given))


def _count(raw: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = raw.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


@lean()
class Price:
    """What a model's tokens cost.

    Attributes:
        known: False for a model that nobody knows a price of (``--allow-unpriced``): it counts as 0.
    """

    input: Rate
    output: Rate
    cached_input: Rate | None = None
    known: bool = True

    def credits(self, usage: Usage) -> int:
        """The cost of an answered call, rounded up once."""
        cached = usage.cached_input_tokens if self.cached_input is not None else 0
        cost = _at(self.input, usage.input_tokens) * (usage.input_tokens - cached)
        cost += _at(self.output, usage.input_tokens) * usage.output_tokens
        if self.cached_input is not None:
            cost += _at(self.cached_input, usage.input_tokens) * cached
        return math.ceil(cost)

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call can cost that sends and receives at most this much."""
        return math.ceil(self._sent(input_tokens) + _most(self.output, input_tokens) * output_tokens)

    def fitting(self, credits: int, input_tokens: int) -> int:
        """The most output tokens with which :meth:`worst` is at most ``credits``; 0 when not even the input fits."""
        each = _most(self.output, input_tokens)
        left = credits - self._sent(input_tokens)
        if left < 0:
            return 0
        return math.floor(left / each) if each else 1 << 31

    def _sent(self, tokens: int) -> Fraction:
        """The dearest that sending this much can be."""
        dearest = max(_most(rate, tokens) for rate in (self.input, self.cached_input or self.input))
        return dearest * tokens

    def low(self, input_tokens: int) -> int:
        """The least that a call can cost that sends this much."""
        return math.ceil(_at(self.input, input_tokens) * input_tokens)


def _at(rate: Rate, tokens: int) -> Fraction:
    found = rate[0][1]
    for start, price in rate:
        if tokens > start:
            found = price
    return found


def _most(rate: Rate, tokens: int) -> Fraction:
    """The dearest price of a request of at most this length."""
    return max(price for start, price in rate if start <= tokens)


FREE = Price(flat(0), flat(0))
UNPRICED = Price(flat(0), flat(0), known=False)


def written_price(raw: Mapping[str, Any]) -> Price:
    """The price of a model's definition: ``{input, output, cached_input}`` in dollars per million tokens."""
    cached = raw.get("cached_input")
    return Price(flat(raw["input"]), flat(raw["output"]), None if cached is None else flat(cached))


def listed_price(model: str, *, provider: str | None, base_url: str) -> Price | None:
    """The price that the kept library knows, by the provider's name or else by the endpoint's address.

    Context: genai-prices takes a third of a second to import, so it is asked only for models without a written price.
    """
    from datetime import UTC, datetime

    from genai_prices import Usage as Asked
    from genai_prices import calc_price

    when = datetime.now(UTC)
    try:
        if provider is not None:
            found = calc_price(Asked(input_tokens=1), model, provider_id=provider, genai_request_timestamp=when)
        else:
            found = calc_price(Asked(input_tokens=1), model, provider_api_url=base_url, genai_request_timestamp=when)
    except (LookupError, ValueError):
        return None
    listed = found.model_price
    given, made = _rate(listed, "input_mtok"), _rate(listed, "output_mtok")
    if given is None or made is None:
        return None
    return Price(given, made, _rate(listed, "cache_read_mtok"))


def _rate(listed: Any, name: str) -> Rate | None:
    raw = getattr(listed, name, None)
    if raw is None:
        return None
    tiers = getattr(raw, "tiers", None)
    if tiers is None:
        return flat(raw)
    steps = [(0, Fraction(str(raw.base)))] + [(int(tier.start), Fraction(str(tier.price))) for tier in tiers]
    return tuple(sorted(steps))
