//! The training loop, optimizer schedules and checkpoints.
