//! Policies of the gate.

#![no_main]

use smpo_fuzz::target;
use smpo_gate::Policy;

target!(data, {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Policy::parse("fuzzed.toml", text).map_err(|error| error.to_string());
    }
});
