//! Where in the file a place of the text stands: the page, the turn, the cell, the bytes of a part.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Document;
use crate::ids::TurnId;

/// A file inside the file: a member of an archive, an attachment, a sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name as the file gives it; names of nested parts are joined with ` > `.
    pub name: String,
    pub range: Range<usize>, // bytes of `Document::text`, from its first to its last
}

/// A stretch of the text that was made from one stretch of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub range: Range<usize>, // bytes of `Document::text`
    pub part: u32,           // index of `Document::parts`; 0 where there are none
    /// Bytes of the decoded file or part, tags and escapes between them included.
    pub source: Range<usize>,
}

/// Cells that the text shows as a Markdown table: one line for a row, a line of dashes below the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub range: Range<usize>, // bytes of `Document::text`
    pub sheet: String,       // empty where the file has no sheets
    pub rows: Vec<u32>, // 0-based row of each line, the line of dashes not counted; rows without words are left out
    pub columns: Vec<u32>, // 0-based column of each cell of a line; columns without words are left out
}

/// What is known of one place of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Located {
    pub part: Option<String>,
    pub page: Option<u32>,
    pub turn: Option<TurnId>,
    /// `Sheet1!B7`, or `B7` where there are no sheets.
    pub cell: Option<String>,
    /// Of the decoded file, or of the decoded part where there is one.
    pub bytes: Option<Range<usize>>,
}

impl Document {
    /// Returns where in the file a byte of the text stands. What a reader adds by itself (a line of dashes below a
    /// table's head, the blank between two paragraphs) stands nowhere.
    pub fn locate(&self, at: usize) -> Located {
        let place = holding(&self.places, at, |p| &p.range);
        let turn = holding(&self.turns, at, |t| &t.range);
        let part = match place {
            Some(place) => self.parts.get(place.part as usize),
            None => self.parts.iter().rev().find(|p| p.range.contains(&at)),
        };
        let bytes = match (turn, place) {
            (Some(turn), _) => Some(turn.source.clone()),
            (None, Some(place)) => Some(place.source.clone()),
            // A text that nothing was made of is the file itself.
            _ if self.is_verbatim() => Some(at..self.text.ceil_char_boundary(at + 1)),
            _ => None,
        };
        Located {
            part: part.map(|p| p.name.clone()),
            page: holding(&self.pages, at, |p| &p.range).map(|p| p.number),
            turn: turn.map(|t| t.id),
            cell: holding(&self.tables, at, |t| &t.range).and_then(|t| t.cell_at(&self.text, at)),
            bytes,
        }
    }

    /// Returns whether the text is the decoded file itself, byte for byte.
    pub fn is_verbatim(&self) -> bool {
        use super::Format::{Json, Jsonl, Markdown, Text};
        matches!(self.format, Text | Markdown | Json | Jsonl)
            && self.turns.is_empty()
            && self.places.is_empty()
            && self.parts.is_empty()
    }

    /// Returns the bytes of the file that a range of the text was made from, and their part; `None` where they are of
    /// several parts, or unknown.
    pub fn source_of(&self, range: &Range<usize>) -> Option<(u32, Range<usize>)> {
        let from = self.places.partition_point(|p| p.range.end <= range.start);
        let touched = self.places[from..].iter().take_while(|p| p.range.start < range.end);
        let mut found: Option<(u32, Range<usize>)> = None;
        for place in touched {
            match &mut found {
                Some((part, _)) if *part != place.part => return None,
                Some((_, source)) => {
                    source.start = source.start.min(place.source.start);
                    source.end = source.end.max(place.source.end);
                }
                None => found = Some((place.part, place.source.clone())),
            }
        }
        found
    }
}

/// Returns the one of ascending ranges that holds a byte.
fn holding<T>(all: &[T], at: usize, range: impl Fn(&T) -> &Range<usize>) -> Option<&T> {
    let index = all.partition_point(|one| range(one).end <= at);
    all.get(index).filter(|one| range(one).contains(&at))
}

impl Table {
    /// Returns the name of the cell that a byte of the text is in; `None` in the line of dashes.
    fn cell_at(&self, text: &str, at: usize) -> Option<String> {
        let before = &text[self.range.start..text.floor_char_boundary(at)];
        let line = before.matches('\n').count();
        let row = match line {
            0 => *self.rows.first()?,
            1 => return None,
            line => *self.rows.get(line - 1)?,
        };
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = column_of(&before[line_start..], self.columns.len());
        let name = cell_name(row, *self.columns.get(column)?);
        Some(if self.sheet.is_empty() { name } else { format!("{}!{name}", self.sheet) })
    }
}

/// Returns which cell of a line of a table its first bytes lead into. `\|` is a character of a cell.
fn column_of(line: &str, num_columns: usize) -> usize {
    let mut num_bars = 0usize;
    let mut escaped = false;
    for byte in line.bytes() {
        num_bars += usize::from(byte == b'|' && !escaped);
        escaped = byte == b'\\' && !escaped;
    }
    num_bars.saturating_sub(1).min(num_columns.saturating_sub(1))
}

/// Returns the name of a cell as spreadsheets write it; row and column are counted from 0.
pub fn cell_name(row: u32, column: u32) -> String {
    let mut letters = Vec::new();
    let mut left = u64::from(column) + 1;
    while left > 0 {
        left -= 1;
        letters.push(char::from(b'A' + (left % 26) as u8));
        left /= 26;
    }
    format!("{}{}", letters.iter().rev().collect::<String>(), u64::from(row) + 1)
}

impl fmt::Display for Located {
    /// `page 3`, `T12`, `Sheet1!B7`, `word/document.xml, bytes 120-340`; nothing where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.part.clone());
        words.extend(self.page.map(|page| format!("page {page}")));
        words.extend(self.turn.map(|turn| turn.to_string()));
        words.extend(self.cell.clone());
        words.extend(self.bytes.as_ref().map(|b| format!("bytes {}-{}", b.start, b.end)));
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::document::Format;

    #[test]
    fn a_cell_of_a_table_is_named_as_in_its_sheet() {
        let text = "| a \\| b | c |\n| --- | --- |\n| d | é |\n";
        let mut document = Document::of(Format::Xlsx, text.into());
        document.tables =
            vec![Table { range: 0..text.len(), sheet: "S".into(), rows: vec![2, 9], columns: vec![0, 27] }];
        let cell = |word: &str| document.locate(text.find(word).unwrap()).cell;
        assert_eq!(cell("a").as_deref(), Some("S!A3"));
        assert_eq!(cell("b").as_deref(), Some("S!A3"));
        assert_eq!(cell("c").as_deref(), Some("S!AB3"));
        assert_eq!(cell("é").as_deref(), Some("S!AB10"));
        assert_eq!(cell("---"), None);
    }

    #[test]
    fn a_place_leads_to_its_part_and_its_bytes() {
        let mut document = Document::of(Format::Docx, "one\n\ntwo".into());
        document.parts = vec![Part { name: "word/document.xml".into(), range: 0..8 }];
        document.places =
            vec![Place { range: 0..3, part: 0, source: 10..40 }, Place { range: 5..8, part: 0, source: 50..70 }];
        assert_eq!(document.locate(6).to_string(), "word/document.xml, bytes 50-70");
        assert_eq!(document.locate(3).bytes, None);
        assert_eq!(document.source_of(&(1..7)), Some((0, 10..70)));
        assert_eq!(Document::of(Format::Text, "äb".into()).locate(0).bytes, Some(0..2));
    }

    #[test]
    fn columns_are_counted_as_spreadsheets_count_them() {
        assert_eq!([0, 25, 26, 701, 702].map(|c| cell_name(0, c)), ["A1", "Z1", "AA1", "ZZ1", "AAA1"]);
    }
}
