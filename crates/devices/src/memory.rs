//! Memory of this process, that of sampling, and bytes as text.

use crate::open::Kind;

/// Bytes in binary units, as every report of memory prints them: `1.4 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.into_iter().find(|(exponent, _)| bytes >> exponent > 0);
    unit.map_or(format!("{bytes} B"), |(exponent, name)| {
        format!("{:.1} {name}", bytes as f64 / (1u64 << exponent) as f64)
    })
}

/// Bytes that sampling may take for its cache and a step's intermediate values, of `free` bytes beside the weights: `usize::MAX` for
/// a GPU whose driver does not say how many are free, since what does not fit is refused when it is allocated.
pub fn sampling_memory(kind: Kind, free: Option<u64>) -> usize {
    // The rest is for passes over prompts and of a scorer, and for gaps between allocations.
    const GPU_SHARE: f64 = 0.8;
    // The emulated device's memory is the host's, which others use too.
    const HOST: u64 = 1 << 30;
    let bytes = match (kind, free) {
        (Kind::Cuda(_), Some(free)) => (free as f64 * GPU_SHARE) as u64,
        (Kind::Cuda(_), None) => u64::MAX,
        (Kind::Cpu | Kind::Emulated, free) => free.map_or(HOST, |free| free.min(HOST)),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
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

    #[test]
    fn sampling_leaves_a_part_of_a_gpu_and_most_of_the_host() {
        assert_eq!(sampling_memory(Kind::Cuda(0), Some(1000)), 800);
        assert_eq!(sampling_memory(Kind::Cuda(0), None), usize::MAX);
        assert_eq!([None, Some(1 << 40)].map(|free| sampling_memory(Kind::Emulated, free)), [1 << 30; 2]);
        assert_eq!(sampling_memory(Kind::Emulated, Some(5)), 5);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_at_least_the_resident_memory() {
        let (now, peak) = (resident().unwrap(), peak_resident().unwrap());
        assert!(now > 0 && peak >= now, "{now} {peak}");
    }
}
