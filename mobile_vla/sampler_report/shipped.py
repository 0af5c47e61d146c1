"""List the built-in samplers that cannot have an effect on a data set."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mobile_vla.config import compose_config
from mobile_vla.data.batches import WindowReader
from mobile_vla.errors import ConfigError
from mobile_vla.installation import CONF
from mobile_vla.run.build import build_sampler
from mobile_vla.streams import Stream

_NO_FILE = "no window score file yet (sampler.file)"


def warn_of_samplers(reader: WindowReader, *, trainer: DictConfig, stream: Stream) -> list[str]:
    """Return one line for each sampler that cannot be used on the windows of ``reader``, or cannot differ on them.

    All samplers whose window score file does not exist are in one line.
    """
    against = reasons_against(reader, trainer=trainer, stream=stream)
    without_file = [name for name, reason in against.items() if reason == _NO_FILE]
    found = [f"{_NO_FILE} for {', '.join(without_file)}"] if without_file else []
    return sorted([*found, *(f"sampler={name} {against[name]}" for name in against.keys() - without_file)])


def reasons_against(reader: WindowReader, *, trainer: DictConfig, stream: Stream) -> dict[str, str]:
    """Return, by sampler, why it cannot be used on the windows of ``reader``, or cannot differ on them.

    The samplers are built with their default options, for the batch size and the steps of ``trainer``: an override for
    one sampler would be an error for the others.
    """
    nodes = {
        # Only the sampler option is composed: a whole config takes three times as long.
        path.stem: OmegaConf.merge({"trainer": trainer}, compose_config([], name=f"sampler/{path.stem}")).sampler
        for path in sorted((CONF / "sampler").glob("*.yaml"))
    }
    found = {}
    for name, node in nodes.items():
        if _lacks_file(node):
            found[name] = _NO_FILE
            continue
        try:
            reason = build_sampler(node, reader, batch_size=trainer.batch_size, stream=stream).no_effect_reason()
        except ConfigError as error:
            found[name] = f"cannot be used: {error}"
        else:
            if reason:
                found[name] = f"cannot differ from shuffled here: {reason}"
    return found


def _lacks_file(node: DictConfig) -> bool:
    if OmegaConf.missing_keys(node):
        return True
    file = node.get("file")
    return isinstance(file, str) and not Path(file).is_file()
