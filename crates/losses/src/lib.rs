//! Preference losses as pure functions of token log-probs.
