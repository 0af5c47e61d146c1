"""Messages come back as they were sent, in openpi's layout, and whatever is none is refused in words."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobile_vla.errors import UserError
from mobile_vla.serving.messages import MAX_MESSAGE_BYTES, pack, read_observation, summarise_ms, unpack

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
GOOD = {"image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "instruction": "go to the left bottle"}


@given(
    st.dictionaries(st.text(max_size=4), ARRAYS | st.lists(st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()))
)
def test_what_is_packed_comes_back(message: dict[str, Any]) -> None:
    back = unpack(pack(message))
    assert back.keys() == message.keys()
    for key, value in message.items():
        if isinstance(value, np.ndarray):
            assert back[key].dtype == value.dtype
        np.testing.assert_equal(back[key], value)


@given(ARRAYS)
def test_scalars_keep_their_dtype(array: np.ndarray) -> None:
    for scalar in array.flat[:2]:
        if not isinstance(scalar, float):  # float64 is a Python float, and msgpack writes it as one
            back = unpack(pack(scalar))
            assert back.dtype == scalar.dtype
            np.testing.assert_equal(back, scalar)


def test_arrays_are_laid_out_as_openpi_does() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    layout = {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<f4", b"shape": (2, 3)}
    assert pack({"actions": array.T.copy().T}) == msgpack.packb({"actions": layout})
    assert pack(np.int16(-3)) == msgpack.packb({b"__npgeneric__": True, b"data": -3, b"dtype": "<i2"})


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except UserError as error:
        assert "message" in str(error)  # noqa: PT017


@given(st.data())
def test_damaged_messages_are_read_or_refused(data: st.DataObject) -> None:
    frame = bytearray(pack(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_observation(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    except UserError as error:
        assert "expected" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], object),
        np.array([1j]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]),
        np.array(["text"]),
        np.longdouble(1),
        {1, 2},
        2**64,
        object(),
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_what_is_no_number_is_not_sent(value: object) -> None:
    with pytest.raises(UserError, match="cannot be sent"):
        pack({"image": value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({b"dtype": "|O"}, "dtype '|O'; expected booleans, integers"),
        ({b"dtype": "|V1"}, "dtype '|V1'"),
        ({b"dtype": "u1,u1"}, "dtype 'u1,u1'"),
        ({b"dtype": None}, "dtype None"),
        ({b"data": bytes(5)}, "whose data are 5 bytes; expected as many"),
        ({b"data": "text67"}, "whose data are str 'text67'"),
        ({b"shape": [-2, -3]}, "shape [-2, -3]; expected a list of lengths"),
        ({b"shape": [True, 6]}, "shape [True, 6]; expected a list of lengths"),
        ({b"shape": 6}, "shape 6; expected a list of lengths"),
        ({b"shape": [2**40, 2**40]}, "whose data are 6 bytes"),
        ({b"shape": [0, 2**63], b"data": b""}, "numpy refuses"),
        ({b"shape": [6] + [1] * 70}, "numpy refuses"),
    ],
)
def test_an_array_that_contradicts_itself_is_refused(changes: dict[bytes, object], said: str) -> None:
    layout = {b"__ndarray__": True, b"data": bytes(6), b"dtype": "|u1", b"shape": [2, 3]}
    assert unpack(msgpack.packb(layout)).shape == (2, 3)
    with pytest.raises(UserError) as refused:
        unpack(msgpack.packb(layout | changes))
    assert said in str(refused.value)


@pytest.mark.parametrize("data", [300, "1", None, float("nan")])
def test_a_scalar_that_contradicts_itself_is_refused(data: object) -> None:
    with pytest.raises(UserError, match="message: "):
        unpack(msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": "|u1"}))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([1, 2], "message: list [1, 2]; expected a map"),
        ({}, "lacks 'image', lacks 'instruction'"),
        (GOOD | {"prompt": "left"}, "has the unknown key 'prompt'; expected {'image': uint8 array [Y, X, 3]"),
        (GOOD | {"image": GOOD["image"].astype(np.float32)}, "image: float32 array [2, 4, 3]; expected a uint8 array"),
        (GOOD | {"image": GOOD["image"][0]}, "image: uint8 array [4, 3]; expected"),
        (GOOD | {"image": GOOD["image"][None]}, "image: uint8 array [1, 2, 4, 3]; expected"),
        (GOOD | {"image": GOOD["image"].transpose(2, 0, 1)}, "image: uint8 array [3, 2, 4]; expected"),
        (GOOD | {"image": np.zeros((0, 4, 3), np.uint8)}, "image: uint8 array [0, 4, 3]; expected"),
        (GOOD | {"image": [[[1, 2, 3]]]}, "image: list [[[1, 2, 3]]]; expected"),
        (GOOD | {"image": None}, "image: NoneType None; expected"),
        (GOOD | {"instruction": 3}, "instruction: int 3; expected a text"),
        (GOOD | {"instruction": ["left"]}, "instruction: list ['left']; expected a text"),
        (GOOD | {"reset": 1}, "reset: int 1; expected true or false"),
    ],
)
def test_an_observation_that_is_none_is_refused(message: object, said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_observation(pack(message))
    assert said in str(refused.value)


def test_a_hd_image_fits_into_a_message() -> None:
    frame = pack({"image": np.zeros((1080, 1920, 3), np.uint8), "instruction": "left " * 1000, "reset": False})
    assert len(frame) <= MAX_MESSAGE_BYTES
    assert read_observation(frame).image.shape == (1080, 1920, 3)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_latency_figures_are_ordered(samples_ms: list[float]) -> None:
    summary = summarise_ms(samples_ms)
    assert summary is not None
    assert summary["median"] <= summary["p95"] <= summary["max"] == round(max(samples_ms), 3)


def test_no_answers_have_no_latency() -> None:
    assert summarise_ms([]) is None
