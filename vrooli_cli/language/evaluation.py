"""The interpreter of expressions: it walks Jinja's syntax tree over plain data, within bounds.

Nothing is compiled to Python and no Python attribute of a value is ever read or called: a node that is not in the table
at the end cannot be evaluated, and :func:`check` says so when the file is loaded. So the sandbox is what the table
offers, and every node, loop and filter counts against one :class:`Budget`. (Measured: Jinja's own way costs 415 µs to
compile an expression and 12 µs to run it; a walk costs about 1 µs a node and nothing to compile.)

A node's meaning is Jinja's, but for three things that spec routine.md asks for: ``a.b`` on a map is the key and never a
method, a field of null is null, and what is missing is an error unless ``default()`` or ``is defined`` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vrooli_cli.errors import ExpressionError, did_you_mean
from vrooli_cli.language import filters
from vrooli_cli.language.shapes import Slot, Words
from vrooli_cli.language.values import BITS, OUTPUT, Budget, Missing, MissingName, describe, lookup, text_of, too_large

NODES = 200  # of one expression (spec engine.md (i))
DEPTH = 100  # of one expression's tree
ALL_NODES = 20_000  # of one text with all its expressions

Node = Any
"""A node of jinja2's syntax tree; its class is known by name, so that jinja2 is imported by one module alone."""


class Evaluator:
    """One evaluation: the names it sees, the words of its slots, the variables of its loops, and its budget."""

    __slots__ = ("budget", "locals", "names", "words", "written")

    def __init__(self, names: Mapping[str, Any], words: Words = ()) -> None:
        self.names = names
        self.words = words
        self.locals: dict[str, Any] = {}
        self.budget = Budget()
        self.written = 0  # letters of a template's text so far

    def value(self, node: Node) -> Any:
        """What an expression comes to; raises ExpressionError when it is missing."""
        found = _VALUES[type(node).__name__](self, node)
        if isinstance(found, Missing):
            raise found.error()
        return found

    def loose(self, node: Node) -> Any:
        """The same, but what is missing is a :class:`Missing`."""
        return _VALUES[type(node).__name__](self, node)

    def render(self, body: list[Node], out: list[str]) -> None:
        """The text of a template's body, appended piece by piece."""
        for node in body:
            self.budget.tick()
            _STATEMENTS[type(node).__name__](self, node, out)


# -- values ------------------------------------------------------------------------------------------------------------


def _const(run: Evaluator, node: Node) -> Any:
    value = node.value
    return run.words[value] if type(value) is Slot else value


def _name(run: Evaluator, node: Node) -> Any:
    run.budget.tick()
    name = node.name
    if name in run.locals:
        return run.locals[name]
    try:
        return run.names[name]
    except KeyError:
        return None if name == "null" else MissingName(run.names, name)


def _getattr(run: Evaluator, node: Node) -> Any:
    run.budget.tick()
    field = node.attr
    return lookup(run.loose(node.node), run.words[field] if type(field) is Slot else field)


def _getitem(run: Evaluator, node: Node) -> Any:
    run.budget.tick()
    value = run.loose(node.node)
    if type(node.arg).__name__ != "Slice":
        return lookup(value, run.value(node.arg))
    if value is None or isinstance(value, Missing):
        return value
    if not isinstance(value, list | tuple | str):
        raise ExpressionError(f"{describe(value)} has no parts by position")
    bounds = [None if part is None else run.value(part) for part in (node.arg.start, node.arg.stop, node.arg.step)]
    if any(bound is not None and type(bound) is not int for bound in bounds) or bounds[2] == 0:
        raise ExpressionError("the bounds of [start:stop:step] must be whole numbers, the step not 0")
    run.budget.charge(8 * len(value))
    return value[slice(*bounds)]


def _sequence(run: Evaluator, node: Node) -> list[Any]:
    run.budget.items(len(node.items))
    return [run.value(item) for item in node.items]


def _map(run: Evaluator, node: Node) -> dict[Any, Any]:
    run.budget.items(2 * len(node.items))
    return {_key(run.value(pair.key)): run.value(pair.value) for pair in node.items}


def _key(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, int | float):
        return text_of(value)
    raise ExpressionError(f"the key of a map must be text, not {describe(value)}")


def _condition(run: Evaluator, node: Node) -> Any:
    if run.value(node.test):
        return run.loose(node.expr1)
    return None if node.expr2 is None else run.loose(node.expr2)


def _and(run: Evaluator, node: Node) -> Any:
    left = run.value(node.left)
    return run.value(node.right) if left else left


def _or(run: Evaluator, node: Node) -> Any:
    left = run.value(node.left)
    return left or run.value(node.right)


def _not(run: Evaluator, node: Node) -> bool:
    return not run.value(node.node)


def _concat(run: Evaluator, node: Node) -> str:
    parts = [text_of(run.value(part)) for part in node.nodes]
    run.budget.charge(sum(map(len, parts)))
    return "".join(parts)


_COMPARISONS: dict[str, Callable[[Budget, Any, Any], bool]] = {
    "eq": filters.equal,
    "ne": lambda budget, left, right: not filters.equal(budget, left, right),
    "lt": filters.less,
    "lteq": filters.less_or_equal,
    "gt": filters.greater,
    "gteq": filters.greater_or_equal,
    "in": filters.contained,
    "notin": lambda budget, left, right: not filters.contained(budget, left, right),
}


def _compare(run: Evaluator, node: Node) -> bool:
    left = run.value(node.expr)
    for operand in node.ops:
        run.budget.tick()
        right = run.value(operand.expr)
        if not _COMPARISONS[operand.op](run.budget, left, right):
            return False
        left = right
    return True


def _filter(run: Evaluator, node: Node) -> Any:
    run.budget.tick()
    function = filters.find_filter(node.name)
    if function is None:
        raise ExpressionError(f"there is no filter {node.name!r}")
    return _applied(run, node.name, function, node)


def _test(run: Evaluator, node: Node) -> bool:
    run.budget.tick()
    function = filters.find_test(node.name)
    if function is None:
        raise ExpressionError(f"there is no test {node.name!r}")
    return bool(_applied(run, f"is {node.name}", function, node))


def _applied(run: Evaluator, name: str, function: filters.Function, node: Node) -> Any:
    value = run.loose(node.node) if filters.takes_missing(function) else run.value(node.node)
    return _called(run, name, function, node, value)


def _called(run: Evaluator, name: str, function: filters.Function, node: Node, *first: Any) -> Any:
    args = [run.value(arg) for arg in node.args]
    named = {pair.key: run.value(pair.value) for pair in node.kwargs}
    try:
        return function(run.budget, *first, *args, **named)
    except TypeError as error:
        raise ExpressionError(f"{name}: {_argument_error(error)}") from None


def _argument_error(error: TypeError) -> str:
    """Python's own sentence without the function's inner name."""
    told = str(error)
    return told.partition("() ")[2] or told


def _call(run: Evaluator, node: Node) -> Any:
    run.budget.tick()
    callee = node.node
    if type(callee).__name__ == "Name":
        function = filters.find_function(callee.name)
        if function is None:
            raise ExpressionError(f"there is no function {callee.name!r}")
        return _called(run, callee.name, function, node)
    text = run.value(callee.node)
    method = filters.find_method(callee.attr)
    if text is None:
        return None
    if method is None or not isinstance(text, str):
        raise ExpressionError(f"{describe(text)} has no method {callee.attr!r}{_method_hint(text, callee.attr)}")
    return _called(run, callee.attr, method, node, text)


def _method_hint(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        return {
            "items": "; write `map | items`",
            "keys": "; write `map | list`",
            "get": "; write `map['key'] | default(…)`",
        }.get(name, "")
    return ""


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _operands(run: Evaluator, node: Node) -> tuple[Any, Any]:
    run.budget.tick()
    return run.value(node.left), run.value(node.right)


def _refuse(left: Any, operator: str, right: Any) -> ExpressionError:
    return ExpressionError(f"{describe(left)} {operator} {describe(right)} has no meaning")


def _numbers(left: Any, operator: str, right: Any) -> None:
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        raise _refuse(left, operator, right)
    for number in (left, right):
        if isinstance(number, int) and number.bit_length() > BITS:
            raise ExpressionError("the number is too large")


def _add(run: Evaluator, node: Node) -> Any:
    left, right = _operands(run, node)
    if isinstance(left, str) and isinstance(right, str):
        run.budget.charge(len(left) + len(right))
        return left + right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        run.budget.items(len(left) + len(right))
        return [*left, *right]
    _numbers(left, "+", right)
    return left + right


def _subtract(run: Evaluator, node: Node) -> Any:
    left, right = _operands(run, node)
    _numbers(left, "-", right)
    return left - right


def _multiply(run: Evaluator, node: Node) -> Any:
    left, right = _operands(run, node)
    if isinstance(right, str | list | tuple):
        left, right = right, left
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        size = len(left) * max(right, 0)
        if isinstance(left, str):
            run.budget.charge(size)
            return left * right
        run.budget.items(size)
        return list(left) * right
    _numbers(left, "*", right)
    return left * right


def _quotient(operator: str, divide: Callable[[Any, Any], Any]) -> Callable[[Evaluator, Node], Any]:
    def divided(run: Evaluator, node: Node) -> Any:
        left, right = _operands(run, node)
        if operator == "%" and isinstance(left, str):
            return filters.printf(run.budget, left, tuple(right) if isinstance(right, list) else right)
        _numbers(left, operator, right)
        if right == 0:
            raise ExpressionError("division by zero")
        return divide(left, right)

    return divided


def _power(run: Evaluator, node: Node) -> Any:
    left, right = _operands(run, node)
    _numbers(left, "**", right)
    if isinstance(left, int) and isinstance(right, int) and right > 0 and left.bit_length() * right > BITS:
        raise ExpressionError("the number is too large")
    if left == 0 and right < 0:
        raise ExpressionError("division by zero")
    return left**right


def _negative(run: Evaluator, node: Node) -> Any:
    value = run.value(node.node)
    _numbers(value, "-", value)
    return -value


def _positive(run: Evaluator, node: Node) -> Any:
    value = run.value(node.node)
    _numbers(value, "+", value)
    return +value


# -- statements of templates -------------------------------------------------------------------------------------------


def _output(run: Evaluator, node: Node, out: list[str]) -> None:
    for part in node.nodes:
        text = part.data if type(part).__name__ == "TemplateData" else text_of(run.value(part))
        run.written += len(text)
        run.budget.charge(len(text))
        if run.written > OUTPUT:
            too_large()
        out.append(text)


def _if(run: Evaluator, node: Node, out: list[str]) -> None:
    for branch in (node, *node.elif_):
        if run.value(branch.test):
            run.render(branch.body, out)
            return
    run.render(node.else_, out)


def _for(run: Evaluator, node: Node, out: list[str]) -> None:
    items = run.value(node.iter)
    if items is None:
        items = []
    if not isinstance(items, list | tuple | str | Mapping):
        raise ExpressionError(f"`for` needs a list or a map, not {describe(items)}")
    outer = run.locals
    rows = [row for row in _rows(run, node, list(items), outer) if node.test is None or _holds(run, node, row)]
    try:
        for index, row in enumerate(rows):
            run.budget.tick()
            run.locals = {**row, "loop": _loop(index, rows)}
            run.render(node.body, out)
    finally:
        run.locals = outer
    if not rows:
        run.render(node.else_, out)


def _rows(run: Evaluator, node: Node, items: list[Any], outer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    run.budget.items(len(items))
    for item in run.budget.each(items):
        row = dict(outer)
        _assign(node.target, item, row)
        yield row


def _holds(run: Evaluator, node: Node, row: dict[str, Any]) -> bool:
    outer, run.locals = run.locals, row
    try:
        return bool(run.value(node.test))
    finally:
        run.locals = outer


def _assign(target: Node, item: Any, row: dict[str, Any]) -> None:
    if type(target).__name__ == "Name":
        row[target.name] = item
        return
    if not isinstance(item, list | tuple) or len(item) != len(target.items):
        raise ExpressionError(f"`for` needs lists of {len(target.items)} items here, not {describe(item)}")
    for part, value in zip(target.items, item, strict=True):
        _assign(part, value, row)


def _loop(index: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    length = len(rows)
    return {
        "index": index + 1,
        "index0": index,
        "revindex": length - index,
        "revindex0": length - index - 1,
        "first": index == 0,
        "last": index == length - 1,
        "length": length,
    }


_VALUES: dict[str, Callable[[Evaluator, Node], Any]] = {
    "Add": _add,
    "And": _and,
    "Call": _call,
    "Compare": _compare,
    "Concat": _concat,
    "CondExpr": _condition,
    "Const": _const,
    "Dict": _map,
    "Div": _quotient("/", lambda left, right: left / right),
    "Filter": _filter,
    "FloorDiv": _quotient("//", lambda left, right: left // right),
    "Getattr": _getattr,
    "Getitem": _getitem,
    "List": _sequence,
    "Mod": _quotient("%", lambda left, right: left % right),
    "Mul": _multiply,
    "Name": _name,
    "Neg": _negative,
    "Not": _not,
    "Or": _or,
    "Pos": _positive,
    "Pow": _power,
    "Sub": _subtract,
    "Test": _test,
    "Tuple": _sequence,
}

_STATEMENTS: dict[str, Callable[[Evaluator, Node, list[str]], None]] = {"For": _for, "If": _if, "Output": _output}

_PARTS = frozenset({"Operand", "Pair", "Keyword", "Slice", "TemplateData"})


def evaluate(node: Node, names: Mapping[str, Any], words: Words = ()) -> Any:
    """An expression's value, within the bounds; raises ExpressionError.

    Args:
        node: Its tree, or the tree of its shape.
        names: What it may name.
        words: What stands in the slots of its shape.
    """
    run = Evaluator(names, words)
    return _bounded(lambda: run.value(node))


def render(body: list[Node], names: Mapping[str, Any]) -> str:
    """A template's text, within the bounds; raises ExpressionError."""
    run = Evaluator(names)
    out: list[str] = []
    _bounded(lambda: run.render(body, out))
    return "".join(out)


def _bounded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except RecursionError:
        raise ExpressionError("the expression or its data is nested too deeply") from None
    except MemoryError:
        too_large()
    except (ArithmeticError, ValueError) as error:  # overflow, digits of a huge number
        raise ExpressionError(f"the value cannot be computed: {error}") from None


# -- checks at load ----------------------------------------------------------------------------------------------------


def check(root: Node) -> Iterator[str]:
    """What is wrong with an expression's tree: an unknown filter, a call of data, too many nodes."""
    count = 0
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > NODES:
            yield f"the expression has more than {NODES} parts; make it shorter"
            return
        if depth > DEPTH:
            yield f"the expression is nested more than {DEPTH} levels deep"
            return
        wrong = _wrong(node)
        if wrong:
            yield wrong
        kind = type(node).__name__
        if kind not in ("Name", "Const"):
            stack.extend([(child, depth + 1) for child in node.iter_child_nodes()])


def check_template(body: list[Node]) -> Iterator[str]:
    """What is wrong with the trees of a template: a statement other than ``for`` and ``if``, and any expression's."""
    stack = list(body)
    count = 0
    while stack:
        node = stack.pop()
        count += 1
        kind = type(node).__name__
        if count > ALL_NODES:
            yield f"the template has more than {ALL_NODES} parts; make it shorter"
            return
        if kind not in _STATEMENTS:
            yield f"`{{% {kind.lower()} %}}` is not understood; there are `for` and `if`"
            continue
        if kind == "For" and node.recursive:
            yield "a recursive `for` is not understood"
        for child in node.iter_child_nodes():
            if type(child).__name__ in _STATEMENTS:
                stack.append(child)
            else:
                yield from check(child)


def _wrong(node: Node) -> str:
    kind = type(node).__name__
    if kind not in _VALUES and kind not in _PARTS:
        return f"{kind} is not part of vrooli's expressions"
    if getattr(node, "dyn_args", None) is not None or getattr(node, "dyn_kwargs", None) is not None:
        return "`*` and `**` arguments are not part of vrooli's expressions"
    rule = _RULES.get(kind)
    return rule(node) if rule else ""


def _wrong_filter(node: Node) -> str:
    return "" if node.name in filters.FILTERS else _unknown("filter", node.name, filters.FILTERS)


def _wrong_test(node: Node) -> str:
    return "" if node.name in filters.TESTS else _unknown("test", node.name, filters.TESTS)


def _wrong_attribute(node: Node) -> str:
    return f"a field beginning with `_` is written ['{node.attr}']" if node.attr.startswith("_") else ""


def _wrong_call(node: Node) -> str:
    callee = node.node
    kind = type(callee).__name__
    if kind == "Name":
        return "" if callee.name in filters.FUNCTIONS else _unknown("function", callee.name, filters.FUNCTIONS)
    if kind != "Getattr":
        return "a value cannot be called"
    if callee.attr in filters.METHODS:
        return ""
    return _unknown("method", callee.attr, filters.METHODS) + _method_hint({}, callee.attr)


def _unknown(what: str, name: str, known: Mapping[str, str]) -> str:
    hint = did_you_mean(name, known)
    if not hint and what in ("function", "method") and name in filters.FILTERS:
        hint = f"there is a filter: value | {name}"
    return f"there is no {what} {name!r}" + (f"; {hint}" if hint else "")


_RULES: dict[str, Callable[[Node], str]] = {
    "Call": _wrong_call,
    "Filter": _wrong_filter,
    "Getattr": _wrong_attribute,
    "Test": _wrong_test,
}
