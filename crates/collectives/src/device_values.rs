/// Operation on values in the memory of GPUs, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceOperation {
    /// Replaces them by their sums over ranks.
    Sum,
    /// Replaces them by their sums on their owner; elsewhere they stay.
    SumOnOwner,
    /// Replaces them by those of their owner.
    Spread,
}

/// Type of values in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceType {
    /// float32.
    Float32,
    /// float16.
    Float16,
    /// bfloat16.
    Bfloat16,
}

/// Values in the memory of this rank's GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceValues {
    /// Address of the first.
    pub address: u64,
    /// Number of values.
    pub len: usize,
    /// Their type.
    pub dtype: DeviceType,
    /// The rank that they belong to.
    pub owner: usize,
}
