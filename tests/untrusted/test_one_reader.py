"""What other people wrote is read in few places: a new reader elsewhere is found here before it is found outside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tiny_runs import ROOT

PACKAGE = ROOT / "mobile_vla"

PLACES: dict[tuple[str, ...], set[str]] = {
    ("OmegaConf.load",): set(),
    ("OmegaConf.create",): {
        "untrusted/stored_config.py",
        "study/finished.py",  # what it wrote
        "inspection/comparison_start.py",  # a part of the config of this call
    },
    ("yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.safe_load_all"): {
        "untrusted/yaml_file.py"
    },
    ("instantiate", "hydra.utils.instantiate"): {"run/build.py"},  # of a config that was composed or checked
    ("get_object", "get_class", "get_method"): {"config.py", "tracking/provenance.py"},  # of the same
    ("importlib.import_module", "import_module", "__import__"): {
        "untrusted/targets.py",
        "policy/backbones/families/family.py",  # of this package, by the names of its files
        "training/optimizer.py",  # a constant
        "data/sources/hdf5/extents.py",  # a constant
        "extras.py",  # constants of this package: optional packages
        "data/reading/server.py",  # functions of this package, by the process that started it
    },
    ("json.load", "json.loads"): {
        "untrusted/files.py",
        "data/digests.py",  # caches of this machine
        "data/frames.py",
        "data/recordings_cache.py",
        "storage/build_once.py",
        "tracking/ownership.py",  # at most 64 KiB, and whatever it is, it only names a process
        "tracking/wandb/confirmation.py",  # what a server of W&B answers
        "features/store.py",
        "window_losses/irreducible.py",
        "policy/backbones/pretrained.py",  # weights that the user names
        "training/checkpoint.py",
    },
    ("pickle.load", "pickle.loads", "torch.load", "joblib.load", "eval", "exec", "marshal.loads"): set(),
    ("regex.compile",): {"data/labels/grammars.py"},
    ("csv.reader", "csv.DictReader"): {"untrusted/files.py"},
    ("Console", "rich.print"): {"process/console.py"},
}


def calls_of(file: Path) -> set[str]:
    """Return what ``file`` calls, by the dotted names that stand there."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)}


@pytest.fixture(scope="module")
def calls() -> dict[str, set[str]]:
    return {file.relative_to(PACKAGE).as_posix(): calls_of(file) for file in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("names", PLACES, ids=lambda names: names[0])
def test_it_is_called_in_its_places_alone(names: tuple[str, ...], calls: dict[str, set[str]]) -> None:
    found = {file for file, called in calls.items() if called & set(names)}
    assert found <= PLACES[names], "go through mobile_vla/untrusted, or mobile_vla/process/console.py"
