//! Paragraphs that stand in the body, in cells of tables, and in notes: each goes where it belongs. Knows no markup.

use std::ops::Range;

use super::build::{Build, Row};

/// What a paragraph is.
pub enum Kind {
    Plain,
    Heading(u8),
    Item { depth: usize, marker: String },
}

/// Takes paragraphs in the order of the file.
pub struct Flow<'b> {
    pub build: &'b mut Build,
    frames: Vec<Frame>,
}

/// What a paragraph stands in, innermost last.
enum Frame {
    Table { rows: Vec<Row>, cells: Vec<String>, row_at: usize },
    Cell(String),
    Note { label: String, text: String, at: usize },
}

impl<'b> Flow<'b> {
    pub fn new(build: &'b mut Build) -> Self {
        Self { build, frames: Vec::new() }
    }

    pub fn paragraph(&mut self, kind: Kind, text: &str, source: Range<usize>) {
        let words = text.trim();
        if words.is_empty() {
            return;
        }
        match self.frames.last_mut() {
            Some(Frame::Cell(said) | Frame::Note { text: said, .. }) => {
                if !said.is_empty() {
                    said.push(' ');
                }
                if let Kind::Item { marker, .. } = &kind {
                    said.push_str(marker);
                    said.push(' ');
                }
                said.push_str(words);
            }
            // A paragraph between the rows of a table stands before it.
            Some(Frame::Table { .. }) | None => match kind {
                Kind::Plain => self.build.paragraph(text, Some(source)),
                Kind::Heading(level) => self.build.heading(level, words, Some(source)),
                Kind::Item { depth, marker } => self.build.item(depth, &marker, words, Some(source)),
            },
        }
    }

    pub fn open_table(&mut self) {
        self.frames.push(Frame::Table { rows: Vec::new(), cells: Vec::new(), row_at: 0 });
    }

    pub fn open_row(&mut self, at: usize) {
        if let Some(Frame::Table { row_at, cells, .. }) = self.frames.last_mut() {
            *row_at = at;
            cells.clear();
        }
    }

    pub fn open_cell(&mut self) {
        self.frames.push(Frame::Cell(String::new()));
    }

    /// Ends a cell that reaches over `span` columns.
    pub fn close_cell(&mut self, span: usize) {
        const MAX_SPAN: usize = 1024;
        if !matches!(self.frames.last(), Some(Frame::Cell(_))) {
            return;
        }
        let Some(Frame::Cell(text)) = self.frames.pop() else { return };
        match self.frames.last_mut() {
            Some(Frame::Table { cells, .. }) => {
                cells.push(text);
                cells.extend((1..span.min(MAX_SPAN)).map(|_| String::new()));
            }
            _ => self.paragraph(Kind::Plain, &text, 0..0),
        }
    }

    pub fn close_row(&mut self, end: usize) {
        if let Some(Frame::Table { rows, cells, row_at }) = self.frames.last_mut() {
            rows.push(Row { cells: std::mem::take(cells), source: Some(*row_at..end) });
        }
    }

    /// Ends a table. One inside a cell of another becomes words of that cell; one of a single cell is a frame around
    /// words, and no table.
    pub fn close_table(&mut self) {
        if !matches!(self.frames.last(), Some(Frame::Table { .. })) {
            return;
        }
        let Some(Frame::Table { rows, .. }) = self.frames.pop() else { return };
        let only_cell = rows.len() == 1 && rows[0].cells.iter().filter(|c| !c.trim().is_empty()).count() == 1;
        if self.frames.is_empty() && !only_cell {
            self.build.table(&rows);
            return;
        }
        for row in rows {
            let source = row.source.unwrap_or(0..0);
            for cell in row.cells {
                self.paragraph(Kind::Plain, &cell, source.clone());
            }
        }
    }

    pub fn open_note(&mut self, label: String, at: usize) {
        self.frames.push(Frame::Note { label, text: String::new(), at });
    }

    /// Ends a note and returns it, to be written where the paragraph it hangs on has ended.
    pub fn close_note(&mut self, end: usize) -> Option<Note> {
        if !matches!(self.frames.last(), Some(Frame::Note { .. })) {
            return None;
        }
        match self.frames.pop() {
            Some(Frame::Note { label, text, at }) if !text.is_empty() => Some(Note { label, text, source: at..end }),
            _ => None,
        }
    }

    /// Ends whatever a broken file left open, so that none of its words is lost.
    pub fn finish(mut self, end: usize) {
        while let Some(frame) = self.frames.last() {
            match frame {
                Frame::Table { cells, .. } => {
                    if !cells.is_empty() {
                        self.close_row(end);
                    }
                    self.close_table();
                }
                Frame::Cell(_) => self.close_cell(1),
                Frame::Note { .. } => {
                    if let Some(note) = self.close_note(end) {
                        note.write(self.build);
                    }
                }
            }
        }
    }
}

/// A note, a comment or an annotation.
pub struct Note {
    label: String,
    text: String,
    source: Range<usize>,
}

impl Note {
    pub fn labeled(self, label: String) -> Self {
        Self { label, ..self }
    }

    /// Writes it as Markdown's `[^label]: text`, or as a paragraph where it has no label.
    pub fn write(self, build: &mut Build) {
        let text = if self.label.is_empty() { self.text } else { format!("{}: {}", self.label, self.text) };
        build.paragraph(&text, Some(self.source));
    }
}
