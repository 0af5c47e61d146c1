"""Messages come back as they were sent, in openpi's layout, and whatever is none is refused in words."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobile_vla.errors import UserError
from mobile_vla.serving.messages import (
    MAX_IMAGE_SIDE,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARACTERS,
    pack,
    summarise_ms,
    unpack,
)
from mobile_vla.serving.observations import Observation, is_in_own_keys, read_observation

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
CAMERA = "front"
GOOD = {"image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "instruction": "go to the left bottle"}


def read(message: object) -> Observation:
    """Read the observation of a robot of one camera and no state."""
    return read_observation(message, cameras=(CAMERA,), signals=())


@settings(max_examples=40)  # each makes a dictionary of arrays, which takes longer than the rest of this file
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
        read(unpack(bytes(frame[: data.draw(st.integers(0, len(frame)))])))
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
        (GOOD | {"state": 1}, "has the unknown key 'state'; expected {'image': uint8 array [Y, X, 3]"),
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
        read(unpack(pack(message)))
    assert said in str(refused.value)


def test_a_hd_image_fits_into_a_message() -> None:
    frame = pack({"image": np.zeros((1080, 1920, 3), np.uint8), "instruction": "left " * 400, "reset": False})
    assert len(frame) <= MAX_MESSAGE_BYTES
    assert read(unpack(frame)).images[CAMERA].shape == (1080, 1920, 3)


def test_an_observation_at_the_limits_is_read_and_one_beyond_is_refused() -> None:
    image, text = np.zeros((MAX_IMAGE_SIDE, 1, 3), np.uint8), "\N{ROBOT FACE}" * MAX_TEXT_CHARACTERS
    seen = read(unpack(pack({"image": image, "instruction": text})))
    assert (seen.images[CAMERA].shape, seen.instruction) == (image.shape, text)
    for larger in ({"image": np.zeros((1, MAX_IMAGE_SIDE + 1, 3), np.uint8)}, {"instruction": text + "."}):
        with pytest.raises(UserError, match=r"expected at most (2000|4096 rows and columns)$"):
            read({"image": image, "instruction": text, **larger})


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([0] * 1025, r"1025 exceeds max_array_len\(1024\)"),
        (dict.fromkeys(map(str, range(65))), r"65 exceeds max_map_len\(64\)"),
        ([[]] * 257, "more than 256 lists and maps"),
        ([{}] * 257, "more than 256 lists and maps"),
        (msgpack.ExtType(5, b"12"), "2 bytes of msgpack's extension type 5"),
    ],
)
def test_a_message_of_more_parts_than_an_observation_has_is_refused(message: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        unpack(msgpack.packb(message))


OPENPI = {"observation/image": GOOD["image"], "prompt": GOOD["instruction"]}


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({}, ()),
        ({"reset": True}, ()),
        (
            {"observation/wrist_image": GOOD["image"], "observation/state": np.zeros(8)},
            ("observation/wrist_image", "observation/state"),
        ),
    ],
)
def test_an_observation_in_openpi_keys_is_understood(changes: dict[str, object], unused: tuple[str, ...]) -> None:
    message = unpack(pack({**OPENPI, **changes}))
    assert not is_in_own_keys(message)
    seen = read(message)
    np.testing.assert_array_equal(seen.images[CAMERA], GOOD["image"])
    assert (seen.instruction, seen.reset, seen.unused) == (GOOD["instruction"], "reset" in changes, unused)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {"prompt": "left"},
            "lacks 'observation/image'; expected {'observation/image': uint8 array [Y, X, 3], 'prompt'",
        ),
        ({"observation/image": GOOD["image"]}, "lacks 'prompt'"),
        ({"observation/exterior_image_1_left": GOOD["image"], "prompt": "left"}, "lacks 'observation/image'"),
        (OPENPI | {"state": [0.0]}, "has the unknown key 'state'"),
        (OPENPI | {"instruction": "left"}, "has the unknown key 'instruction'"),
        (OPENPI | {"observation/image": np.zeros((3, 4, 4), np.uint8)}, "observation/image: uint8 array [3, 4, 4]"),
        (OPENPI | {"prompt": 3}, "prompt: int 3; expected a text"),
    ],
)
def test_an_openpi_observation_that_is_none_is_refused_in_its_own_keys(message: dict[str, object], said: str) -> None:
    assert not is_in_own_keys(unpack(pack(message)))
    with pytest.raises(UserError) as refused:
        read(unpack(pack(message)))
    assert said in str(refused.value)


@pytest.mark.parametrize("message", [GOOD, {"image": 1}, {"instruction": 1, "state": 1}, {"reset": True}])
def test_our_own_keys_are_told_from_all_others(message: object) -> None:
    assert is_in_own_keys(message)
    assert not any(is_in_own_keys(other) for other in ({}, [], None, {"state": 1}, {b"image": 1}))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_latency_figures_are_ordered(samples_ms: list[float]) -> None:
    summary = summarise_ms(samples_ms)
    assert summary is not None
    assert summary["median"] <= summary["p95"] <= summary["max"] == round(max(samples_ms), 3)


def test_no_answers_have_no_latency() -> None:
    assert summarise_ms([]) is None
