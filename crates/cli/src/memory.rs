//! How much memory the program takes, in words.

/// Resident memory in words, such as `1.4 GB`; empty where it cannot be told.
pub fn resident() -> String {
    const GIGABYTE: f64 = 1e9;
    smpo_devices::resident().map_or(String::new(), |bytes| match bytes as f64 {
        bytes if bytes >= GIGABYTE => format!("{:.1} GB", bytes / GIGABYTE),
        bytes => format!("{:.0} MB", bytes / 1e6),
    })
}
