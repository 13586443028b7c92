"""Messages between carpd and its attendant."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.attendant.orders import (
    MAX_MESSAGE_BYTES,
    Check,
    Checked,
    CheckKind,
    Forget,
    Hook,
    HookEnded,
    HookKind,
    Watch,
    decode,
    encode,
)

TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 2**62)
ARGV = st.lists(TEXT, max_size=4).map(tuple)
CHECK = st.builds(
    Check,
    name=TEXT,
    kind=st.sampled_from(CheckKind),
    target=TEXT,
    argv=ARGV,
    device=TEXT,
    status=st.lists(st.integers(100, 599), max_size=3).map(tuple),
    verify_tls=st.booleans(),
    interval_ns=NUMBER,
    timeout_ns=NUMBER,
    rise=NUMBER,
    fall=NUMBER,
)
CONTEXT = st.dictionaries(TEXT, st.none() | st.booleans() | NUMBER | TEXT | st.lists(TEXT, max_size=3), max_size=4)
MESSAGE = (
    st.builds(Watch, CHECK)
    | st.builds(Forget, TEXT)
    | st.builds(
        Hook,
        queue=TEXT,
        serial=NUMBER,
        kind=st.sampled_from(HookKind),
        argv=ARGV,
        timeout_ns=NUMBER,
        answer=st.booleans(),
        context=CONTEXT,
    )
    | st.builds(Checked, name=TEXT, holds=st.booleans(), detail=TEXT)
    | st.builds(HookEnded, queue=TEXT, serial=NUMBER, kind=st.sampled_from(HookKind), problem=TEXT)
)


@given(MESSAGE)
def test_a_message_comes_out_as_it_went_in(message: Any) -> None:
    """Every kind, with every field, and with the same types."""
    raw = encode(message)
    assert decode(raw) == message
    assert len(raw) <= MAX_MESSAGE_BYTES
    json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"17",
        b"{}",
        b'{"message": "Nonsense"}',
        b'{"message": ["Watch"]}',
        b'{"message": "Forget"}',
        b'{"message": "Forget", "name": "a", "more": 1}',
        b'{"message": "Watch", "check": 3}',
        b'{"message": "Watch", "check": {"name": "a", "kind": "nonsense", "target": "", "argv": [], "status": []}}',
        b'{"message": "Hook", "kind": "nonsense"}',
        b"[" * 10000,
    ],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    """With one kind of error, whatever is wrong."""
    with pytest.raises(ValueError, match=r"."):
        decode(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    """Nothing else comes of them."""
    with contextlib.suppress(ValueError):
        decode(raw)
