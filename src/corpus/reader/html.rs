//! HTML as Markdown: tags are walked one by one, in time that grows with the file, whatever it nests. No tree is built,
//! nothing is fetched, no script runs. The one place that names html5gum.

mod main_content;
mod tables;

use std::collections::BTreeMap;
use std::ops::Range;

use encoding_rs::Encoding;
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, Spanned, Token, Tokenizer};

use super::build::Build;
use super::decode::Decoded;
use super::flow::{Flow, Kind};
use super::options::{HtmlContent, ReadOptions};
use super::turns::squeeze;
use super::{Refusal, label};
use crate::corpus::document::{Document, Format};
use tables::OpenTable;

type Attributes = BTreeMap<HtmlString, Spanned<HtmlString, usize>>;

/// Reads a page: all of its text, or what is left of it without menus, margins and footers.
pub(super) fn parse(decoded: &Decoded, options: &ReadOptions) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Html, options);
    let layout = tables::layout_tables(&decoded.text);
    Page::new(Flow::new(&mut build), layout).read(&decoded.text);
    let mut document = build.finish()?;
    document.warnings.splice(0..0, decoded.warnings.iter().cloned());
    match options.html {
        HtmlContent::Full => Ok(document),
        HtmlContent::Main => Ok(main_content::of(document, &decoded.text)),
    }
}

/// Whether a text is a web page: by what it begins with, not by what it talks about.
pub(super) fn looks_like(text: &str) -> bool {
    let mut head = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    while let Some(rest) = head.strip_prefix("<!--").or_else(|| head.strip_prefix("<?xml")) {
        let end = rest.find('>').map_or(rest.len(), |at| at + 1);
        let end = if head.starts_with("<!--") { rest.find("-->").map_or(rest.len(), |at| at + 3) } else { end };
        head = rest[end..].trim_start();
    }
    let begins = |with: &str| head.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    begins("<!doctype html") || begins("<html") || begins("<head") || begins("<body")
}

/// Whether a text without the tags of a page is a piece of one, as its name says.
pub(super) fn has_tags(text: &str) -> bool {
    let head = &text[..text.floor_char_boundary(64 << 10)];
    let tags = ["<p", "<div", "<br", "<a ", "<table", "<h1", "<h2", "<ul", "<span", "<title", "<meta", "<body", "<b>"];
    let head = head.to_lowercase();
    tags.iter().any(|tag| head.contains(tag))
}

/// Returns the encoding that a page says it is in, within its first kilobytes.
pub(super) fn charset(bytes: &[u8]) -> Option<&'static Encoding> {
    const HEAD_BYTES: usize = 4096;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]).to_lowercase();
    let mut rest = head.as_str();
    while let Some(at) = rest.find("charset").map(|at| at + 7).or_else(|| rest.find("encoding=").map(|at| at + 8)) {
        rest = &rest[at..];
        let value = rest.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
        let end = value.find(['"', '\'', ';', ' ', '>', '?', '/']).unwrap_or(value.len());
        if let Some(encoding) = Encoding::for_label(&value.as_bytes()[..end]) {
            return Some(encoding);
        }
    }
    None
}

/// Runs over the tokens of a page, each with its place.
fn tokens(text: &str) -> impl Iterator<Item = Token<usize>> + '_ {
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(text, emitter).map(|token| match token {
        Ok(token) => token,
        Err(never) => match never {},
    })
}

fn name(name: &HtmlString) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

fn attr(attributes: &Attributes, name: &str) -> Option<String> {
    attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// An open link.
#[derive(Clone)]
struct Link {
    words_at: usize, // byte of the open paragraph
    address: String,
    tag_at: usize, // byte of the page
}

struct Page<'b> {
    flow: Flow<'b>,
    layout: std::vec::IntoIter<bool>, // of the tables to come
    tables: Vec<OpenTable>,
    text: String,         // of the open paragraph
    source: Range<usize>, // of the same
    heading: Option<u8>,
    lists: Vec<Option<u32>>, // open lists: the number of the last item where it is counted
    marker: Option<String>,  // of the item that begins
    pre: usize,
    ignored: Option<(String, usize)>, // the element whose words are not read, and its depth in itself
    links: Vec<Link>,                 // open ones: at most one, opened again in each paragraph it holds
    title: Option<String>,
}

impl<'b> Page<'b> {
    fn new(flow: Flow<'b>, layout: Vec<bool>) -> Self {
        Self {
            flow,
            layout: layout.into_iter(),
            tables: Vec::new(),
            text: String::new(),
            source: 0..0,
            heading: None,
            lists: Vec::new(),
            marker: None,
            pre: 0,
            ignored: None,
            links: Vec::new(),
            title: None,
        }
    }

    fn read(mut self, text: &str) {
        for token in tokens(text) {
            match token {
                Token::StartTag(tag) => {
                    let name = name(&tag.name);
                    if let Some((of, depth)) = &mut self.ignored {
                        *depth += usize::from(of == name && !tag.self_closing);
                    } else if is_ignored(name) {
                        if !tag.self_closing {
                            self.ignored = Some((name.to_owned(), 0));
                        }
                    } else {
                        self.open(name, &tag.attributes, tag.span.start..tag.span.end);
                    }
                }
                Token::EndTag(tag) => {
                    let name = name(&tag.name);
                    match &mut self.ignored {
                        Some((of, depth)) if of == name => match depth.checked_sub(1) {
                            Some(less) => *depth = less,
                            None => self.ignored = None,
                        },
                        // A page goes on behind an SVG that nobody closed.
                        Some(_) if name == "body" || name == "html" => self.ignored = None,
                        Some(_) => {}
                        None => self.close(name, tag.span.end),
                    }
                }
                Token::String(words) if self.ignored.is_none() => {
                    self.words(&String::from_utf8_lossy(&words.value), words.span.start..words.span.end);
                }
                _ => {}
            }
            if self.flow.build.is_over() {
                break;
            }
        }
        self.flush();
        while !self.tables.is_empty() {
            self.close("table", text.len());
        }
        self.flow.finish(text.len());
    }

    fn words(&mut self, words: &str, source: Range<usize>) {
        if let Some(title) = &mut self.title {
            title.push_str(words);
            return;
        }
        if self.pre > 0 {
            self.reach(source);
            self.text.push_str(words);
            return;
        }
        let mut ends_blank = self.text.is_empty() || self.text.ends_with([' ', '\n']);
        if words.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).is_empty() {
            if !ends_blank {
                self.text.push(' ');
            }
            return;
        }
        self.reach(source);
        for c in words.chars() {
            match c {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => {
                    if !ends_blank {
                        self.text.push(' ');
                    }
                    ends_blank = true;
                }
                c => {
                    self.text.push(c);
                    ends_blank = false;
                }
            }
        }
    }

    /// Says that the open paragraph is made of these bytes too.
    fn reach(&mut self, source: Range<usize>) {
        if self.source.is_empty() {
            self.source = source;
        } else {
            self.source.end = source.end;
        }
    }

    fn open(&mut self, name: &str, attributes: &Attributes, at: Range<usize>) {
        if is_block(name) {
            self.flush();
        }
        match name {
            "html" => {
                if let Some(language) = attr(attributes, "lang") {
                    let main = language.split(['-', '_']).next().unwrap_or_default().to_lowercase();
                    self.flow.build.meta("language", &main);
                }
            }
            "title" => self.title = Some(String::new()),
            "meta" => self.meta(attributes),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.heading = Some(name.as_bytes()[1] - b'0'),
            "br" => self.text.push('\n'),
            "ul" | "menu" | "dir" => self.lists.push(None),
            "ol" => {
                let start = attr(attributes, "start").and_then(|v| v.trim().parse::<u32>().ok()).unwrap_or(1);
                self.lists.push(Some(start.saturating_sub(1)));
            }
            "li" => {
                self.marker = Some(match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{number}.")
                    }
                    _ => "-".into(),
                });
            }
            "pre" | "listing" | "xmp" => self.pre += 1,
            "a" => {
                // Links do not nest: another one ends the open one.
                while !self.links.is_empty() {
                    self.close_link(at.start);
                }
                let address = attr(attributes, "href").map(|a| a.trim().to_owned()).unwrap_or_default();
                let tag_at = at.start;
                self.links.push(Link { words_at: self.text.len(), address, tag_at });
            }
            "img" => {
                if let Some(words) = attr(attributes, "alt").map(|a| squeeze(&a)).filter(|a| !a.is_empty()) {
                    self.reach(at);
                    self.text.push_str(&format!("![{words}]"));
                }
            }
            "table" => {
                let is_layout = self.layout.next().unwrap_or(false);
                if !is_layout {
                    self.flow.open_table();
                }
                self.tables.push(OpenTable::new(is_layout));
            }
            "tr" => {
                self.close_row(at.start);
                if let Some(table) = self.tables.last_mut().filter(|t| !t.is_layout) {
                    table.in_row = true;
                    self.flow.open_row(at.start);
                }
            }
            "td" | "th" => {
                self.close_cell();
                if let Some(table) = self.tables.last_mut().filter(|t| !t.is_layout) {
                    if !table.in_row {
                        table.in_row = true;
                        self.flow.open_row(at.start);
                    }
                    let span = |name: &str| attr(attributes, name).and_then(|v| v.trim().parse().ok()).unwrap_or(1);
                    for _ in 0..table.open_cell(span("colspan"), span("rowspan")) {
                        self.flow.open_cell();
                        self.flow.close_cell(1);
                    }
                    self.flow.open_cell();
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str, end: usize) {
        if is_block(name) {
            self.flush();
        }
        match name {
            "title" => {
                let title = self.title.take().unwrap_or_default();
                self.flow.build.meta("title", &title);
            }
            "ul" | "ol" | "menu" | "dir" => drop(self.lists.pop()),
            "li" => self.marker = None,
            "pre" | "listing" | "xmp" => self.pre = self.pre.saturating_sub(1),
            "a" => self.close_link(end),
            "td" | "th" => self.close_cell(),
            "tr" => self.close_row(end),
            "table" => {
                self.close_row(end);
                if self.tables.pop().is_some_and(|t| !t.is_layout) {
                    self.flow.close_table();
                }
            }
            _ => {}
        }
    }

    fn close_link(&mut self, end: usize) {
        let Some(Link { words_at: at, address, tag_at }) = self.links.pop() else { return };
        let words = self.text.get(at..).unwrap_or_default();
        let scheme = address.split(':').next().unwrap_or_default().to_lowercase();
        let leads_nowhere =
            address.is_empty() || address.starts_with('#') || scheme == "javascript" || scheme == "data";
        if words.trim().is_empty() || words.trim() == address || leads_nowhere {
            return;
        }
        let from = at + (words.len() - words.trim_start().len());
        self.text.insert(from, '[');
        self.text.truncate(self.text.trim_end().len());
        self.text.push_str(&format!("]({})", address.replace([' ', '\n', '\t'], "%20")));
        // The address is part of what is read.
        self.source = self.source.start.min(tag_at)..self.source.end.max(end);
    }

    fn close_cell(&mut self) {
        self.flush();
        if let Some(span) = self.tables.last_mut().and_then(|t| t.cell.take()) {
            self.flow.close_cell(span);
        }
    }

    fn close_row(&mut self, end: usize) {
        self.close_cell();
        if let Some(table) = self.tables.last_mut().filter(|t| t.in_row) {
            table.close_row();
            self.flow.close_row(end);
        }
    }

    /// Ends the open paragraph.
    fn flush(&mut self) {
        // A link may hold paragraphs: what of it stands in this one is linked, the rest goes on.
        let open = self.links.clone();
        while !self.links.is_empty() {
            self.close_link(self.source.end);
        }
        self.links.extend(open.into_iter().map(|link| Link { words_at: 0, ..link }));
        let text = std::mem::take(&mut self.text);
        let source = std::mem::replace(&mut self.source, 0..0);
        let heading = self.heading.take();
        if text.trim().is_empty() {
            // An empty heading, or the blank inside one before its words.
            self.heading = heading;
            return;
        }
        if self.pre > 0 {
            let code = text.trim_matches('\n').trim_end();
            self.flow.paragraph(Kind::Plain, &format!("```\n{code}\n```"), source);
            return;
        }
        let kind = match (heading, self.marker.take()) {
            (Some(level), _) => Kind::Heading(level),
            (None, Some(marker)) => Kind::Item { depth: self.lists.len().saturating_sub(1), marker },
            (None, None) => Kind::Plain,
        };
        let text = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        self.flow.paragraph(kind, &text, source);
    }

    fn meta(&mut self, attributes: &Attributes) {
        let Some(content) = attr(attributes, "content") else { return };
        let key = attr(attributes, "name").or_else(|| attr(attributes, "property")).unwrap_or_default();
        match key.to_lowercase().as_str() {
            "author" | "dc.creator" | "article:author" => self.flow.build.meta("author", &content),
            "date" | "dc.date" | "article:published_time" => self.flow.build.meta("date", &content),
            "description" => self.flow.build.meta("description", &content),
            "og:title" | "dc.title" => self.flow.build.meta("title", &content),
            key => {
                if let Some(key) = label::header_key(key).filter(|k| matches!(*k, "date" | "language")) {
                    self.flow.build.meta(key, &content);
                }
            }
        }
    }
}

/// What is code, style or a picture, not words.
fn is_ignored(name: &str) -> bool {
    matches!(name, "script" | "style" | "template" | "svg" | "noscript" | "iframe" | "noframes" | "noembed" | "object")
}

fn is_block(name: &str) -> bool {
    const BLOCKS: &[&str] = &[
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "button",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "listing",
        "main",
        "menu",
        "nav",
        "ol",
        "optgroup",
        "option",
        "p",
        "pre",
        "search",
        "section",
        "select",
        "summary",
        "table",
        "tbody",
        "td",
        "textarea",
        "tfoot",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
        "xmp",
    ];
    BLOCKS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests;
