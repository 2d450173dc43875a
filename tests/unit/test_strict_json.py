"""Hostile bytes to JSON values, or a reason why not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging import strict_json
from messaging.strict_json import MAX_DEPTH, NotStrictJson, loads, storable

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no JSON: Expecting value at character 0"),
        (b"{} {}", "no JSON: Extra data at character 3"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b'{"a":1,"b":2,"a":3}', "the key 'a' stands twice in one object"),
        (b'{"a":{"b":1,"b":1}}', "the key 'b' stands twice in one object"),
        (b'{"a":"x\\u0000"}', "a text contains NUL"),
        (b'{"\\u0000":1}', "a text contains NUL"),
        (b'["\\ud800"]', "a text contains a lone surrogate"),
        (b'{"\\udfff":[]}', "a text contains a lone surrogate"),
        (b'["a\x00b"]', "no JSON: Invalid control character at at character 3"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "no JSON: Expecting value at character 0"),
        (b"1e999", "the number 1e999 is too large"),
        (b"[-1e400]", "the number -1e400 is too large"),
        (b'{"a":[' + b"9" * 310 + b"]}", "a number is too large"),
    ],
)
def test_what_is_no_strict_json_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    """Each kind of bad input has a reason of its own."""
    with pytest.raises(NotStrictJson) as refused:
        loads(raw)
    assert str(refused.value) == why


def test_more_digits_than_python_reads_are_refused() -> None:
    """A number of five thousand digits is an error of the sender, not of the reader."""
    with pytest.raises(NotStrictJson):
        loads(b"1" * 5000)


def test_nesting_ends_at_32() -> None:
    """Thirty-two levels are read; the thirty-third is not, in arrays and objects alike."""
    assert loads(b"[" * 32 + b"]" * 32) is not None
    for deep in (b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33):
        with pytest.raises(NotStrictJson, match="nested deeper than 32"):
            loads(deep)


def test_brackets_in_texts_are_no_nesting() -> None:
    """Only real nesting counts."""
    assert loads(json.dumps({"a": "[" * 100, 'b"\\': '{"' * 50}).encode()) == {"a": "[" * 100, 'b"\\': '{"' * 50}


@pytest.mark.parametrize("hostile", [b'"' + b'\\"' * 130_000, b'"' + b"\\" * 250_000, b'"a' * 100_000])
def test_hostile_texts_take_no_more_time_than_their_length(hostile: bytes) -> None:
    """256 KiB made to confuse the measuring of depth are refused within a second, not within hours."""
    began = time.process_time()
    with pytest.raises(NotStrictJson):
        loads(b"[" * (MAX_DEPTH + 1) + hostile)
    assert time.process_time() - began < 1


def test_a_number_as_large_as_a_float_holds_is_read() -> None:
    """The bound is that of a float, for integers too."""
    assert loads(b"1" + b"0" * 308) == 10**308


@settings(deadline=None)
@given(_JSON)
def test_what_is_strict_json_is_read_as_python_writes_it(value: object) -> None:
    """Whatever Python's own writer makes of good values comes back equal, escaped or not."""
    for ascii_only in (True, False):
        assert loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """There is no third way out."""
    try:
        loads(raw)
    except NotStrictJson:
        return


def test_storable_replaces_what_postgresql_does_not_store() -> None:
    """NUL and lone surrogates are replaced, everything else stays."""
    assert storable("a\x00b\ud800ü\U0001f600") == "a\ufffdb?ü\U0001f600"


_SCRAPS = (
    *(b'"a":', b'"a" :', b'"b":', b'":":', b'"\\":"', b'"x"', b'"\\u0041"', b'"\\u0000"', b'"\\ud800"', b'"\\n:"'),
    *(b"1", b"-0", b"1e400", b"1E-5", b"0.1", b"9" * 309, b"NaN", b"-Infinity", b"null", b"true"),
    *(b"{", b"}", b"[", b"]", b",", b" ", b"\t", b"\n", b"\r", b":", b"\xff", b"\xc3\xbc", b"\x00", b"\xef\xbb\xbf"),
)
_TEXTS = st.recursive(
    st.sampled_from([each for each in _SCRAPS if each.strip(b"{}[], \t\n\r:") and not each.endswith(b":")]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: b"[" + b",".join(parts) + b"]")
        | st.lists(
            st.tuples(st.sampled_from([b'"a":', b'"a" :', b'"b"\n:', b'"":', b'":":', b'"\\"":']), inner), max_size=4
        ).map(lambda pairs: b"{" + b",".join(key + value for key, value in pairs) + b"}")
    ),
    max_leaves=12,
)


def _outcome(reader: Callable[[bytes], object], raw: bytes) -> str:
    try:
        # As a text: 1 is not 1.0, and -0.0 is not 0.0.
        return repr(reader(raw))
    except NotStrictJson as error:
        return f"refused: {error}"


@settings(deadline=None, max_examples=400)
@given(_TEXTS | st.lists(st.sampled_from(_SCRAPS), max_size=12).map(b"".join))
def test_the_quick_reader_lets_nothing_through_that_the_strict_one_refuses(raw: bytes) -> None:
    """Whatever the bytes are, what comes out, and why nothing does, is what the strict reader alone would say."""
    assert _outcome(loads, raw) == _outcome(strict_json._read, raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"a" :1,"a":2}', "the key 'a' stands twice in one object"),
        (b'{"a"\n:1,"a":2}', "the key 'a' stands twice in one object"),
        (b'[{"a":":b"},{"b":1,"b":1}]', "the key 'b' stands twice in one object"),
        (b"[1, 2.5, 1e309]", "the number 1e309 is too large"),
    ],
)
def test_what_the_quick_reader_would_not_notice(raw: bytes, why: str) -> None:
    """Keys that hide behind a space, a colon in a text or another object, and a number among others."""
    with pytest.raises(NotStrictJson) as refused:
        loads(raw)
    assert str(refused.value) == why
