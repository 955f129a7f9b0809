//! Memory in words, in the binary units of the trainer's memory check.

/// Resident memory of the program, such as `1.4 GiB`; empty if it is unknown.
pub fn resident() -> String {
    smpo_devices::resident().map_or(String::new(), size)
}

/// Bytes in binary units.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let found = UNITS.into_iter().find(|(unit, _)| bytes >= *unit);
    found.map_or(format!("{bytes} B"), |(unit, name)| format!("{:.1} {name}", bytes as f64 / unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = [size(0), size(1536), size(2_726_298), size(31_675_383_808)];
        assert_eq!(sizes, ["0 B", "1.5 KiB", "2.6 MiB", "29.5 GiB"]);
    }
}
