"""Torture the software and say which promise held in how many trials; made again, it goes on where it stopped.

python experiments/torture/torture.py                  # everything: at most 30 minutes on two cores
python experiments/torture/torture.py --share 0.05     # a short version
python experiments/torture/torture.py --only kills     # one promise
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "tracking"), str(Path(__file__).parent)]

from promises import PROMISES, Outcome, Promise  # noqa: E402

from mobile_vla.storage.disk import write_atomically  # noqa: E402
from mobile_vla.tracking.provenance import code_commit  # noqa: E402

TABLE = Path(__file__).parent / "table.md"
_AT_ONCE = 2


def main() -> int:
    """Run what is not recorded yet and print the table; 1 where a promise was broken."""
    args = _parse()
    if args.trial is not None:
        name, number, work = args.trial
        print(json.dumps(PROMISES[name].trial(args.seed, int(number), Path(work))))
        return 0
    chosen = [PROMISES[name] for name in args.only or PROMISES]
    records = ROOT / "outputs" / "torture" / f"{code_commit()}-seed{args.seed}"
    records.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows, num_broken = [], 0
    for promise in chosen:
        outcomes = _outcomes(promise, records / f"{promise.name}.jsonl", share=args.share, seed=args.seed)
        broken = [problem for outcome in outcomes for problem in outcome.broken]
        num_broken += len(broken)
        for problem in broken[:5]:
            print(f"BROKEN  {promise.name}: {problem}", flush=True)
        num_trials = sum(outcome.num_trials for outcome in outcomes)
        rows.append((promise.text, f"{num_trials:,}", promise.figure([outcome.facts for outcome in outcomes])))
        print(f"{promise.name}: {rows[-1][1]} trials, {rows[-1][2]}", flush=True)
    lines = ["| promise | trials | figure |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    print("\n".join(["", *lines, "", f"{time.monotonic() - started:.0f} s in this sitting; {num_broken} broken"]))
    if args.share == 1 and not args.only:
        write_atomically(TABLE, "\n".join([*lines, ""]))
    return 1 if num_broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PROMISES), help="these promises alone")
    parser.add_argument("--share", type=float, default=1.0, help="of all trials, 0 to 1 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument("--trial", nargs=3, metavar=("NAME", "NUMBER", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _outcomes(promise: Promise, record: Path, *, share: float, seed: int) -> list[Outcome]:
    """Return the outcomes of the promise's batches: those in ``record``, and the others, which are added to it."""
    wanted = range(max(1, round(promise.num_batches * share)))
    known = {}
    if record.exists():
        lines = record.read_text().splitlines(keepends=True)
        known = {number: Outcome(**rest) for number, rest in (json.loads(line) for line in lines if line[-1] == "\n")}
    to_do = [number for number in wanted if number not in known]
    with ThreadPoolExecutor(promise.at_once or _AT_ONCE) as pool, record.open("a") as file:
        running = {number: pool.submit(_run, promise, number, seed) for number in to_do}
        for number, future in running.items():
            known[number] = future.result()
            file.write(json.dumps([number, known[number].__dict__]) + "\n")
            file.flush()
    return [known[number] for number in wanted]


def _run(promise: Promise, number: int, seed: int) -> Outcome:
    """Run one batch of trials in a process of its own, which may crash, hang or grow: that is what is counted."""
    with tempfile.TemporaryDirectory(prefix=f"torture-{promise.name}-") as work:
        command = [sys.executable, __file__, "--seed", str(seed), "--trial", promise.name, str(number), work]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True, cwd=work
            )
            peak_bytes, status = _wait(process.pid, promise.limit_s)
            process.returncode = status
            output.seek(0), errors.seek(0)
            lines, last_words = output.read().decode().splitlines(), errors.read().decode(errors="replace")[-2000:]
    if status != 0 or not lines:
        how = "took too long" if status == -signal.SIGALRM else f"ended with {status}"
        return Outcome(num_trials=promise.batch, facts={"crashes": 1}, broken=[f"batch {number} {how}: {last_words}"])
    found = json.loads(lines[-1])
    return Outcome(
        num_trials=found["num_trials"],
        facts={**found["facts"], "peak_mb": peak_bytes / 1e6},
        broken=[f"batch {number}: {text}" for text in found["broken"]],
    )


def _wait(pid: int, limit_s: float) -> tuple[int, int]:
    """Return the largest memory that the process or one it waited for took, in bytes, and its exit code."""
    deadline = time.monotonic() + limit_s
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return 0, -signal.SIGALRM
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
