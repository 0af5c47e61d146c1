"""Write small recordings, and the data page of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from tiny_runs import compose_config

from mobile_vla.evaluation.data_report import data_report_of
from mobile_vla.inspection.contents import contents_of
from mobile_vla.inspection.page.page import Inspected, write_data_page
from mobile_vla.run.build import build_dataset

MARKUP = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">\'&amp;</title></script>'


def write_recording(
    path: Path,
    *,
    images_FYXC: np.ndarray,
    actions_FA: np.ndarray,
    qpos_FS: np.ndarray | None = None,
    instruction: str = "Go to the door",
) -> None:
    """Write an HDF5 episode with one camera, and a state where ``qpos_FS`` is given."""
    with h5py.File(path, "w") as file:
        file["observations/images/front"] = images_FYXC
        file["action"] = actions_FA
        file["language_instruction"] = instruction
        if qpos_FS is not None:
            file["observations/qpos"] = qpos_FS


def moving_images(num_frames: int, *, seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return a smooth picture that moves by two pixels a frame: [F, Y, X, 3] uint8, with values of 100 to 160."""
    rng = np.random.default_rng(seed)
    height, width = size
    wide = np.repeat(np.repeat(rng.integers(100, 160, (height // 16, width, 3)), 16, 0), 16, 1)
    return np.stack([wide[:, 2 * f : 2 * f + width] for f in range(num_frames)]).astype(np.uint8)


def wandering(num_frames: int, num_signals: int = 2, *, seed: int = 0) -> np.ndarray:
    """Return signals that change in every frame: [F, A] float32."""
    steps = np.random.default_rng(seed).normal(size=(num_frames, num_signals))
    return np.cumsum(steps, axis=0).astype(np.float32)


def write_hostile_set(folder: Path) -> Path:
    """Write episodes whose names and instructions are markup, are very long, or hold characters that hide others."""
    folder.mkdir()
    names = [
        "<img src=x onerror=window.hacked=1>",
        "\"quoted' & <b>bold",
        "x" * 200,
        "\u202egnp.live",
        "$title ${x} %{y}",
    ]
    for index, name in enumerate(names):
        write_recording(
            folder / f"{name}_{index}.h5",
            images_FYXC=moving_images(20, seed=index),
            actions_FA=wandering(20, seed=index),
            qpos_FS=wandering(20, 3, seed=index),
            instruction=MARKUP if index % 2 else f"{'w' * 300} {'word ' * 940}{MARKUP}",
        )
    return folder


def inspected(folder: Path, *overrides: str, with_pixels: bool = False) -> Inspected:
    """Return what ``inspect`` finds in ``folder``; its caches lie beside it."""
    cfg = compose_config(
        [
            "dataset=auto",
            f"dataset.cache_dir={folder.parent}/cache",
            "dataset.num_workers=0",
            "dataset.on_bad_episode=skip",
            "dataset.image_size=16",
            *overrides,
        ]
    )
    cfg.dataset.path = str(folder)
    dataset = build_dataset(cfg)
    scan = dataset.scan()
    data = dataset.open(scan, with_pixels=with_pixels)
    report = data_report_of(data)
    return Inspected(
        title=folder.name,
        dataset=dataset,
        scan=scan,
        data=data,
        contents=contents_of(scan, list(data.episodes.values())),
        report=report,
        warnings=[*data.warnings, *report.warnings()],
    )


def write_page_of(folder: Path, *overrides: str, with_pixels: bool = False) -> Path:
    """Write the page of ``folder`` beside it and return its path."""
    page = folder.parent / f"{folder.name}.html"
    write_data_page(inspected(folder, *overrides, with_pixels=with_pixels), page)
    return page
