"""Take a picture of a run's folder into the page, if it is one."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import read_limited

_MAX_BYTES = 2 * 2**20
"""Of a picture: one of ours, a few small frames side by side, has some kB, and a page shows twelve."""

_MAX_PIXELS = 2**24
"""A browser unpacks all of them."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The content of a JPEG or PNG file, and which of the two it is."""

    content: bytes
    kind: str

    @property
    def address(self) -> str:
        """The picture as an address that holds all of it."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode()}"


def embeddable(path: Path) -> Picture | None:
    """Return the picture in the file ``path``; None where it is missing, no JPEG or PNG, or too large for a page."""
    try:
        content = read_limited(path, max_bytes=_MAX_BYTES)
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:  # its head alone is read
            if image.width * image.height > _MAX_PIXELS or image.format is None:
                return None
            return Picture(content=content, kind=image.format.lower())
    except (UserError, OSError, ValueError, Image.DecompressionBombError):
        return None
