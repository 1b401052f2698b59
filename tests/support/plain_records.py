"""Records near to what the compiled reader of JSON knows: plain ones, odd ones, broken ones.

All is drawn from a ``random.Random``: hundreds of records for each number that Hypothesis draws.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from random import Random
from types import ModuleType
from typing import Any

import msgspec
import pytest

from streamapp.records import Record

INT, FLOAT, TEXT, BOOL = range(4)
TYPES = {INT: int, FLOAT: float, TEXT: str, BOOL: bool}

#: Names that begin alike, that fill a word, that are longer than the five words of a step.
NAMES = [
    *("a", "ab", "abc", "b", "id", "user", "user_id", "ts", "amount", "", "abcdefgh", "abcdefg"),
    *(
        "x" * 33,
        "x" * 34,
        "x" * 35,
        "x" * 36,
        "x" * 37,
        "y" * 41,
        "y" * 90,
        "é",
        "é2",
        "日本語",
        "😀",
    ),
]
STRANGERS = [*NAMES, "none", "abcd", "use", "useR", "x" * 38, "y" * 42, "ё"]
SPACES = [b"", b"", b"", b"", b" ", b"\n", b"\t\r\n ", b" " * 40]
BAD_SPACES = [b"\x0b", b"\xa0", b"\x00", b"\xef\xbb\xbf", b"/**/", b"\xe2\x80\x83"]
NUMBERS = [
    *(b"0", b"-0", b"00", b"01", b"-01", b"-", b"+1", b".5", b"1.", b"1.e1", b"1e", b"1e+", b"0x1"),
    *(
        b"0.0",
        b"-0.0",
        b"-0e5",
        b"0e0",
        b"1e5",
        b"1E-5",
        b"-1.5e+3",
        b"1e400",
        b"-1e400",
        b"1e-400",
    ),
    *(b"-1e-400", b"5e-324", b"4.9e-324", b"2.4703282292062327e-324", b"2.2250738585072011e-308"),
    *(b"1.7976931348623157e308", b"1.7976931348623159e308", b"0." + b"0" * 30 + b"1", b"1_0"),
    *(
        b"999999999999999999",
        b"1000000000000000000",
        b"9223372036854775807",
        b"9223372036854775808",
    ),
    *(b"-9223372036854775807", b"-9223372036854775808", b"-9223372036854775809", b"-0.00"),
    *(b"9007199254740991", b"9007199254740992", b"9007199254740993", b"9007199254740993.0"),
    *(b"900719925474099.3", b"0.30000000000000004", b"0.1", b"123456789012345678", b"1" * 400),
    *(b"18446744073709551616", b"18446744073709551617", b"184467440737095516.16", b"1" + b"0" * 30),
    *(
        b"1" * 17 + b".5",
        b"1." + b"3" * 17,
        b"1." + b"3" * 18,
        b"0." + b"9" * 19,
        b"NaN",
        b"Infinity",
    ),
]
PIECES = [
    *(
        b"",
        b"a",
        b"user-00042",
        b"x" * 7,
        b"x" * 8,
        b"y" * 63,
        b"y" * 64,
        b"y" * 65,
        b"\x7f",
        b"{}[],:",
    ),
    *(
        "é".encode(),
        "日本".encode(),
        "😀".encode(),
        "\u0080\u07ff\u0800\ud7ff\ue000\uffff".encode(),
    ),
]
ODD_PIECES = [
    *(
        rb"\n",
        rb"\"",
        rb"\\",
        rb"\u0041",
        rb"\ud800",
        rb"\ud83d\ude00",
        rb"\x",
        b"\\",
        b'"',
        b"\x00",
    ),
    *(b"\x1f", b"\n", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xff"),
    *(b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98"),
]
#: Around the depth that the reader passes over, and the one that is refused.
DEPTHS = [1, 2, 5, 29, 30, 31, 32, 33, 126, 127, 128, 129]


class Bytes(bytes):
    """No exact bytes: who subclasses them may do so for a reason."""


STRANGE: list[object] = [None, "{}", b"", bytearray(b"{}"), memoryview(b"{}"), 7, b"null", b"[]"]

Shape = list[tuple[str, int]]


def reader_module() -> ModuleType:
    """Return the compiled module; where it is not built tests are skipped, but fail in CI."""
    try:
        from streamapp.serde import plain_json  # noqa: PLC0415 - it may be missing
    except ImportError:
        reason = "streamapp.serde.plain_json is not built: it needs a C compiler; pip install -e ."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    return plain_json


def record_type(shape: Shape) -> type[Record]:
    """Return a type whose field ``f3`` is the fourth of the shape."""
    fields = [(f"f{i}", TYPES[kind]) for i, (_, kind) in enumerate(shape)]
    names = {f"f{i}": name for i, (name, _) in enumerate(shape)}
    made = msgspec.defstruct("Drawn", fields, bases=(Record,), rename=names)
    assert issubclass(made, Record)
    return made


def declared(shape: Shape) -> list[tuple[bytes, int, int]]:
    """Return the shape as the reader takes it."""
    return [(name.encode(), kind, 0) for name, kind in shape]


def draw_shape(random: Random) -> Shape:
    """Return some fields; rarely as many as there can be."""
    if not random.randrange(12):
        return [(f"field_{i}", random.randrange(4)) for i in range(random.choice([62, 63]))]
    names = random.sample(NAMES, random.randint(1, 5))
    return [(name, random.randrange(4)) for name in names]


def number(random: Random) -> bytes:
    """Return digits of any length around points and exponents."""
    if random.randrange(3):
        return random.choice(NUMBERS)
    text = random.choice([b"", b"", b"-"]) + digits(random)
    if random.randrange(2):
        text += b"." + digits(random)
    if not random.randrange(4):
        text += random.choice([b"e", b"E"]) + random.choice([b"", b"+", b"-"])
        text += b"%d" % random.choice([0, 1, 5, 22, 23, 300, 308, 325, 999])
    return text


def digits(random: Random) -> bytes:
    size = random.choice([1, 2, 5, 8, 15, 16, 17, 18, 19, 20])
    return b"%0*d" % (size if random.randrange(9) else 1, random.randrange(10**size))


def text(random: Random, odd: int) -> bytes:
    """Return a text with its quotes; one of ``odd`` pieces is no plain one."""
    pieces = [
        random.choice(PIECES if random.randrange(odd) else ODD_PIECES)
        for _ in range(random.choice([0, 1, 1, 1, 2, 3]))
    ]
    return b'"' + b"".join(pieces) + b'"'


def nested(random: Random) -> bytes:
    """Return any value, with others inside or at the bottom of many arrays and objects."""
    leaf = random.choice([b"true", b"false", b"null", b"nul", b"{}", b"[ ]", number(random)])
    match random.randrange(6):
        case 0:
            return b"[" + b" ,".join([leaf, text(random, 9), leaf]) + b"]"
        case 1:
            return b'{"a":%b, %b : %b}' % (leaf, text(random, 9), number(random))
        case 2:
            opening, closing = random.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")])
            depth = random.choice(DEPTHS) // len(closing)
            return opening * depth + leaf + closing * depth
        case 3:
            return text(random, 9)
    return leaf


def scalar(random: Random, kind: int) -> bytes:
    """Return a value for a field, mostly of its kind."""
    if not random.randrange(30):
        return nested(random)
    if kind == TEXT:
        return text(random, 20)
    if kind == BOOL:
        return random.choice([b"true", b"false"])
    if random.randrange(2):
        return usual_number(random, kind)
    return number(random)


def usual_number(random: Random, kind: int) -> bytes:
    whole = random.choice([0, 7, 2**31, 1_700_000_000_000, 10**17, 10**18, 2**63 - 1])
    value = random.randint(-whole, whole)
    if kind == INT:
        return b"%d" % value
    return f"{value / 2 ** random.randint(0, 60)!r}".encode()


def members(random: Random, shape: Shape, *, usual: bool) -> list[tuple[bytes, bytes]]:
    """Return names and values: unusual ones repeat, are missing, come in any order."""
    found = [(name.encode(), scalar(random, kind)) for name, kind in shape]
    for _ in range(random.choice([0, 0, 1, 2])):
        stranger = random.choice(STRANGERS).encode()
        found.insert(random.randint(0, len(found)), (stranger, nested(random)))
    if usual or random.randrange(3):
        return found
    if random.randrange(2):
        random.shuffle(found)
    if not random.randrange(3):
        found.append(random.choice(found))
    if not random.randrange(3):
        found.pop(random.randrange(len(found)))
    return found


def record(random: Random, shape: Shape, *, usual: bool = False) -> bytes:
    """Return an object of JSON, more or less of the shape."""
    spaces = [b""] if usual or random.randrange(2) else SPACES
    if not usual and not random.randrange(20):
        spaces = [*SPACES, *BAD_SPACES]

    def space() -> bytes:
        return random.choice(spaces) if len(spaces) > 1 else b""

    inside = b",".join(
        b"".join((space(), b'"', name, b'"', space(), b":", space(), value, space()))
        for name, value in members(random, shape, usual=usual)
    )
    return b"".join((space(), b"{", inside, b"}", space()))


def mutated(random: Random, data: bytes, other: bytes) -> bytes:
    """Return a record that was damaged on its way."""
    at = random.randint(0, len(data))
    match random.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[at + random.randint(1, 3) :]
        case 2:
            return data[:at] + bytes([random.randrange(256)]) + data[at:]
        case 3:
            return data[:at] + other[random.randint(0, len(other)) :]
        case 4:
            return data + random.choice([b"\x00", b" ", b"}", b"x", b"{}", data])
    flipped = data[at] ^ 1 << random.randrange(8) if at < len(data) else 0x20
    return data[:at] + bytes([flipped]) + data[at + 1 :]


def draw_batch(random: Random, shape: Shape, size: int) -> list[Any]:
    """Return values of a topic: runs of records alike, and what is none."""
    found: list[Any] = [record(random, shape, usual=True)]
    for _ in range(size):
        match random.randrange(12):
            case 0:
                found.append(random.choice([*STRANGE, Bytes(found[0])]))
            case 1 | 2 | 3:
                good = [value for value in found if type(value) is bytes]
                found.append(mutated(random, random.choice(good), random.choice(good)))
            case 4 | 5 | 6:
                found.append(record(random, shape))
            case _:
                found.append(record(random, shape, usual=True))
    return found


@dataclass(frozen=True, slots=True)
class Usual:
    """A record that no reader may refuse, and what is in it."""

    data: bytes
    values: list[object]


def draw_usual(random: Random, shape: Shape) -> Usual:
    """Return a record as programs write it."""
    values = [_usual_value(random, kind) for _, kind in shape]
    found = [
        b"%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(value))
        for (name, _), value in zip(shape, values, strict=True)
    ]
    if random.randrange(2):
        random.shuffle(found)
    if random.randrange(2):
        found.append(b'"none" : [null, {"a": "x", "b": -1.5e3}]')
    return Usual(random.choice([b",", b", "]).join(found).join((b"{", b"}")), values)


def _usual_value(random: Random, kind: int) -> object:
    if kind == INT:
        whole = random.choice([9, 10**6, 10**13, 2**63 - 1])
        return random.randint(-whole, whole)
    if kind == FLOAT:
        return random.choice([random.random(), random.randint(-99, 99) / 4, random.gauss(0, 1e200)])
    if kind == BOOL:
        return random.random() < 0.5
    return random.choice(["", "ann", f"user-{random.randrange(99)}", "zoë", "x" * 70, "日本語" * 9])
