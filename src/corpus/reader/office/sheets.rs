//! Spreadsheets by calamine: a sheet is a heading and a table whose cells keep their names. Values are those the file
//! was saved with; no formula is ever computed. The one place that names calamine.

use std::io::Cursor;

use calamine::{CellErrorType, Data, DataRef, Ods, Reader, SheetType, SheetVisible, Xls, Xlsb, Xlsx};

use super::package::Package;
use super::parts;
use super::xml::{Node, Xml};
use super::{odf, ods};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::{Build, SheetRow};
use crate::corpus::reader::turns::squeeze;
use crate::corpus::reader::{ReadReason, Refusal};

/// Reads every sheet, hidden ones too. `package` is the file once more where it is a ZIP, for what calamine leaves out.
pub fn parse(
    bytes: &[u8],
    format: Format,
    package: Option<&mut Package<'_>>,
    around: &Around<'_>,
) -> Result<Document, Refusal> {
    let mut build = Build::new(format, around.options);
    let mut package = package;
    if let Some(package) = package.as_deref_mut() {
        package.check_claims(around)?;
    }
    let is_binary = package.as_deref().is_some_and(|p| p.has("xl/workbook.bin"));
    let mut hidden = Vec::new();
    match format {
        Format::Xlsx if is_binary => read_all(&mut open::<Xlsb<_>>(bytes)?, &mut build, &mut hidden, dense_rows)?,
        Format::Xlsx => read_all(&mut open::<Xlsx<_>>(bytes)?, &mut build, &mut hidden, xlsx_rows)?,
        Format::Ods => read_all(&mut open::<Ods<_>>(bytes)?, &mut build, &mut hidden, dense_rows)?,
        _ => read_all(&mut open::<Xls<_>>(bytes)?, &mut build, &mut hidden, dense_rows)?,
    }
    if !hidden.is_empty() {
        build.warn(format!("hidden sheets are read too: {}", hidden.join(", ")));
    }
    if let Some(package) = package {
        if format == Format::Xlsx {
            read_beside(package, &mut build, around)?;
        } else {
            if let Some(xml) = package.text("content.xml", around)? {
                build.part("content.xml");
                ods::read_beside("content.xml", &xml, &mut build);
            }
            odf::read_margins(package, &mut build, around)?;
            if let Some(meta) = package.text("meta.xml", around)? {
                parts::dublin_core("meta.xml", &meta, &mut build);
            }
        }
        parts::warn_of_embedded(package, &[], &mut build);
        parts::core_properties(package, &mut build, around)?;
    }
    build.finish()
}

fn open<'b, B>(bytes: &'b [u8]) -> Result<B, Refusal>
where
    B: Reader<Cursor<&'b [u8]>>,
    B::Error: std::fmt::Display,
{
    B::new(Cursor::new(bytes)).map_err(|error| {
        let text = squeeze(&error.to_string());
        match text.to_lowercase().contains("password") {
            true => (
                ReadReason::Encrypted,
                "is a workbook under a password, which quarry cannot take off; save it without one".to_owned(),
            ),
            false => (ReadReason::Unreadable, format!("is a workbook that cannot be opened: {text}")),
        }
    })
}

fn read_all<'b, B: Reader<Cursor<&'b [u8]>>>(
    book: &mut B,
    build: &mut Build,
    hidden: &mut Vec<String>,
    rows_of: impl Fn(&mut B, &str) -> Result<Vec<SheetRow>, String>,
) -> Result<(), Refusal> {
    let sheets: Vec<_> = book.sheets_metadata().iter().map(|s| (s.name.clone(), s.typ, s.visible)).collect();
    for (name, kind, visible) in sheets {
        if kind != SheetType::WorkSheet {
            build.warn(format!("the sheet `{name}` is {}, which is not read", kind_text(kind)));
            continue;
        }
        match rows_of(book, &name) {
            Ok(rows) => {
                if visible != SheetVisible::Visible && !rows.is_empty() {
                    hidden.push(name.clone());
                }
                build.heading(2, &name, None);
                build.sheet(&name, &rows);
            }
            Err(error) => build.warn(format!("the sheet `{name}` cannot be read: {}", squeeze(&error))),
        }
        if build.is_over() {
            break;
        }
    }
    Ok(())
}

fn kind_text(kind: SheetType) -> &'static str {
    match kind {
        SheetType::WorkSheet => "a sheet of cells",
        SheetType::DialogSheet => "a dialog",
        SheetType::MacroSheet => "a sheet of macros",
        SheetType::ChartSheet => "a chart alone",
        SheetType::Vba => "a module of code",
    }
}

/// Cell by cell, so that a lonely cell at the end of a sheet costs no memory.
fn xlsx_rows(book: &mut Xlsx<Cursor<&[u8]>>, name: &str) -> Result<Vec<SheetRow>, String> {
    let mut cells = book.worksheet_cells_reader(name).map_err(|e| e.to_string())?;
    let mut rows: Vec<SheetRow> = Vec::new();
    while let Some(cell) = cells.next_cell().map_err(|e| e.to_string())? {
        let (row, column) = cell.get_position();
        let text = match cell.get_value() {
            DataRef::SharedString(text) => (*text).to_owned(),
            other => text_of(&Data::from(other.clone())),
        };
        push(&mut rows, row, column, text);
    }
    // Rows and cells of a file may stand in any order.
    rows.sort_by_key(|row| row.number);
    rows.iter_mut().for_each(|row| row.cells.sort_by_key(|(column, _)| *column));
    Ok(rows)
}

fn dense_rows<'b, B: Reader<Cursor<&'b [u8]>>>(book: &mut B, name: &str) -> Result<Vec<SheetRow>, String> {
    let range = book.worksheet_range(name).map_err(|e| format!("{e:?}"))?;
    let Some((top, left)) = range.start() else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (row, column, data) in range.used_cells() {
        push(&mut rows, top + row as u32, left + column as u32, text_of(data));
    }
    Ok(rows)
}

fn push(rows: &mut Vec<SheetRow>, row: u32, column: u32, text: String) {
    if text.trim().is_empty() {
        return;
    }
    match rows.last_mut() {
        Some(last) if last.number == row => last.cells.push((column, text)),
        _ => rows.push(SheetRow { number: row, cells: vec![(column, text)], source: None }),
    }
}

fn text_of(data: &Data) -> String {
    match data {
        Data::Empty => String::new(),
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
        Data::Int(n) => n.to_string(),
        Data::Float(n) => number(*n),
        Data::Bool(true) => "TRUE".into(),
        Data::Bool(false) => "FALSE".into(),
        Data::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            match moment.as_f64() {
                n if n < 1.0 => format!("{hour:02}:{minute:02}:{second:02}"), // before the first day: a time
                n if n.fract() == 0.0 => date,
                _ => format!("{date} {hour:02}:{minute:02}:{second:02}"),
            }
        }
        Data::DateTime(moment) => {
            let seconds = (moment.as_f64() * 86_400.0).round();
            let (sign, seconds) = (if seconds < 0.0 { "-" } else { "" }, seconds.abs() as u64);
            format!("{sign}{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
        Data::Error(error) => error_text(error).into(),
    }
}

/// Fifteen digits, as spreadsheets show them: `0.1 + 0.2` is 0.3.
fn number(n: f64) -> String {
    if n == n.trunc() && n.abs() < 1e15 {
        return format!("{n:.0}");
    }
    format!("{n:.14e}").parse::<f64>().unwrap_or(n).to_string()
}

fn error_text(error: &CellErrorType) -> &'static str {
    match error {
        CellErrorType::Div0 => "#DIV/0!",
        CellErrorType::NA => "#N/A",
        CellErrorType::Name => "#NAME?",
        CellErrorType::Null => "#NULL!",
        CellErrorType::Num => "#NUM!",
        CellErrorType::Ref => "#REF!",
        CellErrorType::Value => "#VALUE!",
        CellErrorType::GettingData => "#GETTING_DATA",
    }
}

/// Reads what stands on sheets beside their cells: comments under their cells' names, and text boxes.
fn read_beside(package: &mut Package<'_>, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let names: Vec<String> = package.names().to_vec();
    for name in names {
        let file = name.rsplit('/').next().unwrap_or_default();
        let is_xml = name.ends_with(".xml");
        if is_xml && name.starts_with("xl/") && file.starts_with("comments") {
            let Some(xml) = package.text(&name, around)? else { continue };
            build.part(name.as_str());
            read_paragraphs(&name, &xml, "comment", build);
        } else if is_xml && name.starts_with("xl/drawings/") && file.starts_with("drawing") {
            let Some(xml) = package.text(&name, around)? else { continue };
            build.part(name.as_str());
            read_paragraphs(&name, &xml, "txBody", build);
        }
    }
    Ok(())
}

/// Writes the words of every element of that name as a paragraph; `part` is the member that holds them.
fn read_paragraphs(part: &str, xml: &str, element: &str, build: &mut Build) {
    let mut open: Option<(String, usize)> = None;
    let mut in_text = false;
    let mut reader = Xml::new(xml);
    while let Some(node) = reader.next() {
        let at = reader.at.clone();
        match node {
            Node::Open(tag) if tag.name() == element => {
                let cell = tag.attr("ref").map(|cell| format!("Comment at {cell}: ")).unwrap_or_default();
                open = Some((cell, at.start));
            }
            Node::Open(tag) => in_text |= tag.name() == "t",
            Node::Close(end) if end.name() == element => {
                if let Some((text, from)) = open.take().filter(|(text, _)| !text.ends_with(": ")) {
                    build.paragraph(&squeeze(&text), Some(from..at.end));
                }
            }
            Node::Close(end) => {
                in_text &= end.name() != "t";
                if end.name() == "p" {
                    open.iter_mut().for_each(|(text, _)| text.push(' '));
                }
            }
            Node::Text(text) if in_text => open.iter_mut().for_each(|(words, _)| words.push_str(&text)),
            Node::Text(_) => {}
        }
    }
    if let Some((text, from)) = open.filter(|(text, _)| !text.ends_with(": ")) {
        build.paragraph(&squeeze(&text), Some(from..xml.len()));
    }
    parts::warn_of(reader.fault, part, build);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_spreadsheets_show_them() {
        assert_eq!(
            [0.1 + 0.2, 3.0, -1.5, 1e21, 1234567.891].map(number),
            ["0.3", "3", "-1.5", "1000000000000000000000", "1234567.891"]
        );
    }
}
