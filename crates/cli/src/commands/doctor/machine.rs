//! The machine: device, memory, threads, the Hub's cache.

use smpo_devices::{Choice, DeviceError, format_bytes};
use smpo_hub::Settings;
use smpo_trainer::MemoryBudget;

use super::Check;

/// Memory below which little but the demo can be trained.
const LITTLE: u64 = 2 << 30;

/// Engines that this build evaluates with.
pub fn engines() -> Vec<&'static str> {
    let mistralrs = cfg!(feature = "mistralrs").then_some("mistralrs");
    ["native"].into_iter().chain(mistralrs).chain(["http"]).collect()
}

/// Everything that is known without a model.
pub fn checks() -> Vec<Check> {
    vec![device(), memory(), threads(), hub()]
}

fn device() -> Check {
    let device = match Choice::Auto.open() {
        Ok(device) => device,
        Err(error) => return Check::error("device", error),
    };
    let found = format!("{} ({})", device.choice(), device.name());
    match device.fallback_reason() {
        None => Check::ok("device", found),
        Some(DeviceError::NotBuilt { .. }) => {
            Check::ok("device", format!("{found}; GPUs are for a build with --features cuda"))
        }
        Some(reason) => Check::warning("device", found, reason.to_string()),
    }
}

fn memory() -> Check {
    let free = MemoryBudget::host().free();
    let found = format!("{} free", format_bytes(free));
    match free < LITTLE {
        true => Check::warning("memory", found, "enough for the demo; models of 100 million parameters take 2 GiB"),
        false => Check::ok("memory", found),
    }
}

fn threads() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Check::ok("threads", format!("{} of {cores} cores", rayon::current_num_threads()))
}

fn hub() -> Check {
    let Settings { endpoint, cache, token, offline } = Settings::from_env();
    let token = if token.is_some() { "with a token" } else { "no token (public models only)" };
    let reached = if offline { "offline (HF_HUB_OFFLINE)".to_owned() } else { endpoint };
    Check::ok("hub", format!("{reached}, {token}, cache {}", cache.display()))
}
