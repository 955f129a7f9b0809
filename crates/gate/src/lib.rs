//! Gate policies and verdicts.
