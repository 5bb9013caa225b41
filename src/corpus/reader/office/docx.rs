//! WordprocessingML (ECMA-376 part 1, section 17): paragraphs, headings, lists, tables, notes, comments.

mod numbering;
mod styles;

use std::collections::HashMap;

use super::drawing;
use super::package::Package;
use super::parts::{self, Relation};
use super::transcript;
use super::xml::{Node, Tag, Xml};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::Refusal;
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::flow::{Flow, Kind, Note};
use crate::corpus::reader::turns::count;
use numbering::Numbering;
use styles::Styles;

/// Reads the body, then footnotes, endnotes and comments under their marks, then headers and footers, each text once.
pub fn parse(package: &mut Package<'_>, around: &Around<'_>) -> Result<Document, Refusal> {
    let root = parts::relations(package, "", around)?;
    let main = root.values().find(|r| r.kind == "officeDocument").map(|r| r.target.clone());
    let main = main.filter(|name| package.has(name)).unwrap_or_else(|| "word/document.xml".to_owned());
    let mut relations = parts::relations(package, &main, around)?;
    let is_lost = relations.is_empty() && found_by_name(package, &main, &mut relations);
    let part_of = |kind: &str| relations.values().find(|r| r.kind == kind && !r.external).map(|r| r.target.clone());
    let mut read = |kind: &str| -> Result<String, Refusal> {
        match part_of(kind) {
            Some(name) => Ok(package.text(&name, around)?.unwrap_or_default()),
            None => Ok(String::new()),
        }
    };
    let styles = Styles::of(&read("styles")?);
    let numbering = Numbering::of(&read("numbering")?);

    let mut build = Build::new(Format::Docx, around.options);
    if is_lost {
        build.warn("its list of parts is missing or damaged; they were found by their names");
    }
    parts::warn_of_missing(package, &relations, WITH_WORDS, &mut build);
    let mut body = Body { styles, numbering, relations: &relations, num_deleted: 0 };
    let mut names = vec![main.clone()];
    names.extend(["footnotes", "endnotes", "comments"].into_iter().filter_map(part_of));
    let mut margins: Vec<_> =
        relations.values().filter(|r| matches!(r.kind.as_str(), "header" | "footer")).map(|r| &r.target).collect();
    margins.sort();
    let num_body_parts = names.len();
    names.extend(margins.into_iter().cloned());
    let mut seen_margins = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(xml) = package.text(name, around)? else { continue };
        if index < num_body_parts {
            build.part(name.as_str());
            body.read(&xml, &mut build);
            continue;
        }
        // Pages of one document share their headers: a text that is there already says nothing new.
        let mut margin = Build::new(Format::Docx, around.options);
        margin.part(name.as_str());
        body.read(&xml, &mut margin);
        let margin = margin.finish()?;
        if !margin.text.trim().is_empty() && !seen_margins.contains(&margin.text) {
            seen_margins.push(margin.text.clone());
            build.part(name.as_str());
            body.read(&xml, &mut build);
        }
    }
    let mut drawings: Vec<(&str, &String)> = relations
        .values()
        .filter(|r| !r.external && matches!(r.kind.as_str(), "chart" | "diagramData"))
        .map(|r| (r.kind.as_str(), &r.target))
        .collect();
    drawings.sort();
    for (kind, name) in drawings {
        let Some(xml) = package.text(name, around)? else { continue };
        if kind == "chart" {
            drawing::read_chart(name, &xml, &mut build);
            continue;
        }
        build.part(name.as_str());
        let (paragraphs, fault) = drawing::paragraphs(&xml);
        paragraphs.into_iter().for_each(|(text, source)| build.paragraph(&text, Some(source)));
        parts::warn_of(fault, name, &mut build);
    }
    let mut chunks: Vec<String> =
        relations.values().filter(|r| r.kind == "aFChunk" && !r.external).map(|r| r.target.clone()).collect();
    chunks.sort();
    parts::warn_of_embedded(package, &chunks, &mut build);
    if body.num_deleted > 0 {
        let deletions = count(body.num_deleted, "tracked deletion is", "tracked deletions are");
        build.warn(format!("{deletions} not part of the text"));
    }
    if build.document.text.is_empty() && !package.has(&main) {
        build.warn(format!("has no `{main}`"));
    }
    parts::core_properties(package, &mut build, around)?;
    transcript::found(build.finish()?, around.options)
}

/// Kinds of parts that hold words.
const WITH_WORDS: &[&str] =
    &["footnotes", "endnotes", "comments", "header", "footer", "chart", "diagramData", "numbering", "styles"];

/// Relates the parts that stand beside the main one by the names that every program gives them. Returns whether there
/// are any.
fn found_by_name(package: &Package<'_>, main: &str, relations: &mut HashMap<String, Relation>) -> bool {
    let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder);
    for name in package.names() {
        let Some((inside, file)) = name.trim_start_matches('/').rsplit_once('/') else { continue };
        let kind = file.strip_suffix(".xml").map(|stem| stem.trim_end_matches(|c: char| c.is_ascii_digit()));
        if let Some(kind) = kind.filter(|kind| inside == folder && WITH_WORDS.contains(kind)) {
            let relation = Relation { kind: kind.to_owned(), target: name.clone(), external: false };
            relations.insert(name.clone(), relation);
        }
    }
    !relations.is_empty()
}

struct Body<'a> {
    styles: Styles,
    numbering: Numbering,
    relations: &'a HashMap<String, Relation>,
    num_deleted: usize,
}

/// A paragraph that is being read; they nest where a text box hangs on a word.
#[derive(Default)]
struct Paragraph {
    text: String,
    at: usize,
    style: Option<String>,
    outline: Option<u8>,
    list: (Option<String>, Option<usize>), // numbering and level
    links: Vec<(usize, Option<String>)>,   // where the words begin, and the address
}

impl Body<'_> {
    fn read(&mut self, xml: &str, build: &mut Build) {
        let mut flow = Flow::new(build);
        let mut open: Vec<Paragraph> = Vec::new();
        let mut spans: Vec<usize> = Vec::new(); // columns of the open cells
        let mut notes: Vec<Note> = Vec::new();
        let mut ignored = 0usize; // depth inside an element whose words are not read
        let (mut in_properties, mut in_text) = (0usize, 0usize);
        let mut reader = Xml::new(xml);
        while let Some(node) = reader.next() {
            let at = reader.at.clone();
            match node {
                Node::Open(tag) if ignored > 0 || is_ignored(tag.name()) => {
                    self.num_deleted +=
                        usize::from(ignored + in_properties == 0 && matches!(tag.name(), "del" | "moveFrom"));
                    ignored += 1;
                }
                Node::Close(_) if ignored > 0 => ignored -= 1,
                Node::Open(tag) => match tag.name() {
                    "p" => open.push(Paragraph { at: at.start, ..Default::default() }),
                    "pPr" | "rPr" | "tblPr" | "tcPr" | "trPr" | "sectPr" => {
                        in_properties += 1;
                    }
                    "gridSpan" => {
                        let span = tag.attr("val").and_then(|v| v.parse().ok()).unwrap_or(1);
                        spans.last_mut().into_iter().for_each(|s| *s = span);
                    }
                    _ if in_properties > 0 => open.iter_mut().last().into_iter().for_each(|p| p.property(&tag)),
                    "tbl" => flow.open_table(),
                    "tr" => flow.open_row(at.start),
                    "tc" => {
                        spans.push(1);
                        flow.open_cell();
                    }
                    "footnote" | "endnote" | "comment" => {
                        // Separators between body and notes are notes of a type.
                        let label = if tag.attr("type").is_none() { note_label(&tag) } else { String::new() };
                        flow.open_note(label, at.start);
                    }
                    "t" => in_text += 1,
                    _ => {
                        if let Some(paragraph) = open.last_mut() {
                            paragraph.run(&tag, self.relations);
                        }
                    }
                },
                Node::Close(end) => match end.name() {
                    "p" => {
                        if let Some(paragraph) = open.pop() {
                            let (kind, text) = self.kind(&paragraph);
                            flow.paragraph(kind, &text, paragraph.at..at.end);
                        }
                    }
                    "pPr" | "rPr" | "tblPr" | "tcPr" | "trPr" | "sectPr" => {
                        in_properties = in_properties.saturating_sub(1);
                    }
                    "tbl" => flow.close_table(),
                    "tr" => flow.close_row(at.end),
                    "tc" => flow.close_cell(spans.pop().unwrap_or(1)),
                    "footnote" | "endnote" | "comment" => notes.extend(flow.close_note(at.end)),
                    "t" => in_text = in_text.saturating_sub(1),
                    "hyperlink" => open.iter_mut().last().into_iter().for_each(Paragraph::close_link),
                    _ => {}
                },
                Node::Text(text) => {
                    if ignored == 0
                        && in_text > 0
                        && let Some(paragraph) = open.last_mut()
                    {
                        paragraph.text.push_str(&text);
                    }
                }
            }
            notes.drain(..).for_each(|note| note.write(flow.build));
            if flow.build.is_over() {
                break;
            }
        }
        while let Some(paragraph) = open.pop() {
            flow.paragraph(Kind::Plain, &paragraph.text, paragraph.at..xml.len());
        }
        if let Some(fault) = reader.fault.take() {
            let part = flow.build.document.parts.last().map(|p| p.name.clone()).unwrap_or_default();
            flow.build.warn(format!("`{part}` {fault}; what stands behind is not read"));
        }
        flow.finish(xml.len());
    }

    fn kind(&mut self, paragraph: &Paragraph) -> (Kind, String) {
        let style = paragraph.style.as_deref().unwrap_or_default();
        let level = paragraph.outline.or_else(|| self.styles.heading_level(style));
        let text = paragraph.text.clone();
        if text.trim().is_empty() {
            return (Kind::Plain, text);
        }
        let (from_style, level_of_style) = self.styles.list(style);
        let list = paragraph.list.0.clone().or(from_style);
        let depth = paragraph.list.1.or(level_of_style).unwrap_or(0);
        let marker = list.and_then(|id| self.numbering.marker(&id, depth));
        match (level, marker) {
            (Some(level), Some(marker)) if marker != "-" => (Kind::Heading(level), format!("{marker} {}", text.trim())),
            (Some(level), _) => (Kind::Heading(level), text),
            (None, Some(marker)) => (Kind::Item { depth, marker }, text),
            (None, None) => (Kind::Plain, text),
        }
    }
}

/// `Fallback` repeats what `Choice` holds; `del` and `moveFrom` are gone; codes of fields are no words; `rt` repeats how
/// its base sounds; the rest are settings.
fn is_ignored(name: &str) -> bool {
    matches!(
        name,
        "Fallback" | "del" | "moveFrom" | "instrText" | "rt" | "pPrChange" | "rPrChange" | "tblPrChange" | "sdtPr"
    )
}

fn note_label(tag: &Tag<'_>) -> String {
    let id = tag.attr("id").unwrap_or_default();
    match (tag.name(), tag.attr("author").filter(|a| !a.trim().is_empty())) {
        ("comment", Some(author)) => format!("[^c{id}]: Comment by {author}"),
        ("comment", None) => format!("[^c{id}]: Comment"),
        ("endnote", _) => format!("[^e{id}]"),
        _ => format!("[^{id}]"),
    }
}

impl Paragraph {
    fn property(&mut self, tag: &Tag<'_>) {
        let value = || tag.attr("val");
        match tag.name() {
            "pStyle" => self.style = value(),
            "outlineLvl" => self.outline = value().and_then(|v| v.parse::<u8>().ok()).filter(|l| *l < 9).map(|l| l + 1),
            "numId" => self.list.0 = value(),
            "ilvl" => self.list.1 = value().and_then(|v| v.parse().ok()),
            _ => {}
        }
    }

    fn run(&mut self, tag: &Tag<'_>, relations: &HashMap<String, Relation>) {
        let id = || tag.attr("id").unwrap_or_default();
        match tag.name() {
            "tab" | "ptab" => self.text.push('\t'),
            "br" | "cr" => self.text.push('\n'),
            "noBreakHyphen" => self.text.push('-'),
            "sym" => self.text.extend(symbol(tag)),
            "footnoteReference" => self.text.push_str(&format!("[^{}]", id())),
            "endnoteReference" => self.text.push_str(&format!("[^e{}]", id())),
            "commentReference" => self.text.push_str(&format!("[^c{}]", id())),
            "hyperlink" => {
                let address = relations.get(&id()).filter(|r| r.external).map(|r| r.target.clone());
                self.links.push((self.text.len(), address));
            }
            _ => {}
        }
    }

    fn close_link(&mut self) {
        let Some((at, Some(address))) = self.links.pop() else { return };
        let words = self.text.get(at..).unwrap_or_default();
        if !words.trim().is_empty() && words.trim() != address {
            self.text.insert(at, '[');
            self.text.push_str(&format!("]({address})"));
        }
    }
}

/// A character of a symbol font has a code of its own there, in the private use area: what it looks like is unknown.
fn symbol(tag: &Tag<'_>) -> Option<char> {
    let code = u32::from_str_radix(&tag.attr("char")?, 16).ok()?;
    Some(if (0xF000..=0xF0FF).contains(&code) { '\u{25A1}' } else { char::from_u32(code)? })
}
