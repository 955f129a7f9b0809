//! Suites, runner and degeneration metrics.
