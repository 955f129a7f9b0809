//! The on-disk schema of runs, samples, metrics and verdicts.
