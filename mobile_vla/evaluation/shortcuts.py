"""Determine by probes which inputs a policy uses: instruction, images, state, each camera, or only the time step."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mobile_vla.data.batches import Targets, WindowReader
from mobile_vla.evaluation.action_scale import SIDEWAYS, ActionScale
from mobile_vla.evaluation.rmse import masked_rmse
from mobile_vla.evaluation.shortcut_probes import STATE_PROBE, UNCHANGED, camera_probe, run_probes
from mobile_vla.metric_text import SCALED_MEANING, SPREAD, with_unit
from mobile_vla.metrics import ERROR, reference_name
from mobile_vla.policy.model import Model
from mobile_vla.streams import Stream

_CAMERA_CHANGE = re.compile(rf"shortcut/{camera_probe('(.+)')}/rmse_change")

DEAD_BAND = 0.1
"""A sideways or turning command below this many standard deviations of the train actions counts as straight ahead."""

MATTERS = 0.1
"""A policy uses an input if a probe of it increases the RMSE by more than this share of the mean predictor's RMSE.

Measured increases of trained policies, as such shares: without images, 0.41 to 0.61 on ``sim`` (0.25 after a tenth of
the budget), 0.32 to 0.46 on real driving, 0.01 to 0.32 on ``sim_scripted``; with the instruction swapped, 0.84 or more;
with another instruction, 0.03 if no instruction names a side; with the position shifted, 0.01 or less, but 1.1 or more
on ``sim_scripted``.
"""

SIDE_MATTERS = 0.5
"""A policy also uses an input if a probe changes the side in more than this share of the windows.

The RMSE does not show this if the policy is wrong both with and without the probe. Measured: 0.16 with another
instruction if no instruction names a side, 0.56 or more with the instruction swapped.
"""

CLOCK_TOLERANCE = 0.05
"""The (scenario, time step) lookup must be worse than the policy by more than this share of the policy's RMSE.

Otherwise a clock suffices. Measured: 0.13 to 0.30 on ``sim``.
"""


def measure_shortcuts(
    model: Model,
    *,
    reader: WindowReader,
    scale: ActionScale,
    batch_size: int,
    stream: Stream,
    references: Mapping[str, float],
) -> dict[str, float | str]:
    """Return the effect of each probe of ``run_probes`` on the windows of ``reader``, and the verdict of ``judge``.

    ``shortcut/unchanged/rmse`` is the policy's RMSE over all windows without a probe. For each probe, over the windows
    that it changes: ``shortcut/<probe>/rmse``; ``/rmse_change``, the RMSE with the probe minus without it (at the
    current frame, as ``scale.error`` counts: in physical units or in units of each signal's spread); and
    ``/side_change``, the share of windows (0..1) whose predicted side changes. The side is left, straight or right: the
    sign of the mean over the existing chunk of ``scale.sideways``. If there is no such signal, there is no such key,
    and no probe ``images_mirrored``, which exchanges sides. A probe that changes no window is left out.

    ``references`` are the errors of the reference predictors over the same windows. A pure function; the model does not
    change.
    """
    targets = reader.current_targets()
    by_probe = run_probes(model, reader, batch_size=batch_size, stream=stream)
    sideways = scale.sideways
    dead_band_A = DEAD_BAND * model.normalizer.std_A.cpu().numpy()

    def sides(actions_NKA: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        mean_N = actions_NKA[..., axis].mean(1, where=targets.mask_NK)
        return np.where(np.abs(mean_N) > dead_band_A[axis], np.sign(mean_N), 0)

    unchanged = by_probe[UNCHANGED].actions_NKA
    result = {f"shortcut/{UNCHANGED}/rmse": _rmse(unchanged, targets, np.ones(len(unchanged), np.bool_), scale)}
    for probe, found in by_probe.items():
        probed, rows = found.actions_NKA, found.is_changed_N
        if probe == UNCHANGED or not rows.any() or (probe == "images_mirrored" and sideways is None):
            continue
        rmse = _rmse(probed, targets, rows, scale)
        result[f"shortcut/{probe}/rmse"] = rmse
        result[f"shortcut/{probe}/rmse_change"] = rmse - _rmse(unchanged, targets, rows, scale)
        if sideways is not None:
            has_new_side = sides(probed, sideways) != sides(unchanged, sideways)
            result[f"shortcut/{probe}/side_change"] = float(has_new_side[rows].mean())
    return {**result, **judge(result, references, error=scale.error)}


def _rmse(actions_NKA: NDArray[np.float32], targets: Targets, rows: NDArray[np.bool_], scale: ActionScale) -> float:
    squared_NKA = scale.decided(np.square(actions_NKA - targets.actions_NKA))
    rmse = masked_rmse(squared_NKA[rows], targets.mask_NK[rows])
    assert rmse is not None  # every window has its current frame's own action
    return rmse


def judge(
    figures: Mapping[str, float], references: Mapping[str, float], *, error: str = ERROR
) -> dict[str, float | str]:
    """Return ``shortcut/verdict`` as text, and its parts as the numbers 1 or 0.

    ``shortcut/uses_instruction`` (left out if all instructions of the measured windows are the same, however many the
    policy was trained on), ``/uses_images``, ``/uses_state`` (left out for a policy without state),
    ``/uses_camera_<name>`` (for each of several cameras) and ``/uses_position`` (the policy uses the position in the
    window as the time; left out if no window can be shifted) are 1 if a probe increases the RMSE by more than MATTERS,
    or changes more sides than SIDE_MATTERS. ``/clock_suffices`` is 1 if the (scenario, time step) lookup is as good as
    the policy, within CLOCK_TOLERANCE, or if the policy uses the position and not the images. ``error`` is the error of
    the reference predictors that ``figures`` are compared with.
    """
    limit = MATTERS * references[reference_name("mean", error)]

    def uses(name: str, *probes: str) -> dict[str, bool]:
        measured = [f"shortcut/{probe}" for probe in probes if f"shortcut/{probe}/rmse_change" in figures]
        is_used = any(
            figures[f"{probe}/rmse_change"] > limit or figures.get(f"{probe}/side_change", 0) > SIDE_MATTERS
            for probe in measured
        )
        return {name: is_used} if measured else {}

    found = {
        **uses("uses_instruction", "instruction_swapped", "instruction_other"),
        **uses("uses_images", "images_mean"),
        **uses("uses_state", STATE_PROBE),
        **uses("uses_position", "position_shifted"),
    }
    cameras = [match[1] for match in map(_CAMERA_CHANGE.fullmatch, figures) if match]
    for camera in cameras:
        found |= uses(f"uses_camera_{camera}", camera_probe(camera))
    spare = [camera for camera in cameras if not found[f"uses_camera_{camera}"]]
    reach = (1 + CLOCK_TOLERANCE) * figures[f"shortcut/{UNCHANGED}/rmse"]
    found["clock_suffices"] = references[reference_name("scenario_time_lookup", error)] <= reach or (
        found.get("uses_position", False) and not found["uses_images"]
    )
    words = [
        {
            True: "uses the instruction",
            False: "ignores the instruction",
            None: "was measured with one instruction only",
        }[found.get("uses_instruction")],
        "uses the images" if found["uses_images"] else "hardly uses the images",
        *([f"could do without the camera {' or '.join(spare)}"] if found["uses_images"] and spare else []),
        *(["uses the state" if found["uses_state"] else "hardly uses the state"] if "uses_state" in found else []),
        *(["takes the place in the window for the time"] if found.get("uses_position") else []),
        *(["a clock would do as well"] if found["clock_suffices"] else []),
    ]
    flags = {f"shortcut/{name}": float(is_true) for name, is_true in found.items()}
    return {**flags, "shortcut/verdict": ", ".join(words)}


def print_shortcuts(result: Mapping[str, float | str], console: Console, *, scale: ActionScale) -> None:
    """Print the result of ``measure_shortcuts`` as a small table, with its unit and the verdict below it.

    A column without figures is left out; a line says why there is no mirrored probe.
    """
    probes = [key.split("/")[1] for key in result if key.endswith("/rmse")]
    error = with_unit("nRMSE", SPREAD) if scale.is_scaled else "RMSE"
    columns = {
        heading: [
            "" if (value := result.get(f"shortcut/{probe}/{name}")) is None else form.format(value) for probe in probes
        ]
        for heading, name, form in (
            (error, "rmse", "{:.4f}"),
            ("change", "rmse_change", "{:+.4f}"),
            ("side changed", "side_change", "{:.0%}"),
        )
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("probe")
    for heading in columns:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for index, probe in enumerate(probes):
        table.add_row(Text(probe.replace("_", " ")), *(cells[index] for cells in columns.values()))
    notes = ["each over the windows that the probe changes"]
    if scale.is_scaled:
        notes[0] += f"; {SCALED_MEANING} (train std): there, predicting the mean has an error of 1"
    if scale.sideways is None:
        notes.append(
            "no probe with mirrored images, and no side: no action is known as a velocity to the side or of turning "
            f"({' or '.join(SIDEWAYS)}, which a mirror image flips)"
        )
    title = Text("What the policy acts on", style="bold underline")
    verdict = Text(f"verdict: the policy {result['shortcut/verdict']}", style="bold")
    console.print(Group(title, table, *(Text(note, style="dim") for note in notes), verdict))
