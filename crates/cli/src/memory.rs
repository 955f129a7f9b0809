//! Resident memory of the program.

/// Resident memory, such as `1.4 GB`; empty if it is unknown.
pub fn resident() -> String {
    const GIGABYTE: f64 = 1e9;
    smpo_devices::resident().map_or(String::new(), |bytes| match bytes as f64 {
        bytes if bytes >= GIGABYTE => format!("{:.1} GB", bytes / GIGABYTE),
        bytes => format!("{:.0} MB", bytes / 1e6),
    })
}
