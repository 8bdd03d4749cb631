"""The filters, tests, functions and text methods of expressions: everything that an expression can call.

Each is an ordinary function of its bounds and plain values; what it will make is charged before it is made. They have
Jinja's names and meaning, except that nothing escapes for HTML unless asked to, ``tojson`` keeps order and letters, and
there is nothing with regular expressions, randomness, files or a clock. The first line of a docstring is its help.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable, Mapping
from functools import cmp_to_key
from operator import ge, gt, le, lt
from posixpath import basename, dirname
from textwrap import wrap
from typing import Any
from urllib.parse import quote, urlencode

from vrooli_cli.errors import ExpressionError
from vrooli_cli.language.values import RANGE, Budget, Missing, describe, json_of, lookup, text_of, weigh

Function = Callable[..., Any]

_WORD_STARTS = re.compile(r"([-\s({\[<]+)")
_FORMAT = re.compile(r"%(?:%|\((?P<name>[^()]*)\)|)(?P<flags>[-+ #0]*)(?P<width>\d*)(?:\.(?P<exact>\d*))?(?P<kind>.?)")
_MAX_WIDTH = 10_000


# -- checks of arguments -----------------------------------------------------------------------------------------------


def _texts(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        raise ExpressionError(f"text was expected, not {describe(value)}")
    return text_of(value)


def _list(budget: Budget, value: Any) -> list[Any]:
    """The items of a list, the keys of a map, the letters of a text; null is an error."""
    if not isinstance(value, list | tuple | str | Mapping):
        raise ExpressionError(f"a list was expected, not {describe(value)}")
    budget.items(len(value))
    return list(budget.each(value))


def _whole(value: Any, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ExpressionError(f"{what} must be a whole number from {low} to {high}")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    raise ExpressionError(f"a number was expected, not {describe(value)}")


def _path(attribute: Any) -> Callable[[Any], Any]:
    """What ``attribute='a.b.0'`` reads of an item; None is the item itself."""
    if attribute is None:
        return lambda item: item
    keys = [attribute] if isinstance(attribute, int) else [_key(part) for part in str(attribute).split(".")]

    def read(item: Any) -> Any:
        for key in keys:
            item = lookup(item, key)
        return item

    return read


def _key(part: str) -> str | int:
    return int(part) if part.isascii() and part.isdigit() and len(part) < 10 else part


def _present(value: Any) -> Any:
    if isinstance(value, Missing):
        raise value.error()
    return value


def _order(budget: Budget, case_sensitive: bool) -> Callable[[Any], Any]:
    """A sort key by the natural order, of letters' case only if asked for; what has no order is an error."""

    def compare(left: Any, right: Any) -> int:
        budget.tick()
        if not case_sensitive:
            left = left.lower() if isinstance(left, str) else left
            right = right.lower() if isinstance(right, str) else right
        try:
            return -1 if left < right else int(right < left)
        except TypeError:
            raise ExpressionError(f"{describe(left)} and {describe(right)} have no order") from None

    return cmp_to_key(compare)


def _identity(value: Any, case_sensitive: bool = True) -> Any:
    """Equal for equal values, and hashable."""
    if isinstance(value, str):
        return value if case_sensitive else value.lower()
    if isinstance(value, list | tuple | Mapping):
        weigh(value)
        return ("json", json.dumps(value, sort_keys=True, default=dict))
    return value


# -- filters -----------------------------------------------------------------------------------------------------------


def _abs(_: Budget, value: Any) -> Any:
    """A number without its sign."""
    return abs(_number(value))


def _b64decode(budget: Budget, value: Any) -> str:
    """The text that base64 or base64url stands for."""
    text = _texts(value)
    budget.charge(len(text))
    try:
        data = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
        return data.decode()
    except (ValueError, binascii.Error):
        raise ExpressionError("the text is not base64 of UTF-8 text") from None


def _b64encode(budget: Budget, value: Any) -> str:
    """The text's UTF-8 bytes in base64."""
    text = _texts(value)
    budget.charge(len(text) * 4)
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _basename(_: Budget, value: Any) -> str:
    """The last part of a path."""
    return basename(_texts(value))


def _batch(budget: Budget, value: Any, linecount: Any, fill_with: Any = None) -> list[list[Any]]:
    """Lists of ``linecount`` items each; the last one filled with ``fill_with`` if given."""
    items = _list(budget, value)
    size = _whole(linecount, 1, RANGE, "the size of a batch")
    rows = [items[start : start + size] for start in range(0, len(items), size)]
    if rows and fill_with is not None:
        rows[-1] += [fill_with] * (size - len(rows[-1]))
    return rows


def _capitalize(budget: Budget, value: Any) -> str:
    """The first letter upper case, the others lower case."""
    return _mapped(budget, value, str.capitalize)


def _center(budget: Budget, value: Any, width: Any = 80) -> str:
    """The text in the middle of ``width`` columns."""
    size = _whole(width, 0, _MAX_WIDTH, "the width")
    budget.charge(size)
    return _texts(value).center(size)


def _default(_: Budget, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    """Another value where there is none; with ``true`` as second argument also for null, false, 0 and empty."""
    if isinstance(value, Missing) or (boolean and not value):
        return default_value
    return value


def _dictsort(budget: Budget, value: Any, case_sensitive: Any = False, by: Any = "key", reverse: Any = False) -> Any:
    """The [key, value] pairs of a map, in order of key (or ``by='value'``)."""
    if by not in ("key", "value"):
        raise ExpressionError("dictsort: `by` must be 'key' or 'value'")
    order = _order(budget, bool(case_sensitive))
    pairs = _items(budget, value)
    return sorted(pairs, key=lambda pair: order(pair[by == "value"]), reverse=bool(reverse))


def _dirname(_: Budget, value: Any) -> str:
    """A path without its last part."""
    return dirname(_texts(value))


def _escape(budget: Budget, value: Any) -> str:
    """The text with ``& < > " '`` written for HTML."""
    return _mapped(budget, value, html.escape, growth=6)


def _filesizeformat(_: Budget, value: Any, binary: Any = False) -> str:
    """A count of bytes for people: 13 kB, 4.1 MB; ``true`` for KiB, MiB."""
    size = float(_number(value))
    base, units = (1024, ("KiB", "MiB", "GiB", "TiB")) if binary else (1000, ("kB", "MB", "GB", "TB"))
    if abs(size) < base:
        return f"{size:g} Byte" if size == 1 else f"{size:g} Bytes"
    for unit in units[:-1]:
        size /= base
        if abs(size) < base:
            return f"{size:.1f} {unit}"
    return f"{size / base:.1f} {units[-1]}"


def _first(_: Budget, value: Any) -> Any:
    """The first item; nothing (for ``default``) when there is none."""
    if isinstance(value, Mapping):
        return next(iter(value), Missing(value, 0))
    return lookup(_sized(value), 0)


def _float(_: Budget, value: Any, default: Any = 0.0) -> Any:
    """The number that a text stands for, or ``default``."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def _format(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> str:
    """``'%05.2f %s' | format(x, y)``: a number's or text's form, as printf has it."""
    return printf(budget, _texts(value), kwargs or args)


def _fromjson(budget: Budget, value: Any) -> Any:
    """The value that a JSON text stands for."""
    text = _texts(value)
    budget.charge(len(text) * 4)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise ExpressionError(f"the text is not JSON: {error}") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _groupby(budget: Budget, value: Any, attribute: Any, default: Any = None, case_sensitive: Any = False) -> Any:
    """Items with the same attribute together, in its order: a list of {grouper, list}."""
    read = _path(attribute)
    groups: dict[Any, dict[str, Any]] = {}
    for item in _list(budget, value):
        found = read(item)
        if isinstance(found, Missing):
            if default is None:
                raise found.error()
            found = default
        groups.setdefault(_identity(found, bool(case_sensitive)), {"grouper": found, "list": []})["list"].append(item)
    order = _order(budget, bool(case_sensitive))
    return sorted(groups.values(), key=lambda group: order(group["grouper"]))


def _indent(budget: Budget, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> str:
    """Every line but the first further right by ``width`` columns, or by the text ``width``."""
    text = _texts(value)
    shift = width if isinstance(width, str) else " " * _whole(width, 0, _MAX_WIDTH, "the width")
    budget.charge(len(text) + (text.count("\n") + 1) * len(shift))
    lines = text.split("\n")
    moved = [shift + line if line or blank else line for line in lines[1:]]
    return "\n".join([shift + lines[0] if first else lines[0], *moved])


def _int(_: Budget, value: Any, default: Any = 0, base: Any = 10) -> Any:
    """The whole number that a text or number stands for, or ``default``."""
    try:
        if isinstance(value, str):
            return int(value, _whole(base, 2, 36, "the base"))
        return int(value)
    except (TypeError, ValueError, OverflowError):
        try:
            return int(float(value))
        except (TypeError, ValueError, OverflowError):
            return default


def _items(budget: Budget, value: Any) -> list[list[Any]]:
    """The [key, value] pairs of a map."""
    if value is None or isinstance(value, Missing):
        return []
    if not isinstance(value, Mapping):
        raise ExpressionError(f"a map was expected, not {describe(value)}")
    budget.items(len(value) * 3)
    return [[key, value[key]] for key in budget.each(value)]


def _join(budget: Budget, value: Any, d: Any = "", attribute: Any = None) -> str:
    """The items' texts as one, with a text between them."""
    read = _path(attribute)
    between = _texts(d)
    parts = []
    for item in _list(budget, value):
        parts.append(text_of(_present(read(item))))
        budget.charge(len(parts[-1]) + len(between))
    budget.charge(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _last(_: Budget, value: Any) -> Any:
    """The last item; nothing (for ``default``) when there is none."""
    if isinstance(value, Mapping):
        return next(reversed(list(value)), Missing(value, -1))
    return lookup(_sized(value), -1)


def _length(_: Budget, value: Any) -> int:
    """How many items, fields or letters there are."""
    return len(_sized(value))


def _sized(value: Any) -> Any:
    if isinstance(value, list | tuple | str | Mapping):
        return value
    raise ExpressionError(f"a list, a map or text was expected, not {describe(value)}")


def _as_list(budget: Budget, value: Any) -> list[Any]:
    """The items as a list: the keys of a map, the letters of a text."""
    return _list(budget, value)


def _lower(budget: Budget, value: Any) -> str:
    """Lower case."""
    return _mapped(budget, value, str.lower)


def _mapped(budget: Budget, value: Any, change: Callable[[str], str], growth: int = 3) -> str:
    text = _texts(value)
    budget.charge(len(text) * (1 if text.isascii() and growth == 3 else growth))
    return change(text)


def _map(
    budget: Budget, value: Any, *args: Any, attribute: Any = None, default: Any = None, **kwargs: Any
) -> list[Any]:
    """Each item's ``attribute='a.b'`` (with ``default=``), or each item put through the filter named."""
    items = _list(budget, value)
    if attribute is None:
        call = _named(args, _FILTERS, "map", "filter")
        return [call(budget, item, *args[1:], **kwargs) for item in budget.each(items)]
    read = _path(attribute)
    found = [read(item) for item in budget.each(items)]
    return [default if isinstance(one, Missing) and default is not None else _present(one) for one in found]


def _named(args: tuple[Any, ...], table: Mapping[str, Function], who: str, what: str) -> Function:
    name = args[0] if args else None
    if not isinstance(name, str) or name not in table:
        raise ExpressionError(f"{who} needs the name of a {what}, not {name!r:.60}")
    return table[name]


def _max(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
    """The largest item, by an attribute if given."""
    return _extreme(budget, value, max, case_sensitive, attribute)


def _min(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
    """The smallest item, by an attribute if given."""
    return _extreme(budget, value, min, case_sensitive, attribute)


def _extreme(budget: Budget, value: Any, best: Callable[..., Any], case_sensitive: Any, attribute: Any) -> Any:
    items = _list(budget, value)
    if not items:
        return Missing(items, 0)
    order, read = _order(budget, bool(case_sensitive)), _path(attribute)
    return best(items, key=lambda item: order(_present(read(item))))


def _raw(_: Budget, value: Any) -> Any:
    """The value as it is; in a shell command: as part of the command's text, not as one argument."""
    return value


def _reject(budget: Budget, value: Any, *args: Any) -> list[Any]:
    """The items for which the test named does not hold (without a test: the false ones)."""
    return _chosen(budget, value, None, args, wanted=False)


def _rejectattr(budget: Budget, value: Any, attribute: Any, *args: Any) -> list[Any]:
    """The items whose attribute does not pass the test named."""
    return _chosen(budget, value, attribute, args, wanted=False)


def _select(budget: Budget, value: Any, *args: Any) -> list[Any]:
    """The items for which the test named holds (without a test: the true ones)."""
    return _chosen(budget, value, None, args, wanted=True)


def _selectattr(budget: Budget, value: Any, attribute: Any, *args: Any) -> list[Any]:
    """The items whose attribute passes the test named: ``selectattr('status', 'eq', 'failed')``."""
    return _chosen(budget, value, attribute, args, wanted=True)


def _chosen(budget: Budget, value: Any, attribute: Any, args: tuple[Any, ...], *, wanted: bool) -> list[Any]:
    read = _path(attribute)
    test = _named(args, _TESTS, "select", "test") if args else None
    found = []
    for item in _list(budget, value):
        one = read(item)
        if test is None:
            holds = not isinstance(one, Missing) and bool(one)
        else:
            one = one if test in _TAKE_MISSING else _present(one)
            holds = bool(test(budget, one, *args[1:]))
        if holds is wanted:
            found.append(item)
    return found


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: Any = None) -> str:
    """The text with ``old`` replaced by ``new``, everywhere or the first ``count`` times."""
    text, old, new = _texts(value), _texts(old), _texts(new)
    times = -1 if count is None else _whole(count, 0, 1 << 30, "the count")
    hits = text.count(old) if times < 0 else min(times, text.count(old))
    budget.charge(len(text) + hits * len(new))
    return text.replace(old, new, times)


def _reverse(budget: Budget, value: Any) -> Any:
    """The items, or the letters, from the end."""
    if isinstance(value, str):
        budget.charge(len(value))
        return value[::-1]
    return _list(budget, value)[::-1]


def _round(_: Budget, value: Any, precision: Any = 0, method: Any = "common") -> int | float:
    """A number with ``precision`` digits after the point; method ``common``, ``ceil`` or ``floor``."""
    number, digits = _number(value), _whole(precision, -300, 300, "the precision")
    if method == "common":
        return round(number, digits)
    if method not in ("ceil", "floor"):
        raise ExpressionError("round: the method must be 'common', 'ceil' or 'floor'")
    scaled = float(number) * 10.0**digits
    whole = scaled // 1 if method == "floor" else -(-scaled // 1)
    return float(whole / 10.0**digits)


def _slice(budget: Budget, value: Any, slices: Any, fill_with: Any = None) -> list[list[Any]]:
    """The items in ``slices`` lists of about the same length."""
    items = _list(budget, value)
    count = _whole(slices, 1, RANGE, "the number of slices")
    each, extra = divmod(len(items), count)
    rows, start = [], 0
    for index in range(count):
        end = start + each + (index < extra)
        row = items[start:end]
        if fill_with is not None and index >= extra:
            row.append(fill_with)
        rows.append(row)
        start = end
    return rows


def _sort(budget: Budget, value: Any, reverse: Any = False, case_sensitive: Any = False, attribute: Any = None) -> Any:
    """The items in order, by ``attribute='a,b'`` if given."""
    items = _list(budget, value)
    order = _order(budget, bool(case_sensitive))
    reads = [_path(part) for part in str(attribute).split(",")] if attribute is not None else [_path(None)]
    keys = [tuple(order(_present(read(item))) for read in reads) for item in items]
    ranks = sorted(range(len(items)), key=keys.__getitem__, reverse=bool(reverse))
    return [items[rank] for rank in ranks]


def _string(budget: Budget, value: Any) -> str:
    """The value's text: lists and maps as JSON."""
    text = text_of(value)
    budget.charge(len(text))
    return text


def _sum(budget: Budget, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    """The numbers' sum, of an attribute if given."""
    read = _path(attribute)
    total = _number(start)
    for item in _list(budget, value):
        total += _number(_present(read(item)))
    return total


def _title(budget: Budget, value: Any) -> str:
    """Every word with an upper case letter first."""
    return _mapped(budget, value, _titled)


def _titled(text: str) -> str:
    return "".join(part[0].upper() + part[1:].lower() for part in _WORD_STARTS.split(text) if part)


def _tojson(budget: Budget, value: Any, indent: Any = None) -> str:
    """The value as JSON, on one line or indented by ``indent`` columns."""
    text = json_of(value, None if indent is None else _whole(indent, 0, 16, "the indent"))
    budget.charge(len(text))
    return text


def _trim(budget: Budget, value: Any, chars: Any = None) -> str:
    """The text without white space (or ``chars``) at both ends."""
    return _mapped(budget, value, lambda text: text.strip(chars if chars is None else _texts(chars)))


def _truncate(
    budget: Budget, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = 5
) -> str:
    """At most ``length`` letters, cut at a word (``true``: anywhere), with ``end`` for the rest."""
    text, mark = _texts(value), _texts(end)
    size = _whole(length, len(mark), 1 << 30, "the length")
    if len(text) <= size + _whole(leeway, 0, 1 << 30, "the leeway"):
        return text
    budget.charge(size)
    kept = text[: size - len(mark)]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + mark


def _unique(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    """Each different item once, the first of its kind."""
    read = _path(attribute)
    seen: dict[Any, Any] = {}
    for item in _list(budget, value):
        seen.setdefault(_identity(_present(read(item)), bool(case_sensitive)), item)
    return list(seen.values())


def _upper(budget: Budget, value: Any) -> str:
    """Upper case."""
    return _mapped(budget, value, str.upper)


def _urlencode(budget: Budget, value: Any) -> str:
    """Text for a URL; a map, or a list of pairs, as a query."""
    if isinstance(value, Mapping | list | tuple):
        pairs = _items(budget, value) if isinstance(value, Mapping) else _list(budget, value)
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise ExpressionError("urlencode: a list must hold [key, value] pairs")
        texts = [(text_of(key), text_of(one)) for key, one in pairs]
        budget.charge(sum(12 * (len(key) + len(one)) for key, one in texts))
        return urlencode(texts, quote_via=quote)
    return _mapped(budget, value, lambda text: quote(text, safe="/", errors="surrogatepass"), growth=12)


def _wordcount(budget: Budget, value: Any) -> int:
    """How many words a text has."""
    text = _texts(value)
    budget.charge(len(text) * 8)
    return len(re.findall(r"\w+", text))


def _wordwrap(budget: Budget, value: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = "\n") -> str:
    """The text in lines of at most ``width`` letters."""
    text, mark = _texts(value), _texts(wrapstring)
    columns = _whole(width, 1, 1 << 30, "the width")
    budget.charge(len(text) * (1 + len(mark)))
    lines = []
    for line in budget.each(text.splitlines()):
        if len(line) > RANGE:
            raise ExpressionError(f"wordwrap: a line is longer than {RANGE:,} letters")
        wrapped = wrap(
            line, columns, expand_tabs=False, replace_whitespace=False, break_long_words=bool(break_long_words)
        )
        lines.append(mark.join(wrapped))
    return mark.join(lines)


_FILTERS: dict[str, Function] = {
    "abs": _abs,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": _basename,
    "batch": _batch,
    "capitalize": _capitalize,
    "center": _center,
    "count": _length,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "dirname": _dirname,
    "e": _escape,
    "escape": _escape,
    "filesizeformat": _filesizeformat,
    "first": _first,
    "float": _float,
    "format": _format,
    "fromjson": _fromjson,
    "groupby": _groupby,
    "indent": _indent,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _as_list,
    "lower": _lower,
    "map": _map,
    "max": _max,
    "min": _min,
    "raw": _raw,
    "reject": _reject,
    "rejectattr": _rejectattr,
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "select": _select,
    "selectattr": _selectattr,
    "slice": _slice,
    "sort": _sort,
    "string": _string,
    "sum": _sum,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "unique": _unique,
    "upper": _upper,
    "urlencode": _urlencode,
    "wordcount": _wordcount,
    "wordwrap": _wordwrap,
}


def printf(budget: Budget, form: str, args: Any) -> str:
    """``form % args`` for numbers and text, with widths that stay small."""
    size = len(form)
    for match in _FORMAT.finditer(form):
        if match["kind"] == "*" or "*" in match[0]:
            raise ExpressionError("a format's width must be written out, not `*`")
        width = max(int((match["width"] or "0")[:9]), int((match["exact"] or "0")[:9]))
        size += _whole(width, 0, _MAX_WIDTH, "the width of a format")
    if isinstance(args, Mapping):
        filled: Any = {key: _printable(one) for key, one in args.items()}
        texts = list(filled.values())
    else:
        filled = tuple(_printable(one) for one in (args if isinstance(args, tuple) else (args,)))
        texts = list(filled)
    longest = max((len(one) for one in texts if isinstance(one, str)), default=0)
    budget.charge(size + form.count("%") * max(longest, 1_300))
    try:
        return str(form % filled)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ExpressionError(f"the format does not fit its values: {error}") from None


def _printable(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)


# -- tests -------------------------------------------------------------------------------------------------------------


def _is_defined(_: Budget, value: Any) -> bool:
    """It is there (null is there, too)."""
    return not isinstance(value, Missing)


def _is_undefined(_: Budget, value: Any) -> bool:
    """It is not there."""
    return isinstance(value, Missing)


def _is_none(_: Budget, value: Any) -> bool:
    """It is null."""
    return value is None


def _is_boolean(_: Budget, value: Any) -> bool:
    """It is true or false."""
    return isinstance(value, bool)


def _is_true(_: Budget, value: Any) -> bool:
    """It is true itself."""
    return value is True


def _is_false(_: Budget, value: Any) -> bool:
    """It is false itself."""
    return value is False


def _is_integer(_: Budget, value: Any) -> bool:
    """It is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(_: Budget, value: Any) -> bool:
    """It is a number with a fraction part."""
    return isinstance(value, float)


def _is_number(_: Budget, value: Any) -> bool:
    """It is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_string(_: Budget, value: Any) -> bool:
    """It is text."""
    return isinstance(value, str)


def _is_mapping(_: Budget, value: Any) -> bool:
    """It is a map."""
    return isinstance(value, Mapping)


def _is_sequence(_: Budget, value: Any) -> bool:
    """It is a list, a map or text: it has a length."""
    return isinstance(value, list | tuple | str | Mapping)


def _is_odd(_: Budget, value: Any) -> bool:
    """The number is odd."""
    return _number(value) % 2 == 1


def _is_even(_: Budget, value: Any) -> bool:
    """The number is even."""
    return _number(value) % 2 == 0


def _is_divisibleby(_: Budget, value: Any, num: Any) -> bool:
    """The number can be divided without a rest."""
    if _number(num) == 0:
        raise ExpressionError("division by zero")
    return _number(value) % _number(num) == 0


def _is_lower(_: Budget, value: Any) -> bool:
    """The text has no upper case letter."""
    return _texts(value).islower()


def _is_upper(_: Budget, value: Any) -> bool:
    """The text has no lower case letter."""
    return _texts(value).isupper()


def equal(_: Budget, left: Any, right: Any) -> bool:
    """The two are equal."""
    _comparable(left, right)
    return bool(left == right)


def _unequal(_: Budget, left: Any, right: Any) -> bool:
    """The two are not equal."""
    _comparable(left, right)
    return bool(left != right)


def contained(_: Budget, value: Any, inside: Any) -> bool:
    """It is an item of the list, a key of the map, a part of the text."""
    _comparable(value, inside)
    if isinstance(inside, str) and not isinstance(value, str):
        raise ExpressionError(f"`in` a text needs text on its left, not {describe(value)}")
    if not isinstance(inside, str | list | tuple | Mapping):
        raise ExpressionError(f"`in` needs a list, a map or text on its right, not {describe(inside)}")
    try:
        return value in inside
    except TypeError:  # a list or map is never a key
        return False


def _comparable(left: Any, right: Any) -> None:
    """Comparing walks shared parts again and again: refuse what would never end."""
    if isinstance(left, list | tuple | Mapping) and isinstance(right, list | tuple | Mapping):
        weigh(left)
        weigh(right)


def _ordered(compare: Callable[[Any, Any], bool], help_: str) -> Function:
    def test(_: Budget, left: Any, right: Any) -> bool:
        _comparable(left, right)
        try:
            return bool(compare(left, right))
        except TypeError:
            raise ExpressionError(f"{describe(left)} and {describe(right)} have no order") from None

    test.__doc__ = help_
    return test


less = _ordered(lt, "The left one is smaller.")
less_or_equal = _ordered(le, "The left one is smaller, or the two are equal.")
greater = _ordered(gt, "The left one is larger.")
greater_or_equal = _ordered(ge, "The left one is larger, or the two are equal.")


_TESTS: dict[str, Function] = {
    "!=": _unequal,
    "<": less,
    "<=": less_or_equal,
    "==": equal,
    ">": greater,
    ">=": greater_or_equal,
    "boolean": _is_boolean,
    "defined": _is_defined,
    "divisibleby": _is_divisibleby,
    "eq": equal,
    "equalto": equal,
    "even": _is_even,
    "false": _is_false,
    "float": _is_float,
    "ge": greater_or_equal,
    "greaterthan": greater,
    "gt": greater,
    "in": contained,
    "integer": _is_integer,
    "iterable": _is_sequence,
    "le": less_or_equal,
    "lessthan": less,
    "lower": _is_lower,
    "lt": less,
    "mapping": _is_mapping,
    "ne": _unequal,
    "none": _is_none,
    "null": _is_none,
    "number": _is_number,
    "odd": _is_odd,
    "sequence": _is_sequence,
    "string": _is_string,
    "true": _is_true,
    "undefined": _is_undefined,
    "upper": _is_upper,
}

_TAKE_MISSING: frozenset[Function] = frozenset({_is_defined, _is_undefined, _default})


# -- functions and methods ---------------------------------------------------------------------------------------------


def _range(budget: Budget, *args: Any) -> list[int]:
    """``range(stop)``, ``range(start, stop)`` or ``range(start, stop, step)``: the numbers as a list."""
    if not 1 <= len(args) <= 3 or any(type(arg) is not int for arg in args) or args[2:] == (0,):
        raise ExpressionError("range takes one to three whole numbers, the step not 0")
    numbers = range(*args)
    try:
        count = len(numbers)
    except OverflowError:
        count = RANGE + 1
    if count > RANGE:
        raise ExpressionError(f"range is too long: at most {RANGE:,} numbers")
    budget.items(count)
    return list(numbers)


def _split(budget: Budget, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    """The parts between ``sep``, or between white space."""
    between = None if sep is None else _texts(sep)
    if between == "":
        raise ExpressionError("split: the separator is empty")
    limit = _whole(maxsplit, -1, 1 << 30, "maxsplit")
    budget.items((len(text) // 2 if between is None else text.count(between)) + 1)
    budget.charge(len(text))
    return text.split(between, limit)


def _splitlines(budget: Budget, text: str) -> list[str]:
    """The lines."""
    budget.items(text.count("\n") + text.count("\r") + 1)
    budget.charge(len(text))
    return text.splitlines()


def _startswith(_: Budget, text: str, prefix: Any) -> bool:
    """The text begins so."""
    return text.startswith(_texts(prefix))


def _endswith(_: Budget, text: str, suffix: Any) -> bool:
    """The text ends so."""
    return text.endswith(_texts(suffix))


def _removeprefix(budget: Budget, text: str, prefix: Any) -> str:
    """The text without this beginning."""
    budget.charge(len(text))
    return text.removeprefix(_texts(prefix))


def _removesuffix(budget: Budget, text: str, suffix: Any) -> str:
    """The text without this end."""
    budget.charge(len(text))
    return text.removesuffix(_texts(suffix))


def _lstrip(budget: Budget, text: str, chars: Any = None) -> str:
    """The text without white space (or ``chars``) at its beginning."""
    budget.charge(len(text))
    return text.lstrip(chars if chars is None else _texts(chars))


def _rstrip(budget: Budget, text: str, chars: Any = None) -> str:
    """The text without white space (or ``chars``) at its end."""
    budget.charge(len(text))
    return text.rstrip(chars if chars is None else _texts(chars))


def _find(_: Budget, text: str, part: Any) -> int:
    """Where a part begins, from 0; -1 when it is not there."""
    return text.find(_texts(part))


def _occurrences(_: Budget, text: str, part: Any) -> int:
    """How often a part occurs."""
    return text.count(_texts(part))


def _isdigit(_: Budget, text: str) -> bool:
    """There are only digits."""
    return text.isdigit()


def _join_method(budget: Budget, text: str, items: Any) -> str:
    """The items' texts with this text between them."""
    return _join(budget, items, text)


_FUNCTIONS: dict[str, Function] = {"range": _range}

_METHODS: dict[str, Function] = {
    "capitalize": _capitalize,
    "count": _occurrences,
    "endswith": _endswith,
    "find": _find,
    "isdigit": _isdigit,
    "join": _join_method,
    "lower": _lower,
    "lstrip": _lstrip,
    "removeprefix": _removeprefix,
    "removesuffix": _removesuffix,
    "replace": _replace,
    "rstrip": _rstrip,
    "split": _split,
    "splitlines": _splitlines,
    "startswith": _startswith,
    "strip": _trim,
    "title": _title,
    "upper": _upper,
}


def takes_missing(function: Function) -> bool:
    """True for what may be asked about something that is not there: ``default``, ``is defined``, ``is undefined``."""
    return function in _TAKE_MISSING


def find_filter(name: str) -> Function | None:
    """The filter of that name."""
    return _FILTERS.get(name)


def find_test(name: str) -> Function | None:
    """The test of that name."""
    return _TESTS.get(name)


def find_function(name: str) -> Function | None:
    """The function of that name."""
    return _FUNCTIONS.get(name)


def find_method(name: str) -> Function | None:
    """The method of text of that name."""
    return _METHODS.get(name)


def _help(table: Mapping[str, Function]) -> dict[str, str]:
    return {name: (function.__doc__ or "").split("\n", 1)[0] for name, function in table.items()}


FILTERS: Mapping[str, str] = _help(_FILTERS)
"""``value | name(…)``: every filter with its meaning in a line."""

TESTS: Mapping[str, str] = _help(_TESTS)
"""``value is name(…)``: every test with its meaning in a line."""

FUNCTIONS: Mapping[str, str] = _help(_FUNCTIONS)
"""``name(…)``: every function with its meaning in a line."""

METHODS: Mapping[str, str] = _help(_METHODS)
"""``text.name(…)``: every method of text with its meaning in a line."""
