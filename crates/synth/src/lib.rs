//! The synthetic instruction world that the demo and the tests train on.
