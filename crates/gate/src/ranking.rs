//! Ranking (below).
