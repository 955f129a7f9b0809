//! Preference and instruction data: readers, tokenisation, truncation, order.
