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

sweep "$@"
sweep sampler=static_scores sampler.file=outputs/scores/irreducible.parquet "$@"
# LAP goes with the Huber loss, whose own control is shuffled; its threshold is near the median loss of a window here.
sweep sampler=shuffled model.head.loss=huber "$@"
sweep sampler=lap sampler.threshold=0.1 model.head.loss=huber "$@"
