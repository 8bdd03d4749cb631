"""The transport to OpenAI-compatible endpoints; the only importer of the ``openai`` SDK, on first use.

The SDK's retries are off (:mod:`.live` repeats, nobody else) and so are redirects: a key and a prompt go where the
file said and nowhere else. Exceptions of the SDK, and what escapes it raw, become :class:`~.faults.Fault` here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

from vrooli_cli.tier3.ai.faults import Fault, fault_of_status
from vrooli_cli.tier3.ai.governor import Governor
from vrooli_cli.tier3.ai.live import LiveService
from vrooli_cli.tier3.ai.models import Target, host_of, is_loopback
from vrooli_cli.tier3.ai.wire import BROKEN_FINISHES, Assembly

# The request was never on the wire; the names are the same in every version of the SDK's HTTP client.
_NEVER_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"})
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]*>")
_SHOWN: Final = 300  # characters of what an endpoint says
_MOST: Final = 32 << 20  # characters of one answer


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of patience.

    Attributes:
        connect: Until there is a connection.
        first: Until the first piece of an answer; models that think first say nothing for minutes.
        stall: Between two pieces.
        whole: For an answer that is not streamed.
    """

    connect: float = 10.0
    first: float = 300.0
    stall: float = 90.0
    whole: float = 900.0


class OpenAIService(LiveService):
    """Models behind OpenAI-compatible endpoints.

    Args:
        governor: Shared by everything that uses the same endpoints.
        timeouts: Patience.
    """

    def __init__(self, governor: Governor | None = None, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(OpenAITransport(timeouts), governor)


class OpenAITransport:
    """One client an endpoint and key, made on first use and kept until :meth:`aclose`."""

    def __init__(self, timeouts: Timeouts = Timeouts()) -> None:
        self._timeouts = timeouts
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._making: dict[tuple[str, str | None], asyncio.Future[None]] = {}

    async def ready(self, target: Target) -> None:
        """Import the SDK and make the client, about a second the first time, in a thread that nobody must wait for."""
        key = target.base_url, target.key
        if key in self._clients:
            return
        if key not in self._making:
            loop = asyncio.get_running_loop()
            self._making[key] = loop.create_future()
            threading.Thread(target=self._make, args=(loop, target), name="openai", daemon=True).start()
        await asyncio.shield(self._making[key])

    def _make(self, loop: asyncio.AbstractEventLoop, target: Target) -> None:
        """In the thread; what goes wrong is raised again where the client is used."""
        client = None
        with suppress(Exception):
            import openai.resources.chat  # noqa: F401 # the first request would load it

            client = self._made(target)
        with suppress(RuntimeError):  # the loop is gone: nobody waits
            loop.call_soon_threadsafe(self._keep, target, client)

    def _keep(self, target: Target, client: Any) -> None:
        key = target.base_url, target.key
        if client is not None:
            self._clients.setdefault(key, client)
        made = self._making.pop(key, None)
        if made is not None and not made.done():
            made.set_result(None)

    async def send(
        self,
        target: Target,
        body: Mapping[str, Any],
        begun: Callable[[Mapping[str, str]], None],
        hear: Callable[[str], None],
    ) -> Assembly:
        """See :class:`~vrooli_cli.tier3.ai.live.Transport`."""
        import openai

        answer = Assembly()
        completions = self._client(target).chat.completions.with_streaming_response
        asked = completions.create(**body, extra_headers=_headers(target))
        try:
            async with _first_in(self._timeouts, target, asked) as response:
                begun({name.lower(): value for name, value in response.headers.items()})
                await self._taken(response, target, answer, hear)
        except openai.OpenAIError as error:
            raise _fault_of(error, target, answer) from error
        _require_whole(answer, target)
        return answer

    async def _taken(self, response: Any, target: Target, answer: Assembly, hear: Callable[[str], None]) -> None:
        """Take the answer in; whatever is raised while it arrives is the endpoint's doing."""
        try:
            await self._read(response, target, answer, hear)
        except Fault as fault:
            fault.usage = fault.usage or answer.usage
            raise
        except Exception as error:
            raise _fault_of(error, target, answer) from error

    async def aclose(self) -> None:
        """Close every client; the next call makes new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    async def _read(self, response: Any, target: Target, answer: Assembly, hear: Callable[[str], None]) -> None:
        """Take the answer in, whichever way the endpoint chose to give it."""
        kind = response.headers.get("content-type", "").lower()
        if "html" in kind:
            said = _said(await response.text(), target)
            what = f"{host_of(target.base_url)} sent a page, no answer of a model ({kind})"
            raise Fault("failed", f"{what}: {said}" if said else what)
        if "json" in kind:
            completion = json.loads((await response.text()).removeprefix("\ufeff"))
            if isinstance(completion, Mapping):
                _raise_error(completion, target)
                hear(answer.feed_message(completion))
            return
        size = 0
        async for chunk in self._chunks(await response.parse(), target):
            text = answer.feed(chunk)
            size += len(text)
            if size > _MOST:
                raise Fault("refused", f"{host_of(target.base_url)} sent more than {_MOST >> 20} MiB")
            if text:
                hear(text)

    async def _chunks(self, stream: Any, target: Target) -> AsyncIterator[Mapping[str, Any]]:
        """The chunks of a stream as plain data, none of them late."""
        patience, what = self._timeouts.first, "did not begin to answer"
        async with aclosing(stream.__aiter__()) as pieces:
            while True:
                try:
                    async with asyncio.timeout(patience):
                        chunk = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise Fault("failed", f"{host_of(target.base_url)} {what} for {patience:g} s") from None
                patience, what = self._timeouts.stall, "stopped in the middle of its answer"
                yield chunk.model_dump(exclude_unset=True, warnings=False)

    def _client(self, target: Target) -> Any:
        key = target.base_url, target.key
        if key not in self._clients:
            self._clients[key] = self._made(target)
        return self._clients[key]

    def _made(self, target: Target) -> Any:
        import openai

        times = self._timeouts
        read = max(times.first, times.whole if not target.stream else 0.0)
        timeout = openai.Timeout(connect=times.connect, read=read, write=60.0, pool=None)
        return openai.AsyncOpenAI(
            api_key=target.key or "none",
            base_url=target.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=timeout, follow_redirects=False, trust_env=not is_loopback(target.base_url)
            ),
        )


def _headers(target: Target) -> dict[str, Any]:
    """What the SDK would send to every endpoint and must not: no key where there is none, OpenAI's own only there."""
    import openai

    headers: dict[str, Any] = {}
    if not target.ambient:
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        theirs = [line.partition(":")[0].strip() for line in lines if ":" in line]
        headers |= dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", *theirs), openai.Omit())
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = f"Bearer {target.key}"
    if not target.key:
        headers["Authorization"] = openai.Omit()
    return headers


class _first_in:
    """Enters the SDK's response within the patience for a first answer."""

    def __init__(self, times: Timeouts, target: Target, response: Any) -> None:
        self._patience = times.first if target.stream else times.whole
        self._target = target
        self._response = response

    async def __aenter__(self) -> Any:
        try:
            async with asyncio.timeout(self._patience):
                return await self._response.__aenter__()
        except TimeoutError:
            message = f"{host_of(self._target.base_url)} did not begin to answer for {self._patience:g} s"
            raise Fault("failed", message) from None

    async def __aexit__(self, *error: Any) -> None:
        await self._response.__aexit__(*error)


# --- faults -----------------------------------------------------------------------------------------------------------


def _require_whole(answer: Assembly, target: Target) -> None:
    """A stream that ends without a ``finish_reason`` has been cut: never a short success."""
    host = host_of(target.base_url)
    if answer.finish is None:
        raise Fault("failed", f"the answer of {host} broke off before its end", usage=answer.usage)
    if answer.finish.lower() in BROKEN_FINISHES:
        raise Fault("failed", f"{host} ended its answer with {answer.finish!r}", usage=answer.usage)


def _raise_error(completion: Mapping[str, Any], target: Target) -> None:
    """An error that came with status 200."""
    error = completion.get("error")
    if error and not completion.get("choices"):
        raise Fault("failed", f"{host_of(target.base_url)} failed: {_said(error, target)}")


def _fault_of(error: Exception, target: Target, answer: Assembly) -> Fault:
    """The fault that an exception of the SDK is, most specific first; what is not the SDK's own is a broken answer."""
    import openai

    host = host_of(target.base_url)
    if isinstance(error, openai.APIStatusError):
        return _status_fault(error, target)
    if isinstance(error, openai.APIConnectionError):
        return _connection_fault(error, host, answer)
    if isinstance(error, openai.APIError):  # an error event in the stream
        return Fault("failed", f"{host} failed: {_said(error.body or error.message, target)}", usage=answer.usage)
    if isinstance(error, ValueError | TypeError | AttributeError | LookupError | openai.OpenAIError):
        message = f"{host} sent something that is no chunk of an answer ({type(error).__name__})"
        return Fault("failed", message, usage=answer.usage)
    return Fault("failed", f"the answer of {host} broke off ({type(error).__name__})", usage=answer.usage)


def _connection_fault(error: Exception, host: str, answer: Assembly) -> Fault:
    cause: BaseException | None = error.__cause__ or error.__context__
    name = type(cause).__name__ if cause is not None else type(error).__name__
    if name in _NEVER_SENT:
        detail = " ".join(str(cause).split())[:_SHOWN] or name
        return Fault("failed", f"{host} cannot be reached: {detail}", unpaid=True)
    if "Timeout" in name:
        return Fault("failed", f"{host} did not answer in time ({name})", usage=answer.usage)
    return Fault("failed", f"the connection to {host} broke off ({name})", usage=answer.usage)


def _status_fault(error: Any, target: Target) -> Fault:
    headers = {name.lower(): value for name, value in error.response.headers.items()}
    status, body = error.status_code, error.body
    code = body.get("code") if isinstance(body, Mapping) else None
    host, said = host_of(target.base_url), _said(body or error.message, target)
    match status:
        case 401:
            what = f"{host} refused the key in {target.key_env}" if target.key_env else f"{host} wants a key"
        case 404:
            what = f"{host} knows no model {target.model!r}, or base_url is wrong"
        case 429:
            what = f"{host} takes no more requests now"
        case _ if 300 <= status < 400:
            what = f"{host} redirects to {headers.get('location', 'somewhere else')}; use that as base_url"
        case _ if status < 500:
            what = f"{host} did not take the request"
        case _:
            what = f"{host} failed"
    return fault_of_status(status, f"{what} ({status}{f': {said}' if said else ''})", headers, str(code or ""))


def _said(error: Any, target: Target) -> str:
    """An endpoint's own words, on one line and without the key."""
    if isinstance(error, Mapping):
        inner = error.get("error")
        error = error.get("message") or (inner.get("message") if isinstance(inner, Mapping) else inner) or error
    text = str(error)
    if text.lstrip().startswith("<"):  # a page of some proxy
        title = _TITLE.search(text)
        text = title[1] if title else _TAG.sub(" ", text)
    text = " ".join(text.split())
    if target.key:
        text = text.replace(target.key, "***")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
