//! What stands on the sheets of an OpenDocument workbook beside its cells' values: comments and text boxes.

use super::parts;
use super::xml::{Node, Xml};
use crate::corpus::document::cell_name;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::turns::squeeze;

/// Where the reading of a sheet is; rows and columns count from 0.
#[derive(Default)]
struct Place {
    sheet: String,
    row: u32,
    column: u32,
    rows: u32,    // that the open row stands for
    columns: u32, // that the open cell stands for
}

/// A comment or a text box that is being read.
struct Beside {
    is_comment: bool,
    place: String, // `Prices!B4`; empty for a text box
    author: String,
    words: String,
    from: usize,
}

/// Writes each comment under the name of its cell, and the words of each text box, as paragraphs.
pub fn read_beside(part: &str, xml: &str, build: &mut Build) {
    let mut at = Place::default();
    let mut open: Option<Beside> = None;
    let (mut in_author, mut in_date) = (false, false);
    let mut reader = Xml::new(xml);
    while let Some(node) = reader.next() {
        let range = reader.at.clone();
        match node {
            Node::Open(tag) => {
                let repeated = |name: &str| tag.attr(name).and_then(|n| n.parse::<u32>().ok()).unwrap_or(1);
                match tag.name() {
                    "table" => at = Place { sheet: tag.attr("name").unwrap_or_default(), ..Place::default() },
                    "table-row" => (at.column, at.rows) = (0, repeated("number-rows-repeated")),
                    "table-cell" | "covered-table-cell" => at.columns = repeated("number-columns-repeated"),
                    name @ ("annotation" | "text-box") if open.is_none() => {
                        let is_comment = name == "annotation";
                        let place = format!("{}!{}", at.sheet, cell_name(at.row, at.column));
                        let place = if is_comment { place } else { String::new() };
                        open = Some(Beside {
                            is_comment,
                            place,
                            author: String::new(),
                            words: String::new(),
                            from: range.start,
                        });
                    }
                    "creator" => in_author = true,
                    "date" | "date-string" => in_date = true,
                    "s" | "tab" | "line-break" => open.iter_mut().for_each(|beside| beside.words.push(' ')),
                    _ => {}
                }
            }
            Node::Close(end) => match end.name() {
                "table-row" => at.row = at.row.saturating_add(at.rows),
                "table-cell" | "covered-table-cell" => at.column = at.column.saturating_add(at.columns),
                "creator" => in_author = false,
                "date" | "date-string" => in_date = false,
                "p" | "h" => open.iter_mut().for_each(|beside| beside.words.push(' ')),
                name @ ("annotation" | "text-box") => {
                    if let Some(beside) = open.take_if(|open| open.is_comment == (name == "annotation")) {
                        beside.write(range.end, build);
                    }
                }
                _ => {}
            },
            Node::Text(text) => match &mut open {
                Some(beside) if in_author && beside.is_comment => beside.author.push_str(&text),
                Some(beside) if !in_date || !beside.is_comment => beside.words.push_str(&text),
                _ => {}
            },
        }
    }
    if let Some(beside) = open {
        beside.write(xml.len(), build);
    }
    parts::warn_of(reader.fault, part, build);
}

impl Beside {
    fn write(self, end: usize, build: &mut Build) {
        let words = squeeze(&self.words);
        if words.is_empty() {
            return;
        }
        let text = match (self.is_comment, squeeze(&self.author)) {
            (false, _) => words,
            (true, author) if author.is_empty() => format!("Comment at {}: {words}", self.place),
            (true, author) => format!("Comment at {} by {author}: {words}", self.place),
        };
        build.paragraph(&text, Some(self.from..end));
    }
}
