#!/usr/bin/env bash
# Train the study from nothing, or go on where it stands: what is done is not trained again.
# Two jobs at a time; arguments are passed on, such as hydra.launcher.n_jobs=8.
set -euo pipefail
cd "$(dirname "$0")/../.."
sweep() { python run.py experiment=all_samplers hydra/launcher=joblib hydra.launcher.n_jobs=2 "$@"; }

# What rho, static_scores and group_dro read: losses of models that never saw the window's episode, and of one that did.
[ -f outputs/scores/irreducible.parquet ] ||
  python -m mobile_vla irreducible outputs/scores/irreducible.parquet --checkpoint best \
    augmentation=mirror trainer.steps=400 trainer.eval_every=50 seed=100
grep -qs '"status": "done"' outputs/scores/reference/summary.json ||
  python run.py augmentation=mirror seed=100 closed_loop=none evaluation.shortcuts=false logger=local \
    hydra.run.dir=outputs/scores/reference
[ -f outputs/scores/reference.parquet ] ||
  python -m mobile_vla losses outputs/scores/reference outputs/scores/reference.parquet

# A sweep with a failed job keeps no other from running; whether all went well is known at the end.
failed=0
sweep "$@" || failed=1
sweep sampler=static_scores sampler.file=outputs/scores/irreducible.parquet "$@" || failed=1
# LAP goes with the Huber loss, whose own control is shuffled.
sweep sampler=shuffled,lap model.head.loss=huber "$@" || failed=1
exit "$failed"
