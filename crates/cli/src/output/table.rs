//! Tables without lines.

use comfy_table::{Table, presets};

/// A table with these headings.
pub(super) fn new<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    // The first column begins at the margin.
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table
}

/// Its lines, without blanks at their ends.
pub(super) fn text(table: &Table) -> String {
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
