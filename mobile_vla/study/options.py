"""Say what a study is called and how it is judged, before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Study:
    """``primary`` (a key of ``summary.json``) is the one metric that decides, ``baseline`` what it is held against.

    ``name`` is safe in a path; ``baseline`` is a label of the comparison.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    primary: Annotated[str, Field(min_length=1)]
    baseline: Annotated[str, Field(min_length=1)]
