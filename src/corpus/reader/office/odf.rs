//! OpenDocument 1.3 texts and presentations: paragraphs, headings, lists, tables, notes, annotations, slides.

use std::collections::HashSet;

use super::package::Package;
use super::parts;
use super::transcript;
use super::xml::{Node, Tag, Xml};
use crate::corpus::document::{Document, Format};
use crate::corpus::reader::budget::Around;
use crate::corpus::reader::build::Build;
use crate::corpus::reader::flow::{Flow, Kind, Note};
use crate::corpus::reader::turns::count;
use crate::corpus::reader::{ReadReason, Refusal};

pub fn parse(package: &mut Package<'_>, format: Format, around: &Around<'_>) -> Result<Document, Refusal> {
    if let Some(manifest) = package.text("META-INF/manifest.xml", around)?
        && Xml::new(&manifest).any(|n| matches!(&n, Node::Open(tag) if tag.name() == "encryption-data"))
    {
        return Err((
            ReadReason::Encrypted,
            "is an OpenDocument file under a password, which quarry cannot take off; save it without one".into(),
        ));
    }
    let name = "content.xml";
    let Some(xml) = package.text(name, around)? else {
        return Err((ReadReason::Unreadable, "is an OpenDocument file without a `content.xml`".into()));
    };
    let mut build = Build::new(format, around.options);
    build.part(name);
    let mut body = Body::default();
    body.read(name, &xml, &mut build);
    if body.num_deleted > 0 {
        let deletions = count(body.num_deleted, "tracked deletion is", "tracked deletions are");
        build.warn(format!("{deletions} not part of the text"));
    }
    // Master pages of presentations hold words about where to write, those of texts hold headers and footers.
    if format == Format::Odt {
        read_margins(package, &mut build, around)?;
    }
    parts::warn_of_embedded(package, &[], &mut build);
    if let Some(meta) = package.text("meta.xml", around)? {
        parts::dublin_core("meta.xml", &meta, &mut build);
    }
    let document = build.finish()?;
    if format == Format::Odt { transcript::found(document, around.options) } else { Ok(document) }
}

/// Reads headers and footers, each paragraph once: pages of one document share them. What every page has of its own, such
/// as its number, is not text of the document, and neither is a line of nothing else (`Page 3 of 7`).
pub fn read_margins(package: &mut Package<'_>, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let name = "styles.xml";
    let Some(xml) = package.text(name, around)? else { return Ok(()) };
    build.part(name);
    Body { margins: Some(Margins::default()), ..Body::default() }.read(name, &xml, build);
    Ok(())
}

/// Headers and footers, where only they are read.
#[derive(Default)]
struct Margins {
    depth: usize,
    seen: HashSet<String>,
    has_field: bool, // whether the open paragraph shows what differs from page to page
}

impl Margins {
    /// Whether a paragraph says something that no paragraph before it said.
    fn is_new(&mut self, words: &str) -> bool {
        const MAX_WORDS: usize = 2; // beside a number
        let is_number = std::mem::take(&mut self.has_field) && words.split_whitespace().count() <= MAX_WORDS;
        !is_number && self.seen.insert(words.to_owned())
    }

    /// Whether a node stands in a header or a footer.
    fn take(&mut self, node: &Node<'_>) -> bool {
        let is_margin = |name: &str| {
            let side = name.strip_prefix("header").or_else(|| name.strip_prefix("footer"));
            matches!(side, Some("" | "-left" | "-first"))
        };
        match node {
            Node::Open(tag) => self.depth += usize::from(is_margin(tag.name())),
            Node::Close(end) => self.depth = self.depth.saturating_sub(usize::from(is_margin(end.name()))),
            Node::Text(_) => {}
        }
        self.depth > 0
    }
}

#[derive(Default)]
struct Body {
    margins: Option<Margins>,
    num_deleted: usize,
    open: Vec<Paragraph>, // a note inside a paragraph holds paragraphs
    lists: Vec<u32>,      // items counted so far, one for each open list
    in_item: bool,        // whether the next paragraph is the first of its item
    ignored: usize,
    span: Vec<(usize, usize)>, // columns a cell reaches over, and times it is repeated
    notes: Vec<Note>,
    page: u32,
    in_slide_notes: bool,
    author: Option<String>,
    in_author: bool,
    annotations: Vec<usize>, // paragraphs that were open where each open one began
    links: Vec<(usize, String)>,
    num_notes: u32,
}

struct Paragraph {
    text: String,
    at: usize,
    level: Option<u8>,
}

impl Body {
    fn read(&mut self, part: &str, xml: &str, build: &mut Build) {
        let mut flow = Flow::new(build);
        let mut reader = Xml::new(xml);
        while let Some(node) = reader.next() {
            let at = reader.at.clone();
            if self.margins.as_mut().is_some_and(|margins| !margins.take(&node)) {
                continue;
            }
            match node {
                Node::Open(tag) if self.ignored > 0 || self.is_ignored(tag.name()) => {
                    self.margins.iter_mut().for_each(|m| m.has_field |= is_of_page(tag.name()));
                    self.num_deleted += usize::from(tag.name() == "deletion");
                    self.ignored += 1;
                }
                Node::Close(_) if self.ignored > 0 => self.ignored -= 1,
                Node::Open(tag) => self.open(&tag, at.start, &mut flow),
                Node::Close(end) => self.close(end.name(), at.end, &mut flow),
                Node::Text(text) => {
                    if self.ignored > 0 {
                    } else if self.in_author {
                        self.author.get_or_insert_default().push_str(&text);
                    } else if let Some(paragraph) = self.open.last_mut() {
                        push_words(&mut paragraph.text, &text);
                    }
                }
            }
            if flow.build.is_over() {
                break;
            }
        }
        while let Some(paragraph) = self.open.pop() {
            flow.paragraph(Kind::Plain, &paragraph.text, paragraph.at..xml.len());
        }
        parts::warn_of(reader.fault, part, flow.build);
        flow.finish(xml.len());
    }

    fn open(&mut self, tag: &Tag<'_>, at: usize, flow: &mut Flow<'_>) {
        let number = |name: &str| tag.attr(name).and_then(|v| v.parse::<usize>().ok());
        match tag.name() {
            // Slides share their header, footer and date, which are declared once.
            "p" | "header-decl" | "footer-decl" | "date-time-decl" => {
                self.open.push(Paragraph { text: String::new(), at, level: None });
            }
            "h" => {
                let level = number("outline-level").unwrap_or(1).clamp(1, 6) as u8;
                self.open.push(Paragraph { text: String::new(), at, level: Some(level) });
            }
            "s" => self.push(&" ".repeat(number("c").unwrap_or(1).min(256))),
            "tab" => self.push("\t"),
            "line-break" => self.push("\n"),
            "list" => self.lists.push(0),
            "list-item" | "list-header" => {
                self.lists.iter_mut().last().into_iter().for_each(|n| *n += 1);
                self.in_item = true;
            }
            "table" => flow.open_table(),
            "table-row" => flow.open_row(at),
            "table-cell" | "covered-table-cell" => {
                // Empty cells up to the edge of the sheet are written as one that is repeated.
                let repeated = number("number-columns-repeated").unwrap_or(1).min(256);
                self.span.push((1, repeated));
                flow.open_cell();
            }
            "note" => {
                self.num_notes += 1;
                let label = format!("[^{}]", self.num_notes);
                self.push(&label);
                flow.open_note(label, at);
            }
            "annotation" => {
                self.author = None;
                self.annotations.push(self.open.len());
                flow.open_note("Comment".into(), at);
            }
            "creator" if self.is_of_annotation() => self.in_author = true,
            "a" => {
                let words_at = self.open.last().map_or(0, |p| p.text.len());
                self.links.push((words_at, tag.attr("href").unwrap_or_default()));
            }
            "page" => {
                self.page += 1;
                flow.build.page(self.page);
            }
            // Of a slide: what the speaker says to it.
            "notes" => self.in_slide_notes = true,
            _ => {}
        }
    }

    fn close(&mut self, name: &str, end: usize, flow: &mut Flow<'_>) {
        match name {
            "p" | "h" | "header-decl" | "footer-decl" | "date-time-decl" => {
                let Some(mut paragraph) = self.open.pop() else { return };
                if self.in_slide_notes && !paragraph.text.trim().is_empty() {
                    paragraph.text.insert_str(0, "Notes: ");
                }
                let kind = match paragraph.level {
                    Some(level) => Kind::Heading(level),
                    None if !self.lists.is_empty() && self.in_item => {
                        Kind::Item { depth: self.lists.len() - 1, marker: "-".into() }
                    }
                    None => Kind::Plain,
                };
                if !paragraph.text.trim().is_empty() {
                    self.in_item = false;
                }
                if self.margins.as_mut().is_some_and(|m| !m.is_new(paragraph.text.trim())) {
                    return;
                }
                flow.paragraph(kind, &paragraph.text, paragraph.at..end);
                if self.open.is_empty() {
                    self.notes.drain(..).for_each(|note| note.write(flow.build));
                }
            }
            "a" => {
                let Some((at, address)) = self.links.pop() else { return };
                let Some(paragraph) = self.open.last_mut() else { return };
                let words = paragraph.text.get(at..).unwrap_or_default();
                let is_inner = address.is_empty() || address.starts_with('#');
                if !words.trim().is_empty() && words.trim() != address && !is_inner {
                    paragraph.text.insert(at, '[');
                    paragraph.text.push_str(&format!("]({address})"));
                }
            }
            "list" => drop(self.lists.pop()),
            "list-item" | "list-header" => self.in_item = false,
            "table" => flow.close_table(),
            "table-row" => flow.close_row(end),
            "table-cell" | "covered-table-cell" => {
                let (span, repeated) = self.span.pop().unwrap_or((1, 1));
                flow.close_cell(span.max(repeated));
            }
            "note" => {
                self.notes.extend(flow.close_note(end));
                if self.open.is_empty() {
                    self.notes.drain(..).for_each(|note| note.write(flow.build));
                }
            }
            "annotation" => {
                self.annotations.pop();
                let author = self.author.take().map(|a| format!(" by {a}")).unwrap_or_default();
                let note = flow.close_note(end).map(|note| note.labeled(format!("Comment{author}")));
                self.notes.extend(note);
                if self.open.is_empty() {
                    self.notes.drain(..).for_each(|note| note.write(flow.build));
                }
            }
            "creator" => self.in_author = false,
            "notes" => self.in_slide_notes = false,
            _ => {}
        }
    }

    /// Whether an element stands in an annotation but not in its words: fields of the text have the same names.
    fn is_of_annotation(&self) -> bool {
        self.annotations.last() == Some(&self.open.len())
    }

    /// What was deleted and only tracked, the number of a note that the text gets anew, and the date of an annotation.
    fn is_ignored(&self, name: &str) -> bool {
        match name {
            "tracked-changes" | "note-citation" | "forms" | "object-ole" | "script" => true,
            "date" | "date-string" => self.is_of_annotation(),
            name => self.margins.is_some() && is_of_page(name),
        }
    }

    fn push(&mut self, words: &str) {
        if let Some(paragraph) = self.open.last_mut() {
            paragraph.text.push_str(words);
        }
    }
}

/// Whether a field of a header or a footer differs from page to page.
fn is_of_page(name: &str) -> bool {
    matches!(name, "page-number" | "page-count" | "sheet-name")
}

/// White space in the markup is one space (section 6.1.2); the rest is written as elements.
fn push_words(text: &mut String, words: &str) {
    for c in words.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' if text.ends_with(' ') => {}
            ' ' | '\t' | '\n' | '\r' => text.push(' '),
            c => text.push(c),
        }
    }
}
