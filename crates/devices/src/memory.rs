//! Memory of this process, and bytes as text.

/// Bytes in binary units, as every report of memory prints them: `1.4 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.into_iter().find(|(exponent, _)| bytes >> exponent > 0);
    unit.map_or(format!("{bytes} B"), |(exponent, name)| {
        format!("{:.1} {name}", bytes as f64 / (1u64 << exponent) as f64)
    })
}

/// Resident memory, in bytes; `None` where the system does not report it.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// Peak of resident memory, in bytes; `None` where the system does not report it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        let sizes = [0, 1023, 1536, 2_600_000, 29_500_000_000].map(format_bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "2.5 MiB", "27.5 GiB"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_at_least_the_resident_memory() {
        let (now, peak) = (resident().unwrap(), peak_resident().unwrap());
        assert!(now > 0 && peak >= now, "{now} {peak}");
    }
}
