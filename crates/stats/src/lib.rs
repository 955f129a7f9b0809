//! Estimates, intervals, tests and power for paired evaluations.
