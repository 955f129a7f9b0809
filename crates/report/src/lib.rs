//! Leaderboards and verdicts rendered for people.
