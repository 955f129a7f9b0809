//! Memory that the program itself takes, where the system tells.

/// Resident memory now, in bytes.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most memory that was resident so far, in bytes.
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(not(target_os = "linux"))]
fn status(_: &str) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_no_less_than_what_is_resident() {
        let (now, peak) = (resident().unwrap(), peak_resident().unwrap());
        assert!(now > 0 && peak >= now, "{now} {peak}");
    }
}
