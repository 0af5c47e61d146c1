"""Make messages that no robot sends: too large, too deep, too many, mutilated, lying about themselves. Seeded."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import msgpack
import numpy as np

from mobile_vla.serving.messages import MAX_IMAGE_SIDE, MAX_MESSAGE_BYTES, MAX_TEXT_CHARACTERS, pack

Frame = bytes | str


def hostile_messages(*, seed: int, count: int) -> Iterator[tuple[str, Frame]]:
    """Yield ``count`` messages, each with the name of its kind: every kind in turn, in an order drawn from ``seed``.

    Each fits into ``MAX_MESSAGE_BYTES``, so that a server has to answer it; a few mutilated ones may happen to be good.
    """
    draw = random.Random(seed)
    kinds = sorted(KINDS)
    for number in range(count):
        if number % len(kinds) == 0:
            draw.shuffle(kinds)
        name = kinds[number % len(kinds)]
        frame = KINDS[name](draw)
        assert len(frame) <= MAX_MESSAGE_BYTES, name
        yield name, frame


def _good(draw: random.Random) -> dict[str, object]:
    image = np.full((4, 6, 3), draw.randrange(256), np.uint8)
    if draw.random() < 0.5:
        return {"image": image, "instruction": "go", "reset": draw.random() < 0.5}
    return {"observation/image": image, "prompt": "go", "observation/state": np.zeros(8)}


def _with(draw: random.Random, role: str, value: object) -> bytes:
    """Return a good message, but with ``value`` as its image or its text."""
    message = _good(draw)
    own, openpi = {"image": ("image", "observation/image"), "text": ("instruction", "prompt")}[role]
    message[own if own in message else openpi] = value
    return msgpack.packb(message, default=lambda array: msgpack.unpackb(pack(array)))


def _raw(draw: random.Random, value: bytes) -> bytes:
    """Return a map that holds the msgpack bytes ``value`` as an image or under an unknown key."""
    key = draw.choice(["image", "observation/image", "observation/state", "x"])
    return b"\x82" + msgpack.packb(key) + value + msgpack.packb("prompt") + msgpack.packb("go")


def _long_text(draw: random.Random) -> bytes:
    letter = draw.choice(["a", " a", "é", "\U0001f916", "\x00", "\n"])
    length = draw.choice([MAX_TEXT_CHARACTERS + 1, 2_000_000])
    return _with(draw, "text", (letter * length)[:length])


def _long_image(draw: random.Random) -> bytes:
    side = draw.choice([MAX_IMAGE_SIDE + 1, 100_000, 2_000_000])
    return _with(draw, "image", np.zeros(draw.choice([(side, 1, 3), (1, side, 3)]), np.uint8))


def _nested(draw: random.Random) -> bytes:
    opening = draw.choice([b"\x91", b"\x81\xa1a", b"\x81\xc4\x00", b"\xdc\x00\x01", b"\x81\xc4\x0b__ndarray__"])
    return _raw(draw, opening * draw.choice([300, 511, 600, 1_000_000 // len(opening)]) + b"\xc0")


def _many_keys(draw: random.Random) -> bytes:
    length = draw.choice([65, 70_000, 900_000])
    return b"\xdf" + struct.pack(">I", length) + b"".join(b"\xa5%05x\xc0" % number for number in range(length))


def _many_items(draw: random.Random) -> bytes:
    item = draw.choice([b"\xc0", b"\x00", b"\x80", b"\x90", b"\xa0", b"\x81\xa0\xc0", b"\xd4\x01\x00", b"\xc4\x00"])
    length = 8_000_000 // len(item)
    return _raw(draw, b"\xdd" + struct.pack(">I", length) + item * length)


def _many_short_lists(draw: random.Random) -> bytes:
    one = draw.choice([b"\xdc\x03\xe8" + b"\xc0" * 1000, b"\xdc\x03\xe8" + b"\x80" * 1000])
    return _raw(draw, b"\xdc\x03\xe8" + one * 1000)


def _claimed_size(draw: random.Random) -> bytes:
    code = draw.choice([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
    return _raw(draw, code + struct.pack(">I", draw.choice([2**20, 2**31, 2**32 - 1])) + bytes(100))


def _extension(draw: random.Random) -> bytes:
    payload = msgpack.ExtType(draw.randrange(128), bytes(draw.choice([0, 1, 5_000_000])))
    return _raw(draw, msgpack.packb(draw.choice([payload, msgpack.Timestamp(2**33, 5)])))


def _lying_array(draw: random.Random) -> bytes:
    layout: dict[bytes, object] = {b"__ndarray__": True, b"data": bytes(72), b"dtype": "|u1", b"shape": [4, 6, 3]}
    sizes = [0, 1, -1, 3, 2**31, 2**63, 2**64 - 1, 1.5, None, "4", True]
    layout[b"shape"] = [draw.choice(sizes) for _ in range(draw.choice([0, 1, 3, 33, 70]))]
    layout[b"dtype"] = draw.choice(["|u1", "|O", "|V3", "<U9", "u1,u1", "<M8[ns]", "f4" * 1000, "", None, 1, b"|u1"])
    layout[b"data"] = draw.choice([bytes(72), b"", "text", None, 1, [1] * 72, {}])
    if draw.random() < 0.3:
        del layout[draw.choice([b"data", b"dtype", b"shape"])]
    return _with(draw, "image", layout)


def _lying_scalar(draw: random.Random) -> bytes:
    data = draw.choice([2**63, -1, 1e400, float("nan"), "1", None, [1], b"\x00"])
    kind = draw.choice(["|u1", "<f2", "|b1", "|O", None])
    return _with(draw, draw.choice(["image", "text"]), {b"__npgeneric__": True, b"data": data, b"dtype": kind})


def _other_value(draw: random.Random) -> bytes:
    values = [
        None,
        True,
        -1,
        2**64 - 1,
        1e308,
        b"",
        bytes(6_000_000),
        [],
        {},
        np.zeros((4, 6, 4), np.uint8),
        "x" * 10**6,
    ]
    return _with(draw, draw.choice(["image", "text"]), draw.choice(values))


def _odd_keys(draw: random.Random) -> bytes:
    key = draw.choice(
        ["", "x" * 2_000_000, b"\xff" * 2_000_000, "prompt\n", "observation/" + "y" * 10**6, "reset", b"prompt"]
    )
    return msgpack.packb(
        {**_good(draw), key: draw.choice([None, 1, "true", []])}, default=lambda a: msgpack.unpackb(pack(a))
    )


def _mutilated(draw: random.Random) -> bytes:
    frame = bytearray(pack(_good(draw)))
    for _ in range(draw.randrange(1, 6)):
        frame[draw.randrange(len(frame))] = draw.randrange(256)
    return bytes(frame[: draw.choice([len(frame), draw.randrange(len(frame))])])


def _noise(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 50, 5000, 1_000_000]))


def _text_frame(draw: random.Random) -> str:
    return draw.choice(["", "{}", "hello", "x" * 8_000_000, "é" * 1_000_000])


def _two_messages(draw: random.Random) -> bytes:
    return pack(_good(draw)) * 2


KINDS: dict[str, Callable[[random.Random], Frame]] = {
    "claimed size": _claimed_size,
    "extension": _extension,
    "long image": _long_image,
    "long text": _long_text,
    "lying array": _lying_array,
    "lying scalar": _lying_scalar,
    "many items": _many_items,
    "many keys": _many_keys,
    "many short lists": _many_short_lists,
    "mutilated": _mutilated,
    "nested": _nested,
    "noise": _noise,
    "odd keys": _odd_keys,
    "other value": _other_value,
    "text frame": _text_frame,
    "two messages": _two_messages,
}
