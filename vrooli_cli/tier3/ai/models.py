"""Names of models in files → where and how they are asked (spec ai.md, "Provider").

Three things make an endpoint: address, key, price list. The *ambient* one is ``OPENAI_BASE_URL`` with
``OPENAI_API_KEY``; its key goes to no other host, whatever a file says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

from vrooli_cli.errors import DefinitionError, Pointer, Problem, Tier, VrooliError
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.prices import FREE, UNPRICED, Price, listed_price, written_price

DEFAULT_MODEL = "gpt-4o-mini"
DEFAULT_URL = "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"
_NOT_SAID = object()


@lean()
class Target:
    """One model at one endpoint, ready to be asked.

    Attributes:
        name: What the file calls it.
        model: What the endpoint calls it.
        key_env: The variable that holds the key; None when the endpoint needs none.
        key: Its value; never shown, compared or logged.
        pricing: Finds the price when it is first needed; a price list takes its time to load.
        ambient: The endpoint is the process's own (organization and project headers go there only).
    """

    name: str
    model: str
    base_url: str
    key_env: str | None = None
    key: str | None = field(default=None, repr=False, compare=False)
    pricing: Callable[[], Price] = field(default=lambda: FREE, repr=False, compare=False)
    stream: bool = True
    ambient: bool = True

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self.pricing()

    @property
    def lane(self) -> tuple[str, str, str]:
        """What shares one rate limit: endpoint, key, model."""
        return self.base_url, self.key_env or "", self.model

    @property
    def place(self) -> str:
        """``host:port`` of the endpoint: nothing in it is secret."""
        url = urlsplit(self.base_url)
        return f"{url.hostname}:{url.port or (80 if url.scheme == 'http' else 443)}"

    @property
    def ready(self) -> bool:
        """False when its key is not set."""
        return self.key_env is None or bool(self.key)


class Models:
    """The models of one routine: its definitions over what the process says.

    Args:
        definitions: Name → ``{model, base_url, api_key_env, price, provider, fallback, stream}`` (loading's form).
        environ: Where keys and ``OPENAI_BASE_URL``, ``VROOLI_MODEL`` are read.
        default: ``--model``: the model of steps that name none.
        allow_unpriced: A model without a known price counts as 0.
    """

    def __init__(
        self,
        definitions: Mapping[str, Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        default: str | None = None,
        allow_unpriced: bool = False,
    ) -> None:
        self._definitions = dict(definitions or {})
        self._environ = environ if environ is not None else {}
        self._default = default or self._environ.get("VROOLI_MODEL") or None
        self._allow_unpriced = allow_unpriced
        self._prices: dict[tuple[str, str | None, str], Price | None] = {}
        self._targets: dict[tuple[str, ...], tuple[Target, ...]] = {}

    def names(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The models that a step's ``model`` means, fallbacks included, each once; ``()`` is ``default``."""
        found: dict[str, None] = {}
        for name in names or ("default",):
            self._follow(name, found)
        return tuple(found)

    def _follow(self, name: str, found: dict[str, None]) -> None:
        if name == "default":
            name = self._default or name
        if name in found:
            return
        found[name] = None
        for other in self._definitions.get(name, {}).get("fallback", ()):
            self._follow(other, found)

    def targets(self, names: Sequence[str] = ()) -> tuple[Target, ...]:
        """Where to ask, in order of fallback; DefinitionError when a definition cannot be used."""
        key = tuple(names)
        if key not in self._targets:
            found = self.names(key)
            problems = [problem for name in found for problem in self._problems(name, ())]
            if problems:
                raise DefinitionError(problems)
            self._targets[key] = tuple(self._target(name) for name in found)
        return self._targets[key]

    def check(self, used: Iterable[tuple[Sequence[str], Pointer]]) -> list[Problem]:
        """What is wrong with the models that steps name: a key that would go to a stranger, a missing price.

        Args:
            used: ``(a step's model names, its place)``.
        """
        problems: dict[str, Problem] = {}
        for names, pointer in used:
            for name in self.names(names):
                for problem in self._problems(name, pointer):
                    problems.setdefault(problem.message, problem)
        return list(problems.values())

    def missing(self, used: Iterable[Sequence[str]]) -> VrooliError | None:
        """``AI_UNAVAILABLE`` when a step has no model whose key is set; None when every step has one."""
        for names in used:
            targets = self.targets(names)
            if not any(target.ready for target in targets):
                return no_key(targets)
        return None

    # --- one model ----------------------------------------------------------------------------------------------------

    @property
    def _ambient_url(self) -> str:
        return (self._environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")

    def _entry(self, name: str) -> Mapping[str, Any]:
        entry = self._definitions.get(name)
        if entry is not None:
            return entry
        return {"model": DEFAULT_MODEL if name == "default" else name}

    def _target(self, name: str) -> Target:
        entry = self._entry(name)
        url = str(entry.get("base_url") or self._ambient_url).rstrip("/")
        key_env = self._key_env(entry)
        model = entry.get("model", name)
        return Target(
            name=model if name == "default" else name,
            model=model,
            base_url=url,
            key_env=key_env,
            key=self._environ.get(key_env) if key_env else None,
            pricing=lambda: self._price(entry, model, url) or UNPRICED,
            stream=entry.get("stream", True),
            ambient=_origin(url) == _origin(self._ambient_url),
        )

    def _key_env(self, entry: Mapping[str, Any]) -> str | None:
        said = entry.get("api_key_env", _NOT_SAID)
        if said is not _NOT_SAID:
            return said or None
        url = entry.get("base_url")
        if url is None or _origin(url) == _origin(self._ambient_url):
            return None if is_loopback(self._ambient_url) and not self._environ.get(KEY) else KEY
        return None

    def _price(self, entry: Mapping[str, Any], model: str, url: str) -> Price | None:
        if "price" in entry:
            return written_price(entry["price"])
        provider = entry.get("provider")
        key = (model, provider, url)
        if key not in self._prices:
            local = is_loopback(url)
            listed = None if local and provider is None else listed_price(model, provider=provider, base_url=url)
            self._prices[key] = listed or (FREE if local else None)
        return self._prices[key]

    def _problems(self, name: str, pointer: Pointer) -> Iterator[Problem]:
        entry = self._entry(name)
        url = entry.get("base_url")
        if url is not None and not _is_http(url):
            yield Problem(pointer, f"the model {name!r}: base_url must be an http or https address, not {url!r}")
            return
        yield from self._key_problems(name, entry, pointer)
        model, url = entry.get("model", name), str(url or self._ambient_url).rstrip("/")
        if not self._allow_unpriced and self._price(entry, model, url) is None:
            message = f"the price of the model {name!r} ({model} at {host_of(url)}) is not known"
            yield Problem(pointer, message, "give it `price: {input, output}`, or pass --allow-unpriced")

    def _key_problems(self, name: str, entry: Mapping[str, Any], pointer: Pointer) -> Iterator[Problem]:
        url = entry.get("base_url")
        if url is None or is_loopback(url) or _origin(url) == _origin(self._ambient_url):
            return
        if "api_key_env" not in entry:
            message = f"the model {name!r} has its own base_url, so it needs its own api_key_env (null for none)"
            yield Problem(pointer, message, f"{KEY} is sent to {host_of(self._ambient_url)} only")
        elif entry["api_key_env"] == KEY:
            message = f"the model {name!r} would send {KEY} to {host_of(url)}"
            yield Problem(pointer, message, f"that key belongs to {host_of(self._ambient_url)}; name another variable")


def no_key(targets: Sequence[Target], tier: Tier | None = None) -> VrooliError:
    """What to set when none of these can be asked; ``tier`` when a step was at work already."""
    wanted = dict.fromkeys(target.key_env for target in targets if target.key_env)
    keys = " or ".join(wanted)
    names = ", ".join(target.name for target in targets)
    message = f"no key for the model {names}: set {keys}, or replay a recording with --replay FILE"
    return VrooliError(message, code="AI_UNAVAILABLE", tier=tier, context={"retryable": False})


def is_loopback(url: str) -> bool:
    """True for an address of this machine."""
    host = (_split(url)[1] or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Host and port for people."""
    _, host, port = _split(url)
    return f"{host}:{port}" if host and port else host or url


def _split(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return "", None, None


def _is_http(url: str) -> bool:
    scheme, host, _ = _split(url)
    return scheme in ("http", "https") and bool(host)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    scheme, host, port = _split(url)
    return scheme, host, port or {"http": 80, "https": 443}.get(scheme)
