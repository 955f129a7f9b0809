//! Differences between two configurations.

use std::collections::BTreeSet;

use super::TrainConfig;

impl TrainConfig {
    /// Keys in which two configurations differ, except the device: a run may continue on another machine.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (mine, theirs) = (table(self), table(other));
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let differ = |key: &&String| key.as_str() != "device" && mine.get(*key) != theirs.get(*key);
        keys.into_iter().filter(differ).cloned().collect()
    }
}
