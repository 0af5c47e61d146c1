"""The optional packages: the extra of the installation that contains each, and the error if one is missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from mobile_vla.errors import ConfigError

EXTRAS = {
    "av": "video",
    "bitsandbytes": "gpu",
    "gymnasium": "sim",
    "hydra_plugins.hydra_optuna_sweeper": "tune",
    "mujoco": "sim",
    "peft": "vlm",
    "rosbags": "rosbag",
    "tensorboard": "tensorboard",
    "transformers": "vlm",
    "wandb": "wandb",
    "wandb_workspaces": "wandb",
}
"""The extra in pyproject.toml that contains a package, by the import name of the package."""


def require(package: str, *, asked_by: str) -> None:
    """Raise ``ConfigError`` if ``package`` is not installed; ``asked_by`` names what needs it, such as ``a.b=c``."""
    if not _is_installed(package):
        raise ConfigError(f"{asked_by}: {_missing(package)}")


def load(package: str, *modules: str, asked_by: str) -> None:
    """Import ``modules`` of an optional package, or itself without any.

    Raises ``ConfigError`` if it is not installed, or installed and broken: whoever imports it while a file is read
    would else blame the file.
    """
    require(package, asked_by=asked_by)
    for module in modules or (package,):
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigError(f"{asked_by}: {_broken(package, error)}") from error


def missing_extra(error: BaseException | None) -> str | None:
    """Return the message if ``error`` or one of its causes is a failed import of an optional package; otherwise None.

    The package may be missing, or broken: one of its modules or shared libraries cannot be loaded.

    The causes are searched because Hydra wraps the errors of imports.
    """
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            return _missing(error.name)
        if isinstance(error, ImportError) and (package := (error.name or "").split(".")[0]) in EXTRAS:
            return _broken(package, error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package that it would be part of
        return False


def _missing(package: str) -> str:
    return f"needs the package {package}, which is not installed: pip install 'mobile-vla[{EXTRAS[package]}]'"


def _broken(package: str, error: ImportError) -> str:
    cause = " ".join(str(error).split())[:300]
    return (
        f"needs the package {package}, which is installed but cannot be loaded ({cause}). Install it again: "
        f"pip install --force-reinstall 'mobile-vla[{EXTRAS[package]}]'"
    )
