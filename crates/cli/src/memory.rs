//! Memory of the program as text.

/// Resident memory of the program, such as `1.4 GiB`; empty if it is unknown.
pub fn resident() -> String {
    smpo_devices::resident().map(smpo_devices::format_bytes).unwrap_or_default()
}
