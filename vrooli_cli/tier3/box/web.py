"""``http``: one request over httpx, redirects one by one through the gate."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vrooli_cli.errors import ToolError
from vrooli_cli.language.values import text_of
from vrooli_cli.model.run import Effects
from vrooli_cli.tier3.box.schemas import anything, integer, schema, text, texts
from vrooli_cli.tier3.registry import Tool, ToolContext

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_BYTES: Final = 16 << 20
MAX_REDIRECTS: Final = 10
_TAIL: Final = 2_048  # characters of the body that an error keeps
_CONNECT: Final = 30.0  # seconds
_SILENCE: Final = 300.0  # seconds without a byte, for steps without a time-out
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file")


async def _http(params: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    expected = params.get("expect_status")
    if isinstance(expected, int):
        expected = [expected]
    with_body = _body(params)
    client = await _client(context, params["url"], context.call.admission.addresses)
    async with _told(params) as told:
        request = _request(client, params, with_body, context)
        for _ in range(MAX_REDIRECTS + 1):
            response = await client.send(request, stream=True)
            following = response.next_request
            if following is None or (expected and response.status_code in expected):
                return await _answer(response, params, expected, told)
            await response.aclose()
            url = str(following.url)
            admission = await context.admit({**params, "url": url, "method": following.method, "query": {}})
            client = await _client(context, url, admission.addresses)
            request = following
    message = f"{told} was sent on more than {MAX_REDIRECTS} times"
    raise ToolError(message, context={"status": response.status_code})


# --- asking ----------------------------------------------------------------------------------------------------------


def _body(params: Mapping[str, Any]) -> dict[str, Any]:
    """The body in httpx's words, with the headers that belong to it."""
    given = [name for name in ("json", "body", "form") if name in params]
    if len(given) > 1:
        message = f"http: give one of json, body and form, not {' and '.join(given)}"
        raise ToolError(message, code="PARAMETER_INVALID", retryable=False)
    if "json" in params:
        data = json.dumps(params["json"], ensure_ascii=False, default=dict).encode("utf-8", "replace")
        return {"content": data, "headers": {"content-type": "application/json"}}
    if "form" in params:
        return {"data": {name: _texts(value) for name, value in params["form"].items()}, "headers": {}}
    if "body" in params:
        return {"content": text_of(params["body"]).encode("utf-8", "replace"), "headers": {}}
    return {"headers": {}}


def _texts(value: Any) -> str | list[str]:
    return [text_of(one) for one in value] if isinstance(value, list) else text_of(value)


def _request(
    client: httpx.AsyncClient, params: Mapping[str, Any], body: dict[str, Any], context: ToolContext
) -> httpx.Request:
    import httpx

    left = context.seconds_left
    url = httpx.URL(params["url"])
    if url.scheme not in ("http", "https") or not url.host:
        message = f"http: {params['url']!r:.100} is not a URL that begins with http:// or https://"
        raise ToolError(message, code="PARAMETER_INVALID", retryable=False)
    if params.get("query"):
        url = url.copy_merge_params({name: _texts(value) for name, value in params["query"].items()})
    given = {name.lower(): text_of(one) for name, one in params.get("headers", {}).items()}
    for name, one in given.items():
        if any(char in name + one for char in "\r\n\0"):
            message = f"http: the header {name!r} holds a line break or NUL; a header is one line"
            raise ToolError(message, code="PARAMETER_INVALID", retryable=False)
    headers = {**context.trace, **body.pop("headers"), **given}
    silence = _SILENCE if left is None else max(left, 0.001)
    timeout = httpx.Timeout(silence, connect=min(_CONNECT, silence), pool=None)
    return client.build_request(_method(params), url, headers=headers, timeout=timeout, **body)


def _method(params: Mapping[str, Any]) -> str:
    return str(params.get("method", "GET")).upper()


async def _client(context: ToolContext, url: str, addresses: Mapping[str, tuple[str, ...]]) -> httpx.AsyncClient:
    """The run's client; one of its own for a host whose addresses the rules have been checked with.

    Connections are kept by host and port, so a client that may connect only *there* must not be shared.
    """
    environment = {name.lower(): value for name, value in context.scope.env.items() if name.lower() in _PROXIES}
    host, pinned = next(iter(addresses.items()), ("", ()))
    key = f"http {sorted(environment.items())} {host} {pinned}"
    client: httpx.AsyncClient = await context.shared(key, lambda: _new_client(environment, pinned))
    return client


def _new_client(environment: Mapping[str, str], addresses: tuple[str, ...]) -> httpx.AsyncClient:
    """A client that trusts nothing of vrooli's own environment, only what the routine's ``env:`` names."""
    import httpx

    trusted = _trusted(environment.get("ssl_cert_file"))
    direct: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(verify=trusted, trust_env=False)
    if addresses:
        direct = pinned_transport(direct, addresses)
    return httpx.AsyncClient(
        transport=direct,
        mounts=_mounts(environment, trusted),
        trust_env=False,
        headers={"user-agent": "vrooli"},
    )


def _trusted(file: str | None) -> ssl.SSLContext:
    import httpx

    if file is None:
        return httpx.create_ssl_context(trust_env=False)
    import ssl

    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ToolError(f"http: SSL_CERT_FILE {file!r} cannot be read: {error}", retryable=False) from None


def _mounts(environment: Mapping[str, str], trusted: ssl.SSLContext) -> dict[str, httpx.AsyncBaseTransport | None]:
    """Proxies, in the conventional variables and meaning."""
    import httpx

    mounts: dict[str, httpx.AsyncBaseTransport | None] = {}
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy") or environment.get("all_proxy")
        if proxy:
            proxy = proxy if "://" in proxy else f"http://{proxy}"
            mounts[f"{scheme}://"] = httpx.AsyncHTTPTransport(verify=trusted, trust_env=False, proxy=proxy)
    if not mounts:
        return {}
    for name in environment.get("no_proxy", "").split(","):
        host = name.strip().lstrip(".")
        if host == "*":
            return {}
        if host:
            mounts |= {f"all://{host}": None, f"all://*.{host}": None}
    return mounts


def pinned_transport(inner: httpx.AsyncBaseTransport, addresses: tuple[str, ...]) -> httpx.AsyncBaseTransport:
    """A transport that connects to these addresses only, whatever the host's name says by now.

    The name still stands in the Host header, and certificates are checked against it.
    """
    import httpx

    class Pinned(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            for address in addresses[:-1]:
                try:
                    return await inner.handle_async_request(_moved(request, address))
                except httpx.ConnectError:
                    continue
            return await inner.handle_async_request(_moved(request, addresses[-1]))

        async def aclose(self) -> None:
            await inner.aclose()

    return Pinned()


def _moved(request: httpx.Request, address: str) -> httpx.Request:
    import httpx

    extensions = {**request.extensions, "sni_hostname": request.url.host}
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


# --- the answer ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _told(params: Mapping[str, Any]) -> AsyncIterator[str]:
    """Every way in which httpx refuses, as one line; gives the line's beginning, without query and password."""
    import httpx

    try:
        url = httpx.URL(params["url"])
        shown = f"{_method(params)} {url.copy_with(userinfo=None, query=None, fragment=None)}"
    except (httpx.InvalidURL, ValueError) as error:
        message = f"http: {params['url']!r:.100} is not a URL: {error}"
        raise ToolError(message, code="PARAMETER_INVALID", retryable=False) from None
    try:
        yield shown
    except httpx.ConnectTimeout:
        raise ToolError(f"{shown}: no connection within {_CONNECT:g} s") from None
    except httpx.TimeoutException:
        raise ToolError(f"{shown}: the server fell silent") from None
    except httpx.ConnectError as error:
        raise ToolError(f"{shown}: no connection: {_reason(error)}") from None
    except httpx.HTTPError as error:
        raise ToolError(f"{shown}: {_reason(error)}") from None
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ToolError(f"{shown}: {error}", code="PARAMETER_INVALID", retryable=False) from None


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


async def _answer(
    response: httpx.Response, params: Mapping[str, Any], expected: list[int] | None, told: str
) -> dict[str, Any]:
    limit = params.get("max_bytes", MAX_BYTES)
    try:
        data = await _read(response, limit, told)
    finally:
        await response.aclose()
    body = _decoded(data, response)
    status = response.status_code
    if status not in expected if expected else status >= 400:
        wanted = f", expected {' or '.join(str(one) for one in expected)}" if expected else ""
        context = {"status": status, "body": body if len(body) <= _TAIL else f"{body[:_TAIL]}…"}
        raise ToolError(f"{told} answered {status} {response.reason_phrase}".rstrip() + wanted, context=context)
    return {"status": status, "headers": dict(response.headers), "body": body, "json": _json(body, response)}


async def _read(response: httpx.Response, limit: int, told: str) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > limit:
            message = f"{told} answered with more than max_bytes ({limit:,})"
            raise ToolError(message, retryable=False, context={"status": response.status_code, "limit": limit})
    return bytes(data)


def _decoded(data: bytes, response: httpx.Response) -> str:
    try:
        return data.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:  # a charset that nobody knows
        return data.decode("utf-8", "replace")


def _json(body: str, response: httpx.Response) -> Any:
    """The body as data when the server says that it is JSON; null when it is not, whatever it says."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _effects(params: Mapping[str, Any]) -> Effects:
    return "idempotent" if _method(params) in ("GET", "HEAD", "OPTIONS") else "once"


_FIELDS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "number", "boolean", "null", "array"],
        "items": {"type": ["string", "number", "boolean"]},
    },
}
HTTP = Tool(
    name="http",
    description="Makes one HTTP request; fails from status 400 on, unless `expect_status` says otherwise.",
    answers="`{status, headers, body, json}`; `json` is null where the server does not say that it is JSON",
    schema=schema(
        ("url",),
        url=text("Where to, beginning with http:// or https://.", format="uri", minLength=1),
        method=text("GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.", pattern="^[A-Za-z]+$", default="GET"),
        headers=texts("Headers of the request."),
        query={**_FIELDS, "description": "What is added to the URL after `?`; a list gives a name several times."},
        json=anything("The body, as JSON."),
        body=anything("The body, as text."),
        form={**_FIELDS, "description": "The body, as a form."},
        expect_status={
            "type": ["array", "integer"],
            "items": {"type": "integer"},
            "description": "The status, or statuses, that are a success.",
        },
        max_bytes=integer("The longest body to take.", minimum=0, default=MAX_BYTES),
    ),
    execute=_http,
    effects="once",
    effects_of=_effects,
    main="url",
    asks=True,
)
