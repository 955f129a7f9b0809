//! Tables without borders.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};

/// A table with a line below its header and no others; it never wraps.
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}
