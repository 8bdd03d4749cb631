"""The report in a real browser: headless Chromium, spoken to over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.made import plan_of, run_of, step, talk
from tests.report.test_report_page import EVIL, hostile
from vrooli_cli.view.report import report_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
KEYS = {"Enter": 13, "Escape": 27, "n": 78, "/": 191, "j": 74, "z": 90}


class Browser:
    """One page in a headless browser."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", CHROMIUM, *flags, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._in, 1 << 20)
            assert data, "the browser is gone"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        said: dict[str, Any] = json.loads(line)
        if said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"):
            self.complaints.append(json.dumps(said["params"])[:500])
        if said.get("method") == "Network.requestWillBeSent":
            url = said["params"]["request"]["url"]
            if not url.startswith("file:"):
                self.complaints.append(f"asked for {url}")
        return said

    def open(self, page: Path) -> None:
        self.call("Page.navigate", url=page.as_uri())
        while self.look("document.readyState") != "complete":
            pass

    def look(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str) -> None:
        code = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r" if key == "Enter" else key} if kind == "keyDown" and key != "Escape" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def close(self) -> None:
        os.close(self._out)
        self._process.wait(20)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    error = {"code": "TOOL_FAILED", "message": "exited with 3", "step": "b", "context": {"stderr": "no space\nleft"}}
    facts = [*step("a", 0, 5, result="one"), *step("b", 5, 5, error=error), *step("c", 5, 9, result={"x": 2})]
    history, lines = run_of(facts, error=error)
    file = tmp_path / "r.html"
    file.write_text(report_page(history, plan_of({"a": (), "b": ("a",), "c": ("a",)}), lines))
    return file


def test_clicks_open_and_close_a_step(browser: Browser, page: Path) -> None:
    browser.complaints.clear()
    browser.open(page)
    for place in ("#graph [data-step=a]", "#timeline [data-step=a]", "#steps-table [data-step=a]"):
        browser.look(f"document.querySelector('{place}').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
        assert browser.look("document.getElementById('step').open") is True
        assert browser.look("document.getElementById('step-name').textContent") == "a"
        assert "one" in browser.look("document.getElementById('step-body').textContent")
        browser.look("document.getElementById('close').click()")
        assert browser.look("document.getElementById('step').open") is False
    assert browser.complaints == []


def test_the_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("n")
    assert browser.look("document.getElementById('step-name').textContent") == "b"
    assert "no space" in browser.look("document.getElementById('step-body').textContent")
    browser.press("Escape")
    assert browser.look("document.getElementById('step').open") is False
    browser.look("document.querySelector('#timeline [data-step=a]').focus()")
    browser.press("Enter")
    assert browser.look("document.getElementById('step-name').textContent") == "a"
    browser.press("Escape")
    assert browser.look("document.activeElement.dataset.step") == "a"
    browser.look("document.querySelector('#steps-table [data-step=a]').focus()")
    browser.press("j")
    assert browser.look("document.activeElement.dataset.step") == "b"
    browser.press("/")
    assert browser.look("document.activeElement.id") == "step-filter"


def test_from_a_step_to_its_prompts_and_its_events(browser: Browser, tmp_path: Path) -> None:
    history, lines = run_of([*step("a", 0, 5), *talk("ask", 5, "words")])
    file = tmp_path / "talk.html"
    file.write_text(report_page(history, plan_of({"a": (), "ask": ("a",)}), lines))
    browser.complaints.clear()
    browser.open(file)
    hidden = "document.getElementById('to-prompts').hidden"
    browser.look("document.querySelector('#steps-table [data-step=a]').click()")
    assert browser.look(hidden) is True
    browser.press("Escape")
    browser.look("document.querySelector('#steps-table [data-step=ask]').click()")
    assert browser.look(hidden) is False
    assert browser.look("document.activeElement.id") == "close"
    browser.look("document.getElementById('to-prompts').click()")
    assert browser.look("document.getElementById('step').open") is False
    assert browser.look("[...document.querySelectorAll('#prompts details')].map(d => d.open)") == [True, True]
    browser.look("document.getElementById('open-calls').click()")
    assert browser.look("document.querySelectorAll('#prompts details[open]').length") == 0
    browser.look("document.querySelector('#steps-table [data-step=ask]').click()")
    browser.look("document.getElementById('to-events').click()")
    places = "[...new Set([...document.querySelectorAll('#events-body tr')].map(r => r.cells[3].textContent))]"
    assert browser.look(places) == ["ask"]
    assert browser.complaints == []


def test_a_large_graph_begins_at_the_failure_and_can_be_seen_whole(browser: Browser, tmp_path: Path) -> None:
    error = {"code": "TOOL_FAILED", "message": "exited with 3", "step": "s90"}
    names = [f"s{n}" for n in range(120)]
    facts = [fact for name in names for fact in step(name, 0, 5, error=error if name == "s90" else None)]
    history, lines = run_of(facts, error=error)
    file = tmp_path / "large.html"
    file.write_text(report_page(history, plan_of(dict.fromkeys(names, ())), lines))
    browser.complaints.clear()
    browser.open(file)
    seen = (
        "(() => { const a = document.querySelector('.node.failed').getBoundingClientRect(),"
        " b = document.querySelector('svg.graph').parentNode.getBoundingClientRect();"
        " return a.top >= b.top && a.bottom <= b.bottom; })()"
    )
    assert browser.look(seen) is True
    frame = "document.querySelector('svg.graph').parentNode"
    assert browser.look(f"{frame}.scrollHeight > {frame}.clientHeight") is True
    browser.press("z")
    assert browser.look(f"{frame}.scrollHeight <= {frame}.clientHeight") is True
    browser.look("document.querySelector('.node.failed').focus()")
    assert browser.look("document.querySelectorAll('.edge.lit').length") == 0
    assert browser.complaints == []


def test_a_step_that_is_pointed_at_shows_what_it_is_tied_to(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.look("document.querySelector('#graph [data-step=b]').focus()")
    lit = "[...document.querySelectorAll('.edge.lit')].map(e => e.dataset.from + e.dataset.to)"
    assert browser.look(lit) == ["ab"]


def test_filters_hide_and_show(browser: Browser, page: Path) -> None:
    browser.open(page)
    visible = "[...document.querySelectorAll('#steps-table tbody tr')].filter(r => !r.hidden).length"
    assert browser.look(visible) == 3
    browser.look("document.querySelector('[data-status=completed]').click()")
    assert browser.look(visible) == 1
    events = "document.querySelectorAll('#events-body tr').length"
    before = browser.look(events)
    browser.look("document.querySelector('[data-tier=tier3]').click()")
    assert 0 < browser.look(events) < before
    browser.look("f = document.getElementById('event-filter'); f.value = 'failed'; f.dispatchEvent(new Event('input'))")
    assert browser.look(events) == 2


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_it_follows_the_readers_light(browser: Browser, page: Path, scheme: str, light: bool) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    colour = browser.look("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) > 384) is light
    assert len(browser.picture()) > 10_000


def test_on_paper_nothing_is_cut_off_or_scrolls(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.open(page)
    assert browser.look("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.look("getComputedStyle(document.querySelector('.scroll')).maxHeight") == "none"
    browser.call("Emulation.setEmulatedMedia", media="screen")


def test_it_does_not_scroll_sideways_on_a_phone(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
    browser.open(page)
    assert browser.look("document.documentElement.scrollWidth") <= 390
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_hostile_words_run_nothing(browser: Browser, tmp_path: Path) -> None:
    history, lines = hostile()
    file = tmp_path / "evil.html"
    file.write_text(report_page(history, plan_of({"ok": (), EVIL: ("ok",)}), lines))
    browser.complaints.clear()
    browser.open(file)
    browser.press("n")
    assert browser.look("document.getElementById('step').open") is True
    assert browser.look("document.images.length") == 0
    assert browser.look("document.scripts.length") == 2
    assert browser.complaints == []
