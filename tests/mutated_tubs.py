"""Write small DonkeyCar tubs and spoil them in seeded ways."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NUM_FRAMES = 30

_DEEP = "[" * 100_000
_VALUES: tuple[str, ...] = (
    *("1e400", "-1e400", "NaN", "Infinity", "null", "true", '""', "{}", "[]", '[{"a": [{}]}]', "[1e400]", "[NaN]"),
    *("-1", "1.5", "9" * 400, "9" * 5000, "1e18", '"\\ud800"', '"\\u0000"', '"a\\u0000b"', '"' + "x" * 3000 + '"'),
    *('"../outside/secret.jpg"', '"/etc/passwd"', '"/dev/zero"', '"/proc/self/mem"', '"images/../../outside/c"'),
    *(
        '["../outside/secret.catalog"]',
        '["/etc/passwd"]',
        '["/dev/zero"]',
        '["catalog_0.catalog", "catalog_0.catalog"]',
    ),
    *('[".."]', '["."]', '["images"]', _DEEP, _DEEP + "]" * 100_000, '{"a":' * 50_000, "[" + "[]," * 300_000 + "[]]"),
)


def write_small_tub(path: Path) -> Path:
    """Write a whole tub of NUM_FRAMES bright frames (32x24) in three catalogs, beside a folder ``outside``."""
    (path / "images").mkdir(parents=True)
    for i in range(NUM_FRAMES):
        _image(path, i).write_bytes(_JPEGS[i])
    for number in range(3):
        lines = [json.dumps(_entry(i)) + "\n" for i in range(10 * number, 10 * number + 10)]
        (path / f"catalog_{number}.catalog").write_text("".join(lines))
    names = [f"catalog_{number}.catalog" for number in range(3)]
    state = {"paths": names, "current_index": NUM_FRAMES, "max_len": 10, "deleted_indexes": [0]}
    (path / "manifest.json").write_text("[]\n[]\n{}\n{}\n" + json.dumps(state) + "\n")
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.jpg").write_bytes(_JPEGS[0])
    (outside / "secret.catalog").write_text(json.dumps(_entry(0)) + "\n")
    return path


def mutate(tub: Path, seed: int) -> list[str]:
    """Spoil ``tub`` in one to three ways and return their names; the same for the same seed."""
    rng = random.Random(seed)
    names = rng.sample(sorted(MUTATIONS), rng.choice([1, 1, 2, 3]))
    for name in names:
        try:
            MUTATIONS[name](tub, rng)
        except (OSError, ValueError, KeyError, IndexError):  # an earlier mutation took what this one spoils
            continue
    return names


def _entry(i: int) -> dict[str, Any]:
    return {
        "_index": i,
        "_session_id": "22-11-12_0",
        "_timestamp_ms": 1_668_220_932_411 + 50 * i,
        "cam/image_array": f"{i}_cam_image_array_.jpg",
        "user/angle": round(i / 100 - 0.2, 3),
        "user/mode": "user",
        "user/throttle": 0.4,
    }


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _picture(i: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    noise = np.random.default_rng(i).integers(100, 256, (size[1], size[0], 3))
    return Image.fromarray(noise.astype(np.uint8))


_JPEGS = [_encoded(_picture(i), "JPEG") for i in range(NUM_FRAMES)]


def _image(tub: Path, i: int) -> Path:
    return tub / "images" / f"{i}_cam_image_array_.jpg"


def _regular(path: Path) -> Path:
    """Return ``path``; OSError where an earlier mutation made a pipe of it, which blocks, or a file of a TiB."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 2**26:
        raise OSError(f"{path} is no file any more")
    return path


def _some_image(tub: Path, rng: random.Random) -> Path:
    return _regular(_image(tub, rng.choice([1, rng.randrange(1, NUM_FRAMES)])))


def _some_catalog(tub: Path, rng: random.Random) -> Path:
    return _regular(tub / f"catalog_{rng.randrange(3)}.catalog")


def _some_file(tub: Path, rng: random.Random) -> Path:
    return rng.choice([_some_image(tub, rng), _some_catalog(tub, rng), _regular(tub / "manifest.json")])


def _change_record(tub: Path, rng: random.Random) -> None:
    catalog = _some_catalog(tub, rng)
    lines = catalog.read_text().splitlines()
    at = rng.randrange(len(lines))
    entry = json.loads(lines[at])
    key = rng.choice(sorted(entry))
    lines[at] = json.dumps({**entry, key: "@"}).replace('"@"', rng.choice(_VALUES))
    catalog.write_text("\n".join(lines) + "\n")


def _change_manifest(tub: Path, rng: random.Random) -> None:
    lines = _regular(tub / "manifest.json").read_text().split("\n")
    key = rng.choice(["paths", "deleted_indexes", "deleted_indexes", "current_index"])
    lines[4] = json.dumps({**json.loads(lines[4]), key: "@"}).replace('"@"', rng.choice(_VALUES))
    (tub / "manifest.json").write_text("\n".join(lines))


def _name_image(tub: Path, rng: random.Random) -> None:
    """Let a record name something that is no image of its own."""
    name = rng.choice(
        ["../outside/secret.jpg", "/etc/passwd", "/dev/zero", "..", ".", "", "x" * 300, "5_cam_image_array_.jpg"]
    )
    catalog = _some_catalog(tub, rng)
    lines = catalog.read_text().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(json.loads(lines[at]) | {"cam/image_array": name})
    catalog.write_text("\n".join(lines) + "\n")


def _edit_lines(edit: Callable[[list[str], random.Random], Any]) -> Callable[[Path, random.Random], None]:
    def apply(tub: Path, rng: random.Random) -> None:
        catalog = _some_catalog(tub, rng)
        lines = catalog.read_text().splitlines()
        edit(lines, rng)
        catalog.write_text("\n".join(lines) + "\n")

    return apply


def _flip(tub: Path, rng: random.Random) -> None:
    path = _some_file(tub, rng)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _cut(tub: Path, rng: random.Random) -> None:
    path = _some_file(tub, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))


def _zero_tail(tub: Path, rng: random.Random) -> None:
    path = _some_file(tub, rng)
    size = path.stat().st_size
    os.truncate(path, rng.choice([0, rng.randrange(size)]))
    os.truncate(path, size)


def _sparse(tub: Path, rng: random.Random) -> None:
    os.truncate(_some_file(tub, rng), rng.choice([2**24, 2**40]))


def _replace(make: Callable[[Path], Any]) -> Callable[[Path, random.Random], None]:
    """Return a mutation that removes a file, or the images folder, and makes something else there."""

    def apply(tub: Path, rng: random.Random) -> None:
        path = rng.choice(
            [_some_image(tub, rng), _some_image(tub, rng), _some_catalog(tub, rng), _regular(tub / "manifest.json")]
        )
        path = rng.choice([path] * 8 + [tub / "images"])
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        make(path)

    return apply


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # zero
    except PermissionError:
        path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path may have 107 characters
        server.bind(path.name)


def _linked_tub(path: Path) -> None:
    outside = path.parents[1 if path.parent.name == "tub" else 2] / "outside"
    path.symlink_to(outside / "secret.jpg" if path.suffix == ".jpg" else outside)


def _content(make: Callable[[random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    """Return a mutation that gives an image, or all of them, another content."""

    def apply(tub: Path, rng: random.Random) -> None:
        content = make(rng)
        paths = [_regular(_image(tub, i)) for i in range(NUM_FRAMES)] if rng.random() < 0.3 else [_some_image(tub, rng)]
        for path in paths:
            path.write_bytes(content)

    return apply


def _claim_size(rng: random.Random) -> bytes:
    """Return a JPEG whose header claims another size than was encoded."""
    content = bytearray(_JPEGS[1])
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", *rng.choice([(65535, 65535), (24, 65535), (0, 0), (24, 0), (48, 64)]))
    return bytes(content)


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _png_bomb(rng: random.Random) -> bytes:
    """Return a PNG that claims much, or whose text or colour profile unpacks to much."""
    side = rng.choice([2000, 3000, 30_000, 2_000_000])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\1" * 50_000_000, 9)  # as pixels: each row a ramp
    text = rng.choice([(b"zTXt", b"a\0\0" + packed), (b"iCCP", b"a\0\0" + packed), (b"IDAT", packed)])
    return _png((b"IHDR", header), text, (b"IDAT", packed), (b"IEND", b""))


def _many_scans(rng: random.Random) -> bytes:
    content = _encoded(_picture(1, (640, 480)), "JPEG", progressive=True)
    first, last = content.index(b"\xff\xda"), content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * rng.choice([200, 2000]) + content[first:first] + b"\xff\xd9"


_OTHER_KINDS = ("GIF", "BMP", "WEBP", "TIFF", "PPM", "PDF", "EPS", "ICO")

MUTATIONS: dict[str, Callable[[Path, random.Random], None]] = {
    "record value": _change_record,
    "record value again": _change_record,
    "manifest value": _change_manifest,
    "image name": _name_image,
    "line removed": _edit_lines(lambda lines, rng: lines.pop(rng.randrange(len(lines)))),
    "line twice": _edit_lines(lambda lines, rng: lines.append(rng.choice(lines))),
    "lines shuffled": _edit_lines(lambda lines, rng: rng.shuffle(lines)),
    "line of rubbish": _edit_lines(lambda lines, rng: lines.insert(0, rng.choice(_VALUES))),
    "line of 3 MB": _edit_lines(lambda lines, rng: lines.append("[" + "{}," * 1_000_000 + "{}]")),
    "no lines": _edit_lines(lambda lines, _: lines.clear()),
    "bits flipped": _flip,
    "bits flipped again": _flip,
    "cut short": _cut,
    "zero tail": _zero_tail,
    "sparse": _sparse,
    "missing": _replace(lambda path: None),
    "empty": _replace(Path.touch),
    "folder": _replace(Path.mkdir),
    "pipe": _replace(os.mkfifo),
    "device": _replace(_device),
    "socket": _replace(_socket),
    "link outside": _replace(_linked_tub),
    "link to nothing": _replace(lambda path: path.symlink_to("nothing")),
    "link to itself": _replace(lambda path: path.symlink_to(path.name)),
    "other kind": _content(lambda rng: _encoded(_picture(1), rng.choice(_OTHER_KINDS))),
    "animated": _content(lambda _: _encoded(_picture(1), "PNG", save_all=True, append_images=[_picture(2)])),
    "two pictures": _content(lambda _: _encoded(_picture(1), "MPO", save_all=True, append_images=[_picture(2)])),
    "PNG mode": _content(lambda rng: _encoded(_picture(1).convert(rng.choice(["L", "P", "RGBA", "1", "I;16"])), "PNG")),
    "other size": _content(lambda rng: _encoded(_picture(1, rng.choice([(1, 1), (64, 48), (2000, 1)])), "JPEG")),
    "claimed size": _content(_claim_size),
    "bomb": _content(_png_bomb),
    "many scans": _content(_many_scans),
    "rubbish": _content(lambda rng: rng.randbytes(rng.choice([1, 700, 100_000]))),
    "leftover": lambda tub, rng: (tub / rng.choice(["catalog_9.catalog", "._a.catalog", "images/x.jpg"])).touch(),
}
