//! Fused differentiable tensor operations, each beside a naive reference.
