//! Every operation against its naive twin, in value and gradient, and the properties that only the kernels have.

mod adamw;
mod adapted_linear;
mod adapted_linears;
mod attention;
mod comparison;
mod delta;
mod device;
mod device_attention;
mod elementwise;
mod experts;
mod finite_difference;
mod gradients;
mod head;
mod moments;
mod refusals;
mod repeatability;
mod schedules;
mod tape;
mod weights;
