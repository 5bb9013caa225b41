//! Which tables of a page hold data, and which only put things beside each other.

use html5gum::Token;

use super::{attr, name, tokens};

/// A table that is being read.
pub(super) struct OpenTable {
    pub is_layout: bool,
    pub in_row: bool,
    pub cell: Option<usize>,      // columns of the open cell
    column: usize,                // of the next cell
    below: Vec<(usize, usize)>,   // columns that a cell of a row above reaches into, and for how many rows more
    reaches: Vec<(usize, usize)>, // the same, of cells of this row
}

impl OpenTable {
    pub fn new(is_layout: bool) -> Self {
        Self { is_layout, in_row: false, cell: None, column: 0, below: Vec::new(), reaches: Vec::new() }
    }

    /// Begins a cell and returns how many cells before it are empty, because one of a row above reaches into them.
    pub fn open_cell(&mut self, columns: usize, rows: usize) -> usize {
        const MAX_COLUMNS: usize = 1024;
        let columns = columns.clamp(1, MAX_COLUMNS);
        let before = self.column;
        while self.below.iter().any(|(column, _)| *column == self.column) {
            self.column += 1;
        }
        let num_empty = self.column - before;
        if rows > 1 && self.reaches.len() < MAX_COLUMNS {
            self.reaches.extend((self.column..self.column + columns).map(|column| (column, rows - 1)));
        }
        self.column += columns;
        self.cell = Some(columns);
        num_empty
    }

    /// Ends a row.
    pub fn close_row(&mut self) {
        self.in_row = false;
        self.column = 0;
        self.below.iter_mut().for_each(|(_, rows)| *rows -= 1);
        self.below.retain(|(_, rows)| *rows > 0);
        self.below.append(&mut self.reaches);
    }
}

/// What is seen of a table up to its end.
#[derive(Default)]
struct Seen {
    index: usize,
    is_layout: bool,
    num_rows: usize,
    num_cells: usize,
    has_head: bool,
}

/// Returns for each table of a page, in the order they open, whether it is there for layout: it says so, holds another
/// table or headings outside of its head cells, or never has two cells beside each other.
pub(super) fn layout_tables(text: &str) -> Vec<bool> {
    let mut answers: Vec<bool> = Vec::new();
    let mut open: Vec<Seen> = Vec::new();
    let close = |seen: Seen, answers: &mut Vec<bool>| {
        let one_column = seen.num_cells <= seen.num_rows && !seen.has_head;
        answers[seen.index] = seen.is_layout || one_column;
    };
    let mut in_head_cell = false;
    for token in tokens(text) {
        match token {
            Token::StartTag(tag) => match name(&tag.name) {
                "table" => {
                    if let Some(outer) = open.last_mut() {
                        outer.is_layout = true;
                    }
                    let role = attr(&tag.attributes, "role");
                    let is_layout = matches!(role.as_deref(), Some("presentation" | "none"));
                    open.push(Seen { index: answers.len(), is_layout, ..Seen::default() });
                    answers.push(false);
                }
                "tr" => {
                    if let Some(table) = open.last_mut() {
                        table.num_rows += 1;
                    }
                }
                "td" | "th" => {
                    in_head_cell = name(&tag.name) == "th";
                    if let Some(table) = open.last_mut() {
                        table.num_cells += 1;
                        table.has_head |= in_head_cell;
                    }
                }
                "h1" | "h2" | "h3" if !in_head_cell => {
                    if let Some(table) = open.last_mut() {
                        table.is_layout = true;
                    }
                }
                _ => {}
            },
            Token::EndTag(tag) => match name(&tag.name) {
                "table" => {
                    if let Some(seen) = open.pop() {
                        close(seen, &mut answers);
                    }
                }
                "th" => in_head_cell = false,
                _ => {}
            },
            _ => {}
        }
    }
    open.into_iter().for_each(|seen| close(seen, &mut answers));
    answers
}
