//! Writes the text of a document block by block, and notes where in the file each block came from. What a structured
//! format is read with; knows none of them.

use std::ops::Range;

use super::options::{ReadOptions, size_text};
use super::turns::{line_ranges, squeeze};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format, Heading, Page, Part, Place, Table};

/// A document that is being written. Blocks stand a blank line apart, items of a list and rows of a table a line.
pub(super) struct Build {
    pub document: Document,
    max_text: u64, // bytes
    max_pages: u32,
    is_over: bool,
    tight: bool, // whether the block before was an item
}

/// One row of a table; its cells are plain text.
pub(super) struct Row {
    pub cells: Vec<String>,
    pub source: Option<Range<usize>>, // bytes of the part
}

/// One row of a sheet: its number and its cells, each with its column, ascending and counted from 0.
pub(super) struct SheetRow {
    pub number: u32,
    pub cells: Vec<(u32, String)>,
    pub source: Option<Range<usize>>, // bytes of the part
}

impl Build {
    pub fn new(format: Format, options: &ReadOptions) -> Self {
        Self {
            document: Document::of(format, String::new()),
            max_text: options.max_text,
            max_pages: options.max_pages,
            is_over: false,
            tight: false,
        }
    }

    /// Begins a part: what is written from here on comes from it, up to the next one.
    pub fn part(&mut self, name: impl Into<String>) {
        let at = self.document.text.len();
        self.document.parts.push(Part { name: name.into(), range: at..at });
    }

    /// Begins a page: pages cover the text from the first one on.
    pub fn page(&mut self, number: u32) {
        let at = self.document.text.len();
        self.document.pages.push(Page { number, range: at..at });
        self.is_over |= self.document.pages.len() > self.max_pages as usize;
    }

    pub fn heading(&mut self, level: u8, title: &str, source: Option<Range<usize>>) {
        let title = squeeze(title);
        if title.is_empty() {
            return;
        }
        let level = level.clamp(1, 6);
        self.separate(false);
        let range = self.write(&format!("{} {title}", "#".repeat(level.into())), source);
        self.document.headings.push(Heading { level, title, range });
    }

    pub fn paragraph(&mut self, text: &str, source: Option<Range<usize>>) {
        let text = text.trim_matches(['\n', ' ', '\t', '\r']);
        if !text.trim().is_empty() {
            self.separate(false);
            self.write(text, source);
        }
    }

    /// Writes an item of a list; `marker` is what stands before it, as `-` or `3.`.
    pub fn item(&mut self, depth: usize, marker: &str, text: &str, source: Option<Range<usize>>) {
        const MAX_DEPTH: usize = 8; // deeper ones are written as deep as this
        let indent = "  ".repeat(depth.min(MAX_DEPTH));
        let text = text.trim().replace('\n', &format!("\n{indent}  "));
        if !text.is_empty() {
            self.separate(true);
            self.write(&format!("{indent}{marker} {text}"), source);
        }
    }

    /// Writes a table as Markdown; the first row is its head. Rows and columns without words are left out, and cells
    /// are put on one line each.
    pub fn table(&mut self, rows: &[Row]) {
        let rows: Vec<&Row> = rows.iter().filter(|r| r.cells.iter().any(|c| !c.trim().is_empty())).collect();
        let width = rows.iter().map(|r| r.cells.len()).max().unwrap_or(0);
        let used = |column: usize| rows.iter().any(|r| r.cells.get(column).is_some_and(|c| !c.trim().is_empty()));
        let columns: Vec<usize> = (0..width).filter(|column| used(*column)).collect();
        if rows.is_empty() || self.is_over {
            return;
        }
        self.separate(false);
        for (index, row) in rows.iter().enumerate() {
            let cells = columns.iter().map(|c| row.cells.get(*c).map_or("", String::as_str));
            self.row(cells, row.source.clone());
            if index == 0 {
                self.dashes(columns.len());
            }
        }
    }

    /// Writes the cells of a sheet as a table that knows its rows and columns; `rows` are ascending.
    pub fn sheet(&mut self, sheet: &str, rows: &[SheetRow]) {
        let mut columns: Vec<u32> = rows.iter().flat_map(|row| row.cells.iter().map(|(c, _)| *c)).collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            return;
        }
        self.separate(false);
        let from = self.document.text.len();
        let mut numbers = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| !row.cells.is_empty()) {
            let mut next = row.cells.iter().peekable();
            let line = columns.iter().map(|c| next.next_if(|(at, _)| at == c).map_or("", |(_, text)| text.as_str()));
            self.row(line, row.source.clone());
            if numbers.is_empty() {
                self.dashes(columns.len());
            }
            numbers.push(row.number);
            if self.is_over {
                break;
            }
        }
        let range = from..self.document.text.len();
        self.document.tables.push(Table { range, sheet: sheet.to_owned(), rows: numbers, columns });
    }

    fn row<'a>(&mut self, cells: impl Iterator<Item = &'a str>, source: Option<Range<usize>>) {
        let mut line = String::from("|");
        for cell in cells {
            line.push(' ');
            line.push_str(&squeeze(cell).replace('\\', "\\\\").replace('|', "\\|"));
            line.push_str(" |");
        }
        self.write(&line, source);
        self.document.text.push('\n');
    }

    fn dashes(&mut self, num_columns: usize) {
        self.document.text.push_str(&format!("|{}\n", " --- |".repeat(num_columns)));
    }

    /// Adds a document that stands inside this one: its text, structure, parts and warnings.
    pub fn append(&mut self, name: &str, inner: Document) {
        self.separate(false);
        let at = self.document.text.len();
        let moved = |r: &Range<usize>| r.start + at..r.end + at;
        let first_part = self.document.parts.len() as u32;
        let all = at..at + inner.text.len();
        let alone = inner.parts.is_empty();
        // A text that is its file's own stands at the same bytes of its part, line by line.
        if inner.is_verbatim() {
            let lines = line_ranges(&inner.text).filter(|line| !line.is_empty());
            self.document.places.extend(lines.map(|l| Place { range: moved(&l), part: first_part, source: l }));
        }
        if alone {
            self.document.parts.push(Part { name: name.to_owned(), range: all.clone() });
        }
        self.document
            .parts
            .extend(inner.parts.iter().map(|p| Part { name: format!("{name} > {}", p.name), range: moved(&p.range) }));
        let places = inner.places.iter();
        self.document.places.extend(places.map(|p| Place {
            range: moved(&p.range),
            part: first_part + p.part,
            source: p.source.clone(),
        }));
        self.document.headings.extend(inner.headings.iter().map(|h| Heading {
            level: h.level,
            title: h.title.clone(),
            range: moved(&h.range),
        }));
        self.document.tables.extend(inner.tables.iter().map(|t| Table { range: moved(&t.range), ..t.clone() }));
        self.document.warnings.extend(inner.warnings.iter().map(|w| format!("`{name}`: {w}")));
        self.document.text.push_str(&inner.text);
        self.tight = false;
        self.is_over |= self.document.text.len() as u64 > self.max_text;
    }

    /// Adds a document that was made from one stretch of the open part, and has no places of its own there.
    pub fn append_as(&mut self, inner: Document, source: Range<usize>) {
        self.separate(false);
        let at = self.document.text.len();
        let range = self.write(&inner.text, Some(source));
        if range.is_empty() {
            return;
        }
        self.document
            .headings
            .extend(inner.headings.into_iter().map(|h| Heading { range: h.range.start + at..h.range.end + at, ..h }));
        self.document.warnings.extend(inner.warnings);
        self.tight = false;
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.document.warnings.push(warning.into());
    }

    pub fn meta(&mut self, key: &str, value: &str) {
        let value = squeeze(value);
        if !value.is_empty() {
            self.document.meta.entry(key.to_owned()).or_insert(value);
        }
    }

    /// Whether a limit was passed: reading on is of no use, [`Build::finish`] refuses.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns the document, or the limit that it is over.
    pub fn finish(mut self) -> Result<Document, Refusal> {
        if self.document.pages.len() > self.max_pages as usize {
            let detail = format!("has more pages than the {} of `max_pages`", self.max_pages);
            return Err((ReadReason::TooLarge, detail));
        }
        if self.is_over {
            let detail = format!("holds more text than the {} of `max_text`", size_text(self.max_text));
            return Err((ReadReason::TooLarge, detail));
        }
        let end = self.document.text.len();
        let document = &mut self.document;
        let starts: Vec<usize> = document.pages.iter().skip(1).map(|p| p.range.start).chain([end]).collect();
        document.pages.iter_mut().zip(starts).for_each(|(page, end)| page.range.end = end);
        // A part that nested ones were appended to keeps its own end.
        let starts: Vec<usize> = document.parts.iter().skip(1).map(|p| p.range.start).chain([end]).collect();
        for (part, end) in document.parts.iter_mut().zip(starts) {
            part.range.end = part.range.end.max(end);
        }
        Ok(self.document)
    }

    fn separate(&mut self, tight: bool) {
        let text = &mut self.document.text;
        if !text.is_empty() {
            let wanted = if tight && self.tight { 1 } else { 2 };
            let there = text.bytes().rev().take(2).take_while(|b| *b == b'\n').count();
            (there..wanted).for_each(|_| text.push('\n'));
        }
        self.tight = tight;
    }

    fn write(&mut self, text: &str, source: Option<Range<usize>>) -> Range<usize> {
        let from = self.document.text.len();
        if self.is_over || (from + text.len()) as u64 > self.max_text {
            self.is_over = true;
            return from..from;
        }
        match text.contains('\0') {
            true => self.document.text.push_str(&text.replace('\0', "\u{FFFD}")),
            false => self.document.text.push_str(text),
        }
        let range = from..self.document.text.len();
        if let Some(source) = source {
            let part = self.document.parts.len().saturating_sub(1) as u32;
            self.document.places.push(Place { range: range.clone(), part, source });
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_apart_and_items_close_and_each_knows_its_place() {
        let mut build = Build::new(Format::Docx, &ReadOptions::default());
        build.part("a.xml");
        build.heading(2, " A\n title ", Some(0..9));
        build.paragraph("words\0", Some(9..20));
        build.item(0, "-", "one", Some(20..30));
        build.item(1, "2.", "two", None);
        build.table(&[
            Row { cells: vec!["a|b".into(), String::new(), "c".into()], source: Some(40..50) },
            Row { cells: vec!["d".into()], source: Some(50..60) },
        ]);
        let document = build.finish().unwrap();
        assert_eq!(
            document.text,
            "## A title\n\nwords\u{FFFD}\n\n- one\n  2. two\n\n| a\\|b | c |\n| --- | --- |\n| d |  |\n"
        );
        let at = document.text.find('d').map(|_| document.text.find("| d").unwrap()).unwrap();
        assert_eq!(document.locate(at).bytes, Some(50..60));
        assert_eq!(document.headings[0].range, 0..10);
    }

    #[test]
    fn a_document_inside_keeps_its_places_under_its_name() {
        let mut inner = Build::new(Format::Docx, &ReadOptions::default());
        inner.part("word/document.xml");
        inner.paragraph("inner", Some(7..12));
        let mut outer = Build::new(Format::Zip, &ReadOptions::default());
        outer.append("a.txt", Document::of(Format::Text, "plain".into()));
        outer.append("b.docx", inner.finish().unwrap());
        let document = outer.finish().unwrap();
        assert_eq!(document.text, "plain\n\ninner");
        assert_eq!(document.locate(1).to_string(), "a.txt, bytes 0-5");
        assert_eq!(document.locate(8).to_string(), "b.docx > word/document.xml, bytes 7-12");
    }

    #[test]
    fn text_over_the_limit_is_refused_by_name() {
        let mut build = Build::new(Format::Docx, &ReadOptions { max_text: 5, ..Default::default() });
        build.paragraph("123456", None);
        assert!(build.is_over() && build.finish().unwrap_err().1.contains("`max_text`"));
    }
}
