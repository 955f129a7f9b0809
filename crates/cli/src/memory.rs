//! How much memory the program takes, where the system tells.

/// Resident memory in words, such as `1.4 GB`; empty where it cannot be told.
pub fn resident() -> String {
    const GIGABYTE: f64 = 1e9;
    resident_bytes().map_or(String::new(), |bytes| match bytes as f64 {
        bytes if bytes >= GIGABYTE => format!("{:.1} GB", bytes / GIGABYTE),
        bytes => format!("{:.0} MB", bytes / 1e6),
    })
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}
