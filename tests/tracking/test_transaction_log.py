"""Hold our reader and writer of W&B's log against wandb's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2
from wandb_records import inspect

from mobile_vla.tracking.wandb.transaction_log import UnreadableRecordingError, end_log, is_row, read_log, write_log

LENGTHS = st.one_of(st.integers(0, 300), st.integers(32_600, 32_800), st.integers(65_300, 65_600))
"""Of a row's text: short, and around one and two blocks of 32 KiB."""


def records_of(lengths: list[int]) -> list[wandb_internal_pb2.Record]:
    first = wandb_internal_pb2.Record()
    first.run.run_id = "run"
    records = [first]
    for number, length in enumerate(lengths):
        record = wandb_internal_pb2.Record(num=number + 1)
        record.history.item.add(key="text", value_json=json.dumps("x" * length))
        record.history.item.add(key="_timestamp", value_json=str(1.5e9 + number))
        records.append(record)
    return records


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(LENGTHS, max_size=6), kept=st.floats(0, 1))
def test_what_is_written_is_read_and_a_torn_end_costs_only_the_records_it_tears(
    tmp_path: Path, lengths: list[int], kept: float
) -> None:
    file, records = tmp_path / "run-x.wandb", records_of(lengths)
    write_log(file, records)
    log = read_log(file)
    assert list(log.records) == records
    assert log.timestamps == tuple(1.5e9 + number for number in range(len(lengths)))

    content, sizes = file.read_bytes(), []
    for number in range(1, len(records) + 1):
        write_log(file, records[:number])
        sizes.append(file.stat().st_size)
    cut = int(kept * len(content))
    file.write_bytes(content[:cut])
    if whole := sum(size <= cut for size in sizes):
        assert list(read_log(file).records) == records[:whole]
    else:
        with pytest.raises(UnreadableRecordingError, match="has no record of a run"):
            read_log(file)


def test_wandb_s_own_reader_reads_the_same(tmp_path: Path) -> None:
    file, lengths = tmp_path / "run-x.wandb", [0, 32_740, 70_000, 10, 32_750]
    write_log(file, records_of(lengths))
    shown = [json.loads(line) for line in inspect(file).splitlines()]
    assert [len(entry["history"]["item"]["text"]) for entry in shown[1:]] == lengths

    file.write_bytes(file.read_bytes()[:-10])
    end_log(file, exit_code=3)
    shown = [json.loads(line) for line in inspect(file).splitlines()]
    assert [entry["type"] for entry in shown] == ["run", *["history"] * 4, "exit"]
    end_log(file, exit_code=4)
    log = read_log(file)
    assert (log.has_ended, sum(map(is_row, log.records))) == (True, 4)
    assert log.records[-1].exit.exit_code == 3


def test_what_is_no_log_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "run-x.wandb"
    file.write_text("not a log")
    with pytest.raises(UnreadableRecordingError, match=rf"{file} cannot be read \(bad header\)"):
        read_log(file)
    file.unlink()
    subprocess.run(["mkfifo", file], check=True)
    with pytest.raises(Exception, match="named pipe"):
        read_log(file)
