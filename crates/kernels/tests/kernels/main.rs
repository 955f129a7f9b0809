//! Every kernel against its naive twin, in value and gradient, and what only the kernels promise.

mod adamw;
mod attention;
mod comparison;
mod device;
mod device_attention;
mod elementwise;
mod finite_difference;
mod gradients;
mod head;
mod refusals;
mod repeatability;
mod tape;
