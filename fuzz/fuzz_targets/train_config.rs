//! Configurations of training runs: this project's, and those of every other trainer, in TOML, YAML and JSON.

#![no_main]

use std::sync::LazyLock;

use smpo_fuzz::{Files, target};
use smpo_imports::PROFILES;
use smpo_trainer::TrainConfig;

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let Some((choice, text)) = data.split_first() else { return };
    let choice = usize::from(choice.wrapping_sub(b'0'));
    let path = FILES.write(["run.toml", "run.yaml", "run.json"][choice % 3], text);
    // By the file's own keys where no profile is named.
    let profile = PROFILES.get(choice / 3).map(|profile| profile.name);
    let _ = TrainConfig::read_as(&path, profile, &[]).map_err(|error| error.to_string());
});
