//! Separated values as one table, whose rows know their bytes and whose cells their names.

use super::build::{Build, SheetRow};
use super::options::ReadOptions;
use super::turns::count;
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format};

/// Reads a table. The separator is the one that the first lines agree on; rows may be of different lengths, which is said.
pub(super) fn parse(text: &str, format: Format, options: &ReadOptions) -> Result<Document, Refusal> {
    let separator = if format == Format::Tsv { b'\t' } else { separator(text) };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text.as_bytes());
    let mut rows: Vec<SheetRow> = Vec::new();
    let mut record = csv::StringRecord::new();
    let (mut widths, mut number, mut at) = (Vec::new(), 0u32, 0usize);
    loop {
        let more = reader.read_record(&mut record);
        if !more.map_err(|error| (ReadReason::Unreadable, format!("is a table that cannot be read: {error}")))? {
            break;
        }
        let from = record.position().map_or(at, |p| p.byte() as usize);
        at = reader.position().byte() as usize;
        let cells = record.iter().enumerate().filter(|(_, cell)| !cell.trim().is_empty());
        let cells: Vec<(u32, String)> = cells.map(|(column, cell)| (column as u32, cell.to_owned())).collect();
        if !cells.is_empty() {
            widths.push(record.len());
            rows.push(SheetRow { number, cells, source: Some(from..at) });
        }
        number += 1;
    }
    let mut build = Build::new(format, options);
    build.sheet("", &rows);
    let odd = widths.iter().filter(|w| Some(*w) != widths.first()).count();
    if odd > 0 {
        let rows = count(odd, "row has", "rows have");
        build.warn(format!("{rows} another number of cells than the first, which has {}", widths[0]));
    }
    build.finish()
}

/// Returns the separator that splits the first lines into the most cells of the same number.
pub(super) fn separator(text: &str) -> u8 {
    const LINES: usize = 20;
    const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
    let score = |separator: u8| {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .from_reader(text.as_bytes());
        let widths: Vec<usize> = reader.records().take(LINES).flatten().map(|r| r.len()).collect();
        let first = widths.first().copied().unwrap_or(0);
        let same = widths.iter().filter(|w| **w == first).count();
        if first < 2 { 0 } else { same * 1000 / widths.len().max(1) * 10 + first.min(9) }
    };
    // The first of equals: a comma.
    SEPARATORS.into_iter().rev().max_by_key(|s| score(*s)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Format) -> Document {
        parse(text, format, &ReadOptions::default()).unwrap()
    }

    #[test]
    fn cells_keep_their_names_and_rows_their_bytes() {
        let text = "name;sum\n\"Müller; Co\";1,5\n;\nx|y;2\n";
        let document = read(text, Format::Csv);
        assert_eq!(document.text, "| name | sum |\n| --- | --- |\n| Müller; Co | 1,5 |\n| x\\|y | 2 |\n");
        let located = document.locate(document.text.find("1,5").unwrap());
        assert_eq!(located.cell.as_deref(), Some("B2"));
        assert_eq!(text[located.bytes.unwrap()].trim(), "\"Müller; Co\";1,5");
        assert_eq!(document.locate(document.text.rfind('2').unwrap()).cell.as_deref(), Some("B4"));
    }

    #[test]
    fn short_rows_are_said_and_a_quote_that_never_ends_is_one_cell() {
        let document = read("a,b\n1\n2,\"3\nrest", Format::Csv);
        assert_eq!(document.warnings, ["1 row has another number of cells than the first, which has 2"]);
        assert!(document.text.ends_with("| 2 | 3 rest |\n"));
        assert!(read("a\tb\n1\t2\n", Format::Tsv).text.starts_with("| a | b |"));
    }
}
