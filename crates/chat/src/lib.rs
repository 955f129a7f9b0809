//! Chat messages, templates and terminators.
