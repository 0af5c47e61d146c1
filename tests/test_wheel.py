"""The package as a stranger installs it: built as a wheel, in an environment and a folder that know no checkout."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny_runs import ROOT

from mobile_vla.extras import EXTRAS

OF_ANOTHER = {"google", "httpx2", "pydantic_core"}
"""What comes with wandb (protobuf), huggingface_hub and pydantic, and is imported beside them."""

PACKAGES = Path(sysconfig.get_path("purelib"))


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` without what this process knows of the checkout."""
    hidden = {"PYTHONPATH", "PYTHONSTARTUP"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environment)


def built(source: Path, folder: Path) -> Path:
    """Build the wheel of ``source`` in the empty ``folder`` and return it."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    made = run(*pip, "--wheel-dir", folder, source, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment that holds ``wheel`` alone, and return its folder of packages."""
    venv.create(folder, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", folder / "bin" / "python")
    made = run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


def test_what_is_imported_outside_of_the_extras_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    providers = packages_distributions()
    for path in sorted((ROOT / "mobile_vla").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for package in {str(name).split(".")[0] for name in names} - sys.stdlib_module_names - {"mobile_vla"}:
                found = {canonicalize_name(name) for name in providers[package]}
                assert found & declared or package in {*EXTRAS, *OF_ANOTHER}, f"{path} imports {package}"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, whose dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    # A path in a .pth file is only searched: the .pth of the editable checkout in it does not count.
    (environment(folder, wheel) / "dependencies.pth").write_text(f"{PACKAGES}\n")
    return folder / "bin"


def test_the_wheel_holds_the_configs_and_what_else_is_no_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"mobile_vla/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assets = {str(path.relative_to(ROOT)) for path in (ROOT / "mobile_vla").rglob("assets/*")}
    assert configs | assets | {"mobile_vla/py.typed"} <= names
    assert not {name for name in names if name.startswith(("tests", "experiments", "conf"))}


def test_it_trains_and_compares_in_any_folder(installed: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "multirun" / "first"
    trained = run(
        *(installed / "mobile-vla", "train", "-m", *tiny, "study.name=first"),
        "sampler=shuffled,random_temporal",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert str(ROOT) not in (sweep / "multirun.yaml").read_text()

    for program in ((installed / "mobile-vla",), (installed / "python", "-m", "mobile_vla")):
        (sweep / "comparison.json").unlink()
        compared = run(*program, "compare", sweep, cwd=tmp_path)
        assert compared.returncode == 0, compared.stdout + compared.stderr
        assert "random_temporal" in compared.stdout
        assert (sweep / "comparison.json").is_file()


def test_it_speaks_of_its_own_commands(installed: Path, tmp_path: Path) -> None:
    usage = run(installed / "mobile-vla", "--help", cwd=tmp_path)
    assert usage.stdout.startswith("usage: mobile-vla ")
    options = run(installed / "mobile-vla", "train", "--help", cwd=tmp_path)
    assert "mobile-vla train sampler=random_temporal" in options.stdout
    assert "run.py" not in usage.stdout + options.stdout
    assert run(installed / "mobile-vla", "--version", cwd=tmp_path).stdout.startswith("mobile_vla ")
    refused = run(installed / "mobile-vla", "train", "sampler.typo=1", cwd=tmp_path)
    assert refused.returncode == 1
    assert "typo" in refused.stderr


def test_the_robot_s_client_needs_few_packages_and_no_torch(tmp_path: Path) -> None:
    source = ROOT / "mobile_vla" / "serving"
    needed = tomllib.loads((source / "pyproject.toml").read_text())["project"]["dependencies"]
    assert len(needed) <= 5
    packages = environment(tmp_path / "environment", built(source, tmp_path))
    for name in needed:
        for found in (PACKAGES / name, *PACKAGES.glob(f"{name}.libs")):
            if found.exists():
                (packages / found.name).symlink_to(found)
    code = (
        "from mobile_vla.serving.client import PolicyClient\n"
        "try:\n    PolicyClient('ws://127.0.0.1:9')\n"
        "except Exception as error:\n    print(error)\n"
        "import mobile_vla\n"
        "try:\n    mobile_vla.Policy\nexcept ImportError as error:\n    print(error)\n"
        "import importlib.util; print(importlib.util.find_spec('torch'))"
    )
    ran = run(tmp_path / "environment" / "bin" / "python", "-c", code, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "serve" in ran.stdout
    assert "pip uninstall mobile-vla-client" in ran.stdout
    assert ran.stdout.endswith("None\n")
