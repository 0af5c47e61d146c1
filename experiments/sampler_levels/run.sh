#!/usr/bin/env bash
# Train the four studies from nothing, or go on where they stand: what is done is not trained again.
# Two jobs at a time; arguments are passed on, such as hydra.launcher.n_jobs=8.
set -uo pipefail
cd "$(dirname "$0")/../.."
failed=0
study() {
  local name=$1 level=$2
  shift 2
  python run.py experiment=sampler_levels study.name="$name" "$level" hydra/launcher=joblib hydra.launcher.n_jobs=2 "$@" ||
    failed=1
}

study episodes_60 dataset.train_episodes=60 "$@"
study episodes_125 dataset.train_episodes=125 "$@"
study imbalance_0 dataset.generator.imbalance=0 "$@"
study imbalance_3 dataset.generator.imbalance=3 "$@"
exit "$failed"
