"""Every key that a file may hold: where, of what shape, and what it means (spec routine.md, swarm.md, ai.md, tools.md).

The one table behind three things: what the loader accepts, what its messages say, and the JSON Schema with which an
editor completes and explains. What depends on more than one key (a key that does not fit the action, an id that nobody
has) is checked in ``routine`` and ``swarm``.
"""

from __future__ import annotations

import re
from typing import Any

from vrooli_cli.errors import Pointer
from vrooli_cli.loading.settings import SCHEDULER
from vrooli_cli.loading.shapes import (
    Definitions,
    Duration,
    Either,
    Expr,
    Findings,
    Flag,
    Form,
    JsonSchema,
    Key,
    ListOf,
    MapOf,
    Number,
    Shape,
    Text,
    Value,
    Word,
    one_of,
    refuse,
    same,
)
from vrooli_cli.model.values import lean

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")
ID_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
WORD_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CODE_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RULE_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]-]+(\(.*\))?", re.DOTALL)
TOOL_GLOB_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!:/-]+")

# Names that expressions have of themselves; an input or a loop's item cannot take them (spec routine.md, "Values").
RESERVED = (
    *("inputs", "vars", "env", "secrets", "steps", "blackboard", "item", "index", "previous", "iteration", "result"),
    *("error", "run"),
)

ACTIONS = ("tool", "prompt", "routine", "parallel", "wait", "approval")
STRATEGIES = ("conversational", "reasoning", "deterministic")
TRIGGER_RULES = ("none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded")

TEXT = Text()
PROSE = Text()
NAME = Text("a name of a-z, 0-9, _ and -, beginning with a letter or digit", NAME_PATTERN, static=True)
ID = Text("an id of letters, digits, _ and -, beginning with a letter or _", ID_PATTERN, static=True)
STATIC = Text(static=True, empty=False)
IDENTIFIER = Text("a name of letters, digits and _, not beginning with a digit", WORD_PATTERN, static=True)
TOOL = Text("the name of a tool", static=True, empty=False)
PROMPT = Text("a text for the model", empty=False)
VALUE = Value()
VALUES = MapOf(VALUE, "a map of names and values")
TEXTS = ListOf(TEXT, "a list of texts")
IDS = ListOf(ID, "a list of step ids", unique=True)
POSITIVE = Number(1, whole=True)


@lean()
class Nothing:
    """``null``: said on purpose."""

    expected: str = "null"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return raw is None

    def read(self, raw: Any, at: Pointer, findings: Findings) -> None:
        """See :class:`Shape`."""

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"type": "null"}


@lean()
class EnvironmentText:
    """The value of an environment variable: text; numbers and truth values are taken as they print."""

    expected: str = "a text, a number, or true or false"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, (str, int, float))

    def read(self, raw: Any, at: Pointer, findings: Findings) -> str | None:
        """See :class:`Shape`."""
        if isinstance(raw, bool):
            return "true" if raw else "false"
        if raw is not None and not self.fits(raw):
            refuse(self, raw, at, findings)
        return None if raw is None else str(raw)

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")]}


@lean()
class Steps:
    """A list of steps, as it is: ``routine`` reads the steps themselves, they need each other."""

    expected: str = "a list of steps"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, list)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> list[Any]:
        """See :class:`Shape`."""
        if not isinstance(raw, list):
            refuse(self, raw, at, findings, "write - before each step")
            return []
        if not raw:
            findings.add(at, f"`{at[-1]}` must have at least one step")
        return raw

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"type": "array", "minItems": 1, "items": STEP.schema(definitions)}


@lean()
class Described:
    """Read as any map, described in detail: another floor checks what is inside."""

    form: Form

    @property
    def expected(self) -> str:
        """See :class:`Shape`."""
        return "a map"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, dict)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> Any:
        """See :class:`Shape`."""
        if not isinstance(raw, dict):
            refuse(self, raw, at, findings)
        return raw

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return self.form.schema(definitions)


def _alone(value: Any) -> tuple[Any, ...]:
    return (value,)


def _one_or_many(item: Text, words: str) -> Either:
    return Either(((item, _alone), (ListOf(item, least=1, unique=True), same)), words)


MODEL_NAMES = _one_or_many(STATIC, "a model's name or a list of them")
TOOL_GLOBS = ListOf(Text("the name of a tool, or a glob", TOOL_GLOB_PATTERN, static=True), "a list of tools")
SCHEMA = Described(Form("a JSON Schema", "A JSON Schema (draft 2020-12).", {}, extra={"additionalProperties": True}))

ENV = Either(
    (
        (ListOf(IDENTIFIER, unique=True), lambda names: dict.fromkeys(names)),
        (MapOf(EnvironmentText(), key=WORD_PATTERN, key_words="a variable's name"), same),
    ),
    "a list of variables to take over, or a map of variables and values",
)
SECRETS = MapOf(
    Form(
        "a secret",
        "A value that is masked wherever it would leave the process.",
        {"env": Key(IDENTIFIER, "The environment variable that holds it.", required=True)},
    ),
    "a map of names and {env: VARIABLE}",
    WORD_PATTERN,
    "a name that expressions can use",
)

RETRY = Form(
    "a retry",
    "When to try again, and how long to wait between.",
    {
        "max_attempts": Key(Number(1, 1000, whole=True), "How often in all; the first try counts.", default=3),
        "delay": Key(Duration(positive=False), "The wait before the second attempt.", default="1s"),
        "backoff": Key(Number(1, 1000), "The factor from one wait to the next; 1 keeps it.", default=2),
        "max_delay": Key(Duration(positive=False), "No wait is longer.", default="1m"),
        "jitter": Key(Number(0, 1), "The part of a wait, 0 to 1, that is spread at random.", default=0.1),
        "on": Key(
            ListOf(Text("an error code", CODE_PATTERN), "a list of error codes", unique=True),
            "Only these error codes. Some are never retried unless they are named here.",
            examples=(["TOOL_FAILED", "STEP_TIMEOUT"],),
        ),
        "when": Key(Expr(condition=True), "Only when this expression over `error` holds."),
    },
)

ON_ERROR = Either(
    (
        (Word(("fail", "continue"), "a map {recover: VALUE}"), lambda word: (word, None)),
        (
            Form(
                "a recovery",
                "The step completes with this value instead of failing.",
                {"recover": Key(VALUE, "The value; `error` can be named in it.", required=True)},
            ),
            lambda made: ("recover", made.get("recover")),
        ),
    ),
    "fail, continue or a map {recover: VALUE}",
)

ALLOCATION = Form(
    "an allocation",
    "Ceilings on what may be used; a part never gets more than the whole has.",
    {
        "max_credits": Key(
            Number(0, whole=True, text=True), "Credits; one is a millionth of a US dollar.", examples=(2_000_000,)
        ),
        "max_cost": Key(Number(0, 1e12), "The same in US dollars; the lower of both holds.", examples=(0.5,)),
        "max_duration": Key(Duration(), "Active time, over all resumes.", examples=("10m",)),
        "max_memory_mb": Key(POSITIVE, "Resident memory of the child processes together.", examples=(1024,)),
        "max_concurrent_steps": Key(Number(1, 100_000, whole=True), "Steps at work at one moment.", examples=(8,)),
    },
)

RULES = ListOf(Text("a rule such as shell, shell(git *) or http(host=*.example.org)", RULE_PATTERN), "a list of rules")
PERMISSIONS = Form(
    "permissions",
    "Rules `tool`, `tool(glob of its main argument)` or `tool(arg=glob)`; deny wins, then ask, then allow.",
    {
        "allow": Key(RULES, "What may be done; a tool named here is closed to all else.", examples=(["shell(git *)"],)),
        "ask": Key(RULES, "What a person is asked for each time."),
        "deny": Key(RULES, "What is never done.", examples=(["shell(rm *)"],)),
    },
)

_VERDICT = Word(("allow", "ask", "deny"))
POLICY = Form(
    "a policy",
    "What strategies may be used.",
    {
        "strategies": Key(
            Form("strategies", "A verdict a strategy.", {s: Key(_VERDICT, f"May a step be {s}?") for s in STRATEGIES}),
            "Strategy and verdict.",
            required=True,
        )
    },
)

MODEL = Form(
    "a model",
    "A model under a name of yours.",
    {
        "model": Key(STATIC, "What the endpoint calls it; default: the name itself.", examples=("gpt-4o-mini",)),
        "base_url": Key(STATIC, "The OpenAI-compatible endpoint.", examples=("http://127.0.0.1:11434/v1",)),
        "api_key_env": Key(
            Either(((IDENTIFIER, same), (Nothing(), same)), "the name of an environment variable, or null"),
            "The variable that holds the endpoint's key; null: it needs none.",
        ),
        "price": Key(
            Form(
                "a price",
                "US dollars per million tokens.",
                {
                    "input": Key(Number(0, 1e9), "Of what is sent.", required=True),
                    "output": Key(Number(0, 1e9), "Of what is answered.", required=True),
                    "cached_input": Key(Number(0, 1e9), "Of what is sent and the endpoint still had."),
                },
            ),
            "US dollars per million tokens.",
        ),
        "provider": Key(STATIC, "Whose price list holds, when the endpoint does not tell.", examples=("openai",)),
        "fallback": Key(ListOf(STATIC, "a list of models", unique=True), "Models asked instead, in order."),
        "stream": Key(Flag(), "False for an endpoint that cannot stream.", default=True),
    },
)
MODELS = MapOf(
    Either(((STATIC, lambda name: {"model": name}), (MODEL, same)), "a model's name or a map"),
    "a map of names and models",
    key_words="a name",
)

MCP_SERVERS = MapOf(
    Form(
        "an MCP server",
        "A server of the Model Context Protocol; its tools are named SERVER.TOOL.",
        {
            "command": Key(STATIC, "The program to start; it speaks over stdin and stdout.", examples=("uvx",)),
            "args": Key(TEXTS, "Its arguments.", examples=(["mcp-server-git"],)),
            "env": Key(ENV, "Its environment beside PATH, HOME, LANG and TMPDIR."),
            "cwd": Key(TEXT, "The folder that it is started in."),
            "url": Key(STATIC, "The address of a server that runs already (streamable HTTP)."),
            "headers": Key(MapOf(TEXT, "a map of texts"), "HTTP headers, e.g. for a key."),
            "timeout": Key(Duration(), "The longest wait for an answer."),
        },
        one_of=("command", "url"),
    ),
    "a map of names and servers",
    re.compile(r"[A-Za-z0-9_-]+"),
    "a name of letters, digits, _ and -",
)

EXECUTOR = Either(
    (
        (Word(("local",)), lambda _: {}),
        (
            Form(
                "an executor",
                "Where the tools of steps run.",
                {
                    "dask": Key(
                        Text("an address such as tcp://scheduler:8786, or local", SCHEDULER, static=True),
                        "A Dask scheduler's address, or `local` for a cluster on this machine that ends with the run.",
                        required=True,
                        examples=("tcp://scheduler:8786", "local"),
                    )
                },
            ),
            same,
        ),
    ),
    "local or a map {dask: ADDRESS}",
)

EVENT_AGENT = Form(
    "an event agent",
    "Something that listens for events and acts, outside the critical path.",
    {
        "subscribe": Key(
            Text("a pattern such as **/failed", re.compile(r"[A-Za-z0-9_*]+(/[A-Za-z0-9_*]+)*"), static=True),
            "Which events: `*` is one segment, `**` any number.",
            required=True,
            examples=("**/failed", "tier1/**", "safety/pre_action"),
        ),
        "name": Key(TEXT, "How it is called in the view."),
        "when": Key(Expr(condition=True), "Only when this expression over `event` holds."),
        "routine": Key(STATIC, "The routine to run."),
        "tool": Key(TOOL, "The tool to call."),
        "prompt": Key(PROMPT, "The model to ask."),
        "parameters": Key(VALUES, "For the tool or the routine.", alias="with"),
        "system": Key(PROSE, "The model's persona."),
        "model": Key(MODEL_NAMES, "Which model."),
        "barrier": Key(Flag(), "True on safety/pre_action: the action waits for its verdict.", default=False),
        "max_runs": Key(POSITIVE, "How often it acts at most; a barrier always does.", default=10),
        "timeout": Key(Duration(), "How long it may take."),
    },
    one_of=("routine", "tool", "prompt"),
)
EVENTS = ListOf(EVENT_AGENT, "a list of event agents")

_NUMBER = Number(None)
_SUBSCHEMA = Described(SCHEMA.form)
_SUBSCHEMAS = ListOf(VALUE, "a list of JSON Schemas")
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
# JSON Schema's own keywords (draft 2020-12) that may stand beside an input's; what is in them is checked as a schema.
_KEYWORDS: dict[str, tuple[Shape, str]] = {
    "title": (TEXT, "A short name for people."),
    "examples": (ListOf(VALUE), "Some values."),
    "deprecated": (Flag(), "True when it should not be used any more."),
    "enum": (ListOf(VALUE, "a list of values", least=1), "The only values that are allowed."),
    "const": (VALUE, "The only value that is allowed."),
    "format": (TEXT, "What kind of text: `path`, `date`, `uri`…; a `path` may be read by file tools."),
    "pattern": (TEXT, "A regular expression that the text must match."),
    "minLength": (Number(0, whole=True), "The shortest text."),
    "maxLength": (Number(0, whole=True), "The longest text."),
    "minimum": (_NUMBER, "The smallest number."),
    "maximum": (_NUMBER, "The largest number."),
    "exclusiveMinimum": (_NUMBER, "Numbers must be above it."),
    "exclusiveMaximum": (_NUMBER, "Numbers must be below it."),
    "multipleOf": (Number(0, over=True), "Numbers must be a multiple of it."),
    "items": (VALUE, "The schema of a list's items."),
    "prefixItems": (_SUBSCHEMAS, "The schemas of a list's first items."),
    "contains": (VALUE, "The schema that some item must have."),
    "minContains": (Number(0, whole=True), "How many items `contains` must fit, at least."),
    "maxContains": (Number(0, whole=True), "How many items `contains` may fit, at most."),
    "minItems": (Number(0, whole=True), "The shortest list."),
    "maxItems": (Number(0, whole=True), "The longest list."),
    "uniqueItems": (Flag(), "True when no item may stand twice."),
    "properties": (MapOf(VALUE, "a map of names and JSON Schemas"), "The schemas of a map's values."),
    "patternProperties": (MapOf(VALUE, "a map of patterns and JSON Schemas"), "The same by pattern of the key."),
    "additionalProperties": (VALUE, "The schema of values that are not named; false: there are none."),
    "propertyNames": (VALUE, "The schema of a map's keys."),
    "minProperties": (Number(0, whole=True), "The smallest map."),
    "maxProperties": (Number(0, whole=True), "The largest map."),
    "dependentRequired": (VALUES, "Keys that others need."),
    "dependentSchemas": (VALUES, "Schemas that keys bring."),
    "unevaluatedItems": (VALUE, "The schema of items that no other keyword looked at."),
    "unevaluatedProperties": (VALUE, "The schema of values that no other keyword looked at."),
    "allOf": (_SUBSCHEMAS, "All of these schemas hold."),
    "anyOf": (_SUBSCHEMAS, "At least one of these schemas holds."),
    "oneOf": (_SUBSCHEMAS, "Exactly one of these schemas holds."),
    "not": (VALUE, "This schema does not hold."),
    "if": (VALUE, "When this schema holds, `then` does, else `else`."),
    "then": (VALUE, "See `if`."),
    "else": (VALUE, "See `if`."),
    "$ref": (TEXT, "A schema in `$defs`."),
    "$defs": (VALUES, "Schemas that others refer to."),
    "$comment": (TEXT, "For people."),
    "contentEncoding": (TEXT, "How the text is encoded, e.g. base64."),
    "contentMediaType": (TEXT, "What the text holds."),
}
SCHEMA_KEYWORDS = frozenset(_KEYWORDS) | {"type", "description"}

INPUT = Form(
    "an input",
    "A value that the caller gives: with a type, a default, and any other keyword of JSON Schema.",
    {
        "type": Key(
            Either(((Word(_TYPES), same), (ListOf(Word(_TYPES), least=1, unique=True), list)), Word(_TYPES).expected),
            "The JSON Schema type; any value when not given.",
        ),
        "description": Key(PROSE, "What it is, for people and models."),
        "default": Key(VALUE, "The value when none is given; without one the input is required."),
        "required": Key(
            Either(((Flag(), same), (ListOf(TEXT, "a list of property names"), list)), "true or false"),
            "False: null when not given. (A list is JSON Schema's own `required`, for type object.)",
        ),
        "secret": Key(Flag(), "True: masked wherever it would leave the process, and never stored.", default=False),
        "env": Key(IDENTIFIER, "The environment variable that it is read from when it is not given."),
        **{name: Key(shape, about) for name, (shape, about) in _KEYWORDS.items()},
    },
    expected="a map such as {type: string}",
)
INPUTS = MapOf(
    INPUT, "a map of names and inputs", ID_PATTERN, "an input's name: letters, digits, _ and -, no digit first"
)

FOR_EACH = Form(
    "a loop",
    "One child per item; the result is the list of their results.",
    {
        "items": Key(Expr(), "A list or a map; a map gives items {key, value}.", required=True),
        "as": Key(IDENTIFIER, "What the item is called in expressions.", default="item"),
        "key": Key(Expr(), "A unique text per item that names the child; default: its position."),
        "max_concurrent": Key(POSITIVE, "Children at work at one moment."),
        "fail_fast": Key(Flag(), "Start no further child after a failure.", default=True),
    },
)
REPEAT = Form(
    "a repetition",
    "The step again and again until an expression over its result holds.",
    {
        "until": Key(Expr(condition=True), "When it ends; `result` and `iteration` can be named.", required=True),
        "max": Key(Number(1, 1_000_000, whole=True), "How often at most; the first counts.", default=100),
        "delay": Key(Duration(positive=False), "The wait between two rounds.", default="0s"),
    },
)
CACHE = Form(
    "a cache rule",
    "Reuse the result in other runs, as long as nothing that it depends on has changed.",
    {
        "ttl": Key(Duration(), "How long it may be reused; default: for ever.", examples=("1d",)),
        "key": Key(VALUE, "Something more that the result depends on."),
    },
)
APPROVAL = Form(
    "an approval",
    "A question to a person.",
    {
        "prompt": Key(Text("a text for the person who is asked", empty=False), "The question."),
        "timeout": Key(Duration(), "How long the answer may take."),
        "on_timeout": Key(Word(("reject", "approve")), "What no answer means.", default="reject"),
    },
)
MESSAGE = Form(
    "a message",
    "A message of the conversation before the prompt.",
    {
        "role": Key(Word(("system", "user", "assistant")), "Who speaks.", required=True),
        "content": Key(TEXT, "The text.", required=True),
    },
)

STRATEGY = Word(STRATEGIES)
_PRIORITY = Word(("low", "medium", "high"))
_TIMEOUT = Key(Duration(), "The longest time for one attempt.", examples=("30s",))
_ON_ERROR = Key(
    ON_ERROR, "What becomes of a failure: the run fails, goes on without a result, or recovers.", default="fail"
)
_VERSION = Key(TEXT, "The version of this file, as text.")
_TEMPERATURE = Number(0, 2)

STEP = Form(
    "a step",
    "One step: an id, exactly one action, and how to do it.",
    {
        "id": Key(ID, "The step's unique name in its graph.", required=True),
        "name": Key(TEXT, "A title for people."),
        "description": Key(PROSE, "What the step is for."),
        "priority": Key(_PRIORITY, "Which goes first when slots are short.", default="medium"),
        "tool": Key(TOOL, "Action: call a tool.", examples=("shell", "http", "file_read")),
        "prompt": Key(PROMPT, "Action: ask a model."),
        "routine": Key(STATIC, "Action: run another routine, by path or by name in `routines/`."),
        "parallel": Key(Steps(), "Action: a group of steps with its own small graph."),
        "wait": Key(Duration(positive=False, dynamic=True), "Action: sleep.", examples=("10s",)),
        "approval": Key(
            Either(
                ((APPROVAL.keys["prompt"].shape, lambda text: {"prompt": text}), (APPROVAL, same)),
                "a text, or a map of prompt, timeout and on_timeout",
            ),
            "Action: ask a person; a rejection fails the step.",
        ),
        "parameters": Key(VALUES, "For tool and routine: its parameters.", alias="with"),
        "strategy": Key(STRATEGY, "How the step is done: deterministic (tools), conversational or reasoning."),
        "system": Key(PROSE, "For prompt: the model's persona."),
        "messages": Key(ListOf(MESSAGE, "a list of messages"), "For prompt: the conversation so far."),
        "model": Key(MODEL_NAMES, "The model, or several in the order in which they are tried."),
        "temperature": Key(_TEMPERATURE, "For prompt: 0 is the most predictable."),
        "max_tokens": Key(POSITIVE, "For prompt: the longest answer.", default=4096),
        "output_schema": Key(SCHEMA, "A JSON Schema that the result must satisfy."),
        "tools": Key(TOOL_GLOBS, "For prompt: the tools that the model may call.", examples=(["file_read", "git.*"],)),
        "max_turns": Key(Number(1, 1000, whole=True), "For prompt: how often the model is asked at most.", default=8),
        "seed": Key(Number(None, whole=True), "For prompt: makes answers repeatable where the endpoint can."),
        "stop": Key(_one_or_many(TEXT, "a text or a list of them"), "For prompt: the answer ends before these."),
        "context": Key(TEXTS, "For prompt: keys of the blackboard that the model is given."),
        "reveal": Key(TEXTS, "For prompt: secrets that the model may see."),
        "depends_on": Key(IDS, "Steps that come before; naming a result does the same.", alias="needs"),
        "when": Key(Expr(condition=True), "The step is skipped when this is false."),
        "trigger_rule": Key(Word(TRIGGER_RULES), "What the steps before must have come to.", default="none_failed"),
        "for_each": Key(
            Either(
                (
                    (FOR_EACH, same),
                    (Text("an expression", empty=False), lambda text: {"items": text}),
                    (ListOf(VALUE), lambda values: {"items": list(values)}),
                ),
                "an expression, a list, or a map with `items`",
            ),
            "Do the step for every item.",
            examples=("steps.list.result", {"items": "steps.list.result", "max_concurrent": 4}),
        ),
        "matrix": Key(
            MapOf(
                Either(((Text("an expression", empty=False), same), (ListOf(VALUE), list)), "a list or an expression"),
                "a map of names and lists",
                WORD_PATTERN,
                "a name that expressions can use",
            ),
            "Do the step for every combination; `item.NAME` has the values.",
            examples=({"os": ["linux", "macos"], "python": ["3.11", "3.13"]},),
        ),
        "repeat": Key(REPEAT, "Do the step again until an expression holds."),
        "retry": Key(
            RETRY,
            "Try again after a failure. Without it, a step begins anew when the answer of a model broke off.",
        ),
        "timeout": _TIMEOUT,
        "on_error": _ON_ERROR,
        "effects": Key(
            Word(("none", "idempotent", "once")),
            "How often the action may happen: none leaves no trace, once must not be repeated. Default: the tool's.",
        ),
        "cache": Key(
            Either(
                ((Flag(), lambda wanted: {} if wanted else None), (CACHE, same)), "true, or a map with `ttl` and `key`"
            ),
            "Reuse the result in other runs.",
        ),
        "approval_required": Key(Flag(), "Ask a person before the step starts.", default=False),
        "set": Key(
            MapOf(VALUE, "a map of names and values", WORD_PATTERN, "a variable's name"),
            "Run variables to set when the step has completed; `result` can be named.",
        ),
        "export": Key(
            MapOf(VALUE, "a map of names and values", re.compile(r"\S.*"), "a key of the blackboard"),
            "What to write to the blackboard when the step has completed.",
        ),
        "allocation": Key(ALLOCATION, "Ceilings for this step."),
        "resources": Key(
            MapOf(Number(0, 1e9), "a map of names and amounts"),
            "What a worker must have for it (Dask).",
            examples=({"gpu": 1},),
        ),
    },
    extra={"oneOf": one_of(ACTIONS)},
    expected="a map with an `id` and an action",
)

DEFAULTS = Form(
    "defaults",
    "For steps that do not say otherwise.",
    {
        "timeout": _TIMEOUT,
        "retry": Key(RETRY, "For steps whose effects allow it: those that must not be repeated are not retried."),
        "on_error": _ON_ERROR,
        "strategy": Key(Word(("conversational", "reasoning")), "For prompt steps."),
        "model": Key(MODEL_NAMES, "For prompt steps."),
    },
)

HANDLERS = Form(
    "handlers",
    "Steps that run after the graph, once, at a real end.",
    {
        "success": Key(Steps(), "After success."),
        "failure": Key(Steps(), "After a failure or a time-out."),
        "finally": Key(Steps(), "Always; after a cancel within 30 s. A failure here fails the run."),
    },
)

_DEPENDENCY = Form(
    "a dependency",
    "One edge of the graph.",
    {
        "from": Key(ID, "The step that comes first.", required=True),
        "to": Key(ID, "The step that comes after it.", required=True),
    },
)
_BRANCH = Form(
    "a branch",
    "Steps one after another, beside the other branches.",
    {
        "id": Key(ID, "The branch's name.", required=True),
        "steps": Key(ListOf(ID, "a list of step ids", least=1, unique=True), "Ids in their order.", required=True),
    },
)
_OUTPUTS = Key(
    MapOf(VALUE, "a map of names and values", ID_PATTERN, "an output's name: letters, digits, _ and -"),
    "What the run answers; default: the results of the last steps.",
)

# Keys that a routine and a swarm share.
_COMMON: dict[str, Key] = {
    "name": Key(NAME, "The name; default: the file's."),
    "description": Key(PROSE, "What it is for, in a sentence."),
    "version": _VERSION,
    "inputs": Key(INPUTS, "The values that the caller gives."),
    "vars": Key(MapOf(VALUE, "a map of names and values", WORD_PATTERN, "a variable's name"), "Initial run variables."),
    "env": Key(ENV, "Environment for `env.NAME` and child processes: a list to take over, or a map to set."),
    "secrets": Key(SECRETS, "Values that are masked; `secrets.NAME` in expressions."),
    "defaults": Key(DEFAULTS, "For steps that do not say otherwise."),
    "allocation": Key(ALLOCATION, "Ceilings for the whole run; default: 1,000,000 credits, 8 steps at once."),
    "permissions": Key(PERMISSIONS, "What tools may do."),
    "policy": Key(POLICY, "What strategies may be used."),
    "schedule": Key(
        Word(("eager", "batched")), "Start each step as soon as it can, or batch after batch.", default="eager"
    ),
    "models": Key(MODELS, "Models under names of yours; `default` is the one for steps that name none."),
    "mcp_servers": Key(MCP_SERVERS, "Servers of the Model Context Protocol whose tools steps use."),
    "executor": Key(EXECUTOR, "Where the tools of steps run.", default="local"),
    "events": Key(EVENTS, "Agents that listen for events."),
    "handlers": Key(HANDLERS, "Steps after the end."),
    "outputs": _OUTPUTS,
}

ROUTINE = Form(
    "a routine",
    "A routine: steps, their order, and what they need.",
    {
        "kind": Key(Word(("routine",)), "What the file is; known by its `steps`."),
        **_COMMON,
        "steps": Key(Steps(), "What is done.", required=True),
        "dependencies": Key(ListOf(_DEPENDENCY, "a list of {from, to}"), "Edges of the graph."),
        "parallel_branches": Key(ListOf(_BRANCH, "a list of {id, steps}"), "Chains of steps, side by side."),
    },
)

_CAPABILITIES = ListOf(Text("a capability", empty=False, static=True), "a list of capabilities", unique=True)
AGENT = Form(
    "an agent",
    "A member of the swarm.",
    {
        "id": Key(ID, "Its unique name.", required=True),
        "capabilities": Key(_CAPABILITIES, "What it can do; it gets only tasks that need no more.", required=True),
        "name": Key(TEXT, "A title for people."),
        "description": Key(PROSE, "Who it is."),
        "max_concurrent_tasks": Key(Number(1, 10_000, whole=True), "Tasks at one moment, never in total.", default=1),
        "current_load": Key(Number(0, 10_000, whole=True), "Places that are taken already.", default=0),
        "model": Key(MODEL_NAMES, "Its model, or several in the order in which they are tried."),
        "system": Key(PROSE, "Its persona."),
        "tools": Key(TOOL_GLOBS, "The tools that it may call."),
        "routine": Key(STATIC, "How it does a task; default: one reasoning step."),
        "permissions": Key(PERMISSIONS, "What its tools may do."),
        "reveal": Key(TEXTS, "Secrets that it may see."),
        "allocation": Key(ALLOCATION, "Ceilings for its tasks."),
    },
)
TASK = Form(
    "a task",
    "A part of the goal.",
    {
        "id": Key(ID, "Its unique name.", required=True),
        "description": Key(PROSE, "What is to be done."),
        "dependencies": Key(
            ListOf(ID, "a list of task ids", unique=True), "Tasks whose results it needs.", alias="depends_on"
        ),
        "required_capabilities": Key(_CAPABILITIES, "What its agent must be able to do."),
        "estimated_complexity": Key(Number(1, 10, whole=True), "How large it is, 1 to 10.", default=5),
        "priority": Key(_PRIORITY, "Which goes first when agents are short.", default="medium"),
    },
)
ASSIGNMENT = Form(
    "an assignment",
    "Who does a task.",
    {"agent": Key(ID, "The agent.", required=True), "reason": Key(PROSE, "Why this one.")},
)
CONSTRAINTS = Form(
    "constraints",
    "A MOISE+ organisation: who may play what, how goals divide into missions, and which norms hold.",
    {
        "id": Key(TEXT, "The organisation's name."),
        "version": Key(TEXT, "Its version."),
        "structural": Key(
            Form(
                "a structural specification",
                "Roles, links, groups.",
                {
                    "roles": Key(MapOf(VALUE, "a map of roles"), "Role → {extends, min, max, capabilities}."),
                    "links": Key(ListOf(VALUE), "{from, to, type, scope, bidirectional}: authority, communication…"),
                    "compatibilities": Key(ListOf(VALUE), "{from, to, scope, bidirectional}: roles of one agent."),
                    "groups": Key(MapOf(VALUE), "Group → {roles, subgroups, min, max, links…}."),
                    "link_types": Key(TEXTS, "Link types beside the three known ones."),
                    "properties": Key(VALUES, "Free texts."),
                },
            ),
            "Roles, links, groups.",
        ),
        "functional": Key(
            Form(
                "a functional specification",
                "Schemes: goals and missions.",
                {
                    "schemes": Key(MapOf(VALUE), "Scheme → {goals, missions}; plans: sequence, parallel, choice."),
                    "properties": Key(VALUES, "Free texts."),
                },
            ),
            "Schemes: goals and missions.",
        ),
        "normative": Key(
            Form(
                "a normative specification",
                "Norms.",
                {
                    "norms": Key(ListOf(VALUE), "{id, role, type, mission, actions, condition, ttf}."),
                    "npl": Key(VALUE, "Norms in the programming language of Moise."),
                    "properties": Key(VALUES, "Free texts."),
                },
            ),
            "Obligations, permissions and prohibitions.",
        ),
        "assignments": Key(MapOf(VALUE), "Agent → roles that it plays; the rest is solved for."),
        "properties": Key(VALUES, "Free texts."),
    },
)

SWARM = Form(
    "a swarm",
    "A swarm: a goal, agents, and what binds them.",
    {
        "kind": Key(Word(("swarm",)), "What the file is; known by its `goal`."),
        **_COMMON,
        "goal": Key(Text("a text", empty=False), "What the swarm is to reach.", required=True),
        "agents": Key(ListOf(AGENT, "a list of agents", least=1), "Who is there.", required=True),
        "tasks": Key(ListOf(TASK, "a list of tasks", least=1), "The parts of the goal; without them a model is asked."),
        "constraints": Key(
            Either(((STATIC, same), (Described(CONSTRAINTS), same)), "a map, or the path of a YAML or XML file"),
            "A MOISE+ organisation, here or in a file.",
        ),
        "team": Key(
            Form("a team", "What is wanted of the team.", {"leader": Key(ID, "The agent that leads.")}),
            "What is wanted of the team.",
        ),
        "planner": Key(
            Form(
                "a planner",
                "Who divides the goal.",
                {
                    "model": Key(MODEL_NAMES, "Its model."),
                    "system": Key(PROSE, "Its persona."),
                    "temperature": Key(_TEMPERATURE, "0 is the most predictable."),
                    "max_tokens": Key(POSITIVE, "The longest answer."),
                },
            ),
            "Who divides the goal.",
        ),
        "assignments": Key(
            MapOf(ASSIGNMENT, "a map of task ids and {agent, reason}", ID_PATTERN, "a task's id"),
            "Who does which task: a frozen plan.",
        ),
        "synthesis": Key(
            Form(
                "a synthesis",
                "The model's last word.",
                {
                    "prompt": Key(PROMPT, "What it is asked; `tasks` can be named.", required=True),
                    "model": Key(MODEL_NAMES, "Its model."),
                    "system": Key(PROSE, "Its persona."),
                    "output_schema": Key(SCHEMA, "A JSON Schema that the answer must satisfy."),
                    "temperature": Key(_TEMPERATURE, "0 is the most predictable."),
                    "max_tokens": Key(POSITIVE, "The longest answer."),
                },
            ),
            "The model's last word.",
        ),
        "knowledge": Key(ListOf(STATIC, "a list of files or globs"), "Files whose excerpts the agents are given."),
    },
)

PROJECT_LIMITS = Form(
    "limits",
    "How large a file may be.",
    {
        "file_mb": Key(Number(0, 1024, over=True), "Megabytes.", default=16),
        "depth": Key(Number(1, 900, whole=True), "Levels of nesting."),
        "nodes": Key(Number(1, 100_000_000, whole=True), "Values, with aliases followed."),
    },
)
_BUILT_IN = {
    "monitor": Key(Flag(), "Watches for slow steps, error rate and spending.", default=True),
    "security": Key(Flag(), "Watches for secrets in outputs and denied calls.", default=True),
}
PROJECT = Form(
    "a project",
    "What holds for every routine and swarm of a project.",
    {
        **{key: _COMMON[key] for key in ("name", "description", "models", "permissions", "policy", "allocation")},
        **{key: _COMMON[key] for key in ("mcp_servers", "env", "secrets", "events", "executor", "defaults")},
        "limits": Key(PROJECT_LIMITS, "How large a file may be."),
        "agents": Key(Form("built-in agents", "The agents in the box.", _BUILT_IN), "False turns one off."),
        "store": Key(
            Form(
                "a store",
                "Where runs are kept, and how surely.",
                {
                    "path": Key(STATIC, "The file; default: in the user's state folder."),
                    "sync": Key(Word(("normal", "full")), "full: durable at each commit, slower.", default="normal"),
                },
            ),
            "Where runs are kept, and how surely.",
        ),
    },
)

_ANSWER = Value()
TEST_CASE = Form(
    "a case",
    "One run of the routine, with what it is to come to.",
    {
        "name": Key(Text("a text", empty=False), "What the case shows.", required=True),
        "inputs": Key(VALUES, "The values given."),
        "stubs": Key(
            MapOf(_ANSWER, "a map of steps or tools and answers"),
            "Step path or tool → its answer; {error: {code, message}} fails it, {result: …} escapes.",
        ),
        "replies": Key(ListOf(VALUE, "a list of answers"), "What the scripted model answers, in order."),
        "cassette": Key(STATIC, "A recorded conversation that answers instead."),
        "clock": Key(
            Text("a time such as 2026-01-01T00:00:00Z", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")),
            "The time that stands still.",
        ),
        "generate": Key(Flag(), "Make up schema-correct answers for all that has no stub.", default=False),
        "live": Key(Flag(), "Let effects happen.", default=False),
        "expect": Key(
            Form(
                "expectations",
                "What must be true at the end.",
                {
                    "status": Key(Word(("completed", "failed", "cancelled", "suspended")), "How the run ends."),
                    "outputs": Key(VALUE, "The outputs, exactly."),
                    "error": Key(VALUE, "The error's code, or some of its fields."),
                    "steps": Key(VALUES, "Step path → status."),
                    "calls": Key(ListOf(VALUE, "a list of {tool, parameters}"), 'Calls made; "*" is the rest.'),
                    "that": Key(
                        ListOf(Expr(condition=True), "a list of expressions"),
                        "Expressions over steps, outputs, calls, events, credits and status that must hold.",
                    ),
                    "events": Key(TEXTS, "Types of events that happened, as patterns."),
                },
            ),
            "What must be true at the end.",
        ),
    },
)
TEST = Form(
    "a test file",
    "Tests of a routine: offline, with no key, the same each time.",
    {
        "routine": Key(STATIC, "The routine, relative to this file.", required=True),
        "cases": Key(ListOf(TEST_CASE, "a list of cases", least=1), "The cases.", required=True),
    },
)
