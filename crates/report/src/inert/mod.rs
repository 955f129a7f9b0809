//! Model output is hostile text. Each sink has one place that makes text inert for it.
//!
//! | sink | protection |
//! |---|---|
//! | HTML text and attributes | askama escapes; [`visible`] first |
//! | JSON inside `<script>` | [`script`] |
//! | Markdown text, code, fences | [`markdown`] |
//! | XML | quick-xml escapes; [`visible`] first, so nothing that XML forbids is left |
//! | terminals | [`line()`]: no control character is left |

pub mod control;
pub mod markdown;
mod names;
pub mod runs;
pub mod script;

pub use control::{line, short_line, visible};
pub use names::{NAME, apart};
