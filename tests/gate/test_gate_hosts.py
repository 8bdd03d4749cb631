from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.gate import Action, Gate, Policy
from vrooli_cli.model.events import Event

Call = Callable[..., Action]
Make = Callable[..., Policy]

NAMES: dict[str, list[str]] = {
    "api.x.org": ["93.184.216.34"],
    "a.b.x.org": ["93.184.216.35"],
    "inside.x.org": ["10.1.2.3"],
    "two.x.org": ["93.184.216.34", "10.9.9.9"],
    "localhost": ["127.0.0.1", "::1"],
    "alias.evil.test": ["127.0.0.1"],
    "mapped.test": ["::ffff:10.1.2.3"],
    "2130706433": ["127.0.0.1"],
    "0x7f.1": ["127.0.0.1"],
    "127.0.0.1": ["127.0.0.1"],
    "::1": ["::1"],
    "0.0.0.0": ["0.0.0.0"],
    "xn--bcher-kva.de": ["93.184.216.36"],
}


async def names(host: str) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("unknown")
    return NAMES[host]


def nobody(_: Event) -> None:
    """Who does not listen."""


async def let_in(policy: Policy, action: Action) -> bool:
    try:
        await Gate(resolver=names).admit(action, policy, nobody)
    except VrooliError as error:
        assert error.code == "PERMISSION_DENIED"
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "url", "allowed"),
    [
        ("http(host=*.x.org)", "https://api.x.org/v1", True),
        ("http(host=*.x.org)", "https://a.b.x.org", True),
        ("http(host=*.X.ORG)", "https://API.x.org./v1", True),
        ("http(host=*.x.org)", "https://x.org.evil.test/", False),
        ("http(host=*.x.org)", "https://evil.test/?a=.x.org", False),
        ("http(host=*.x.org)", "https://api.x.org@evil.test/", False),
        ("http(host=*.x.org)", "https://evil.test#.x.org", False),
        ("http(host=*.x.org)", "https://evil.test\\.x.org/", False),
        ("http(host=api.x.org:8443)", "https://api.x.org:8443/", True),
        ("http(host=api.x.org:8443)", "https://api.x.org/", False),
        ("http(host=api.x.org:443)", "https://api.x.org/", True),
        ("http(host=bücher.de)", "https://bücher.de/", True),
        ("http(host=bücher.de)", "https://xn--bcher-kva.de/", True),
        ("http(host=10.0.0.0/8)", "http://inside.x.org/", True),
        ("http(host=10.*)", "http://inside.x.org/", True),
        ("http(host=10.*)", "http://two.x.org/", False),
        ("http(host=10.*)", "http://api.x.org/", False),
        ("http(host=[::1]:80)", "http://[::1]/", True),
        ("http(https://api.x.org/*)", "https://api.x.org/v1?q=1", True),
        ("http(https://api.x.org/*)", "https://user:pw@API.X.org:443/v1", True),
        ("http(https://api.x.org/*)", "http://api.x.org/v1", False),
        ("http(https://api.x.org/*)", "https://api.x.org.evil.test/", False),
        ("http(https://api.x.org*)", "https://api.x.org@evil.test/", False),
        ("http(https://*.x.org/*)", "https://evil.test/.x.org/", False),
        ("http(https://api.x.org/public/*)", "https://api.x.org/public/../admin", False),
        ("http(https://api.x.org/public/*)", "https://api.x.org/public/%2e%2e/admin", False),
        ("http(https://api.x.org/public/*)", "https://api.x.org/public/%2E%2E%2Fadmin", False),
        ("http(https://api.x.org/public/*)", "https://api.x.org/public/a%20b", True),
        ("http(https://api.x.org)", "https://api.x.org/", True),
        ("http(https://api.x.org)", "https://api.x.org/other", False),
        ("http(*://api.x.org/*)", "http://api.x.org/x", True),
    ],
)
async def test_an_allow_rule_lets_in_what_surely_goes_there(
    rule: str, url: str, allowed: bool, call: Call, policy: Make
) -> None:
    assert await let_in(policy(allow=[rule]), call("http", url=url)) is allowed


@pytest.mark.parametrize(
    ("rule", "url", "denied"),
    [
        ("http(host=127.0.0.1)", "http://localhost:8080/", True),
        ("http(host=127.*)", "http://alias.evil.test/", True),
        ("http(host=127.0.0.0/8)", "http://2130706433/", True),
        ("http(host=127.0.0.0/8)", "http://0x7f.1/", True),
        ("http(host=::1)", "http://localhost/", True),
        ("http(host=127.0.0.0/8)", "http://0.0.0.0:8080/", True),
        ("http(host=localhost)", "http://0.0.0.0/", True),
        ("http(host=0:0:0:0:0:0:0:1)", "http://[::1]/", True),
        ("http(host=10.0.0.0/8)", "http://mapped.test/", True),
        ("http(host=10.0.0.0/8)", "http://two.x.org/", True),
        ("http(host=10.0.0.0/8)", "http://api.x.org/", False),
        ("http(host=localhost)", "http://127.0.0.1/", True),
        ("http(host=localhost)", "http://alias.evil.test/", True),
        ("http(host=localhost)", "http://api.x.org/", False),
        ("http(host=*.x.org)", "https://api.x.org/", True),
        ("http(host=*.x.org)", "https://x.org.evil.test./", False),
        ("http(https://api.x.org/admin*)", "https://api.x.org/public/%2e%2e/admin", True),
        ("http(https://api.x.org/admin*)", "https://api.x.org:443/%61dmin/x", True),
        ("http(https://api.x.org/*)", "https://api.x.org:8443/x", True),
        ("http(*secret*)", "https://api.x.org/s%65cret", True),
        ("http(host=*)", "http://", True),
    ],
)
async def test_a_denial_holds_for_every_way_to_write_a_place(
    rule: str, url: str, denied: bool, call: Call, policy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMES, "x.org.evil.test", ["93.184.216.77"])
    assert await let_in(policy(deny=[rule]), call("http", url=url)) is not denied


async def test_the_addresses_that_were_checked_are_handed_on(call: Call, policy: Make) -> None:
    gate = Gate(resolver=names)
    admission = await gate.admit(call("http", url="http://two.x.org/"), policy(deny=["http(host=127.*)"]), nobody)
    assert admission.addresses == {"two.x.org": ("93.184.216.34", "10.9.9.9")}


async def test_names_are_looked_up_only_where_a_rule_needs_it(call: Call, policy: Make) -> None:
    asked: list[str] = []

    async def counting(host: str) -> Sequence[str]:
        asked.append(host)
        return ["93.184.216.34"]

    gate = Gate(resolver=counting)
    action = call("http", url="http://api.x.org/")
    for made in (policy(allow=["http"]), policy(allow=["http(host=*.x.org)"]), policy(deny=["shell"]), Policy()):
        assert not (await gate.admit(action, made, nobody)).addresses
    assert asked == []
    await gate.admit(action, policy(deny=["http(host=10.*)", "http(host=10.2.*)"]), nobody)
    assert asked == ["api.x.org"]


async def test_a_name_without_addresses_is_a_failed_tool_not_a_way_in(call: Call, policy: Make) -> None:
    with pytest.raises(ToolError, match="cannot be resolved") as caught:
        await Gate(resolver=names).admit(
            call("http", url="http://unknown.test/"), policy(deny=["http(host=10.*)"]), nobody
        )
    assert caught.value.code == "TOOL_FAILED"


async def test_the_real_resolver_knows_the_loopback(call: Call, policy: Make) -> None:
    with pytest.raises(VrooliError, match="denied"):
        await Gate().admit(call("http", url="http://localhost:1/"), policy(deny=["http(host=127.0.0.0/8)"]), nobody)
