//! DrawingML, which all OOXML formats share: paragraphs of shapes and diagrams, and charts.

use std::ops::Range;

use super::parts;
use super::xml::{Node, Xml};
use crate::corpus::reader::build::{Build, Row};
use crate::corpus::reader::turns::squeeze;

/// Returns the paragraphs of DrawingML, but for those of placeholders that every page repeats, and the fault that ended
/// reading early.
pub fn paragraphs(xml: &str) -> (Vec<(String, Range<usize>)>, Option<String>) {
    let mut found = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let (mut in_text, mut furniture) = (false, false);
    let mut reader = Xml::new(xml);
    while let Some(node) = reader.next() {
        let at = reader.at.clone();
        match node {
            Node::Open(tag) => match tag.name() {
                "sp" => furniture = false,
                "ph" => furniture = matches!(tag.attr("type").as_deref(), Some("sldNum" | "dt" | "ftr" | "hdr")),
                "p" => open = Some((String::new(), at.start)),
                "t" => in_text = true,
                "br" => open.iter_mut().for_each(|(text, _)| text.push(' ')),
                _ => {}
            },
            Node::Close(end) => match end.name() {
                "t" => in_text = false,
                "p" => {
                    let whole = open.take().filter(|(text, _)| !furniture && !text.trim().is_empty());
                    found.extend(whole.map(|(text, from)| (squeeze(&text), from..at.end)));
                }
                _ => {}
            },
            Node::Text(text) if in_text => open.iter_mut().for_each(|(words, _)| words.push_str(&text)),
            Node::Text(_) => {}
        }
    }
    let rest = open.filter(|(text, _)| !furniture && !text.trim().is_empty());
    found.extend(rest.map(|(text, from)| (squeeze(&text), from..xml.len())));
    (found, reader.fault)
}

/// Writes a chart as its title and a table: a row for each category, a column for each series.
pub fn read_chart(name: &str, xml: &str, build: &mut Build) {
    build.part(name);
    let (paragraphs, fault) = paragraphs(xml);
    parts::warn_of(fault, name, build);
    let title = paragraphs.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(" ");
    let mut series: Vec<Vec<String>> = Vec::new();
    let mut categories: Vec<String> = Vec::new();
    let (mut of, mut in_value) = ("", false);
    for node in Xml::new(xml) {
        match node {
            Node::Open(tag) => match tag.name() {
                "ser" => series.push(vec![String::new()]),
                "tx" => of = "name",
                "cat" | "xVal" => of = if series.len() == 1 { "category" } else { "" },
                "val" | "yVal" => of = "value",
                "v" => in_value = true,
                _ => {}
            },
            Node::Close(end) => match end.name() {
                "tx" | "cat" | "xVal" | "val" | "yVal" => of = "",
                "v" => in_value = false,
                _ => {}
            },
            Node::Text(text) if in_value => match (of, series.last_mut()) {
                ("name", Some(series)) => series[0].push_str(&text),
                ("category", Some(_)) => categories.push(text.into_owned()),
                ("value", Some(series)) => series.push(text.into_owned()),
                _ => {}
            },
            Node::Text(_) => {}
        }
    }
    build.paragraph(&format!("Chart: {title}"), None);
    let num_rows = series.iter().map(Vec::len).max().unwrap_or(0);
    let row = |index: usize| Row {
        cells: std::iter::once(index.checked_sub(1).and_then(|i| categories.get(i)).cloned().unwrap_or_default())
            .chain(series.iter().map(|s| s.get(index).cloned().unwrap_or_default()))
            .collect(),
        source: None,
    };
    build.table(&(0..num_rows).map(row).collect::<Vec<_>>());
}
