//! Rich Text Format 1.9: words, paragraphs, headings, lists, tables, notes. Groups cost no stack; what a destination
//! holds that is no words (fonts, pictures, data of objects) is passed over.

mod compressed;
mod words;

use super::build::{Build, Row};
use super::options::ReadOptions;
use super::{Refusal, decode};
use crate::corpus::document::{Document, Format};
use words::{Token, Tokens};

pub(super) use compressed::decompressed;

/// Reads a file. `bytes` are the file's own: RTF is bytes in code pages, not characters.
pub(super) fn parse(bytes: &[u8], options: &ReadOptions) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Rtf, options);
    Rtf::new(&mut build).read(bytes);
    build.finish()
}

/// Where words go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Destination {
    Body,
    /// Passed over, with all groups inside.
    Nowhere,
    /// An object or a shape: passed over, but for the words that show.
    Shape,
    /// A text box: paragraphs of their own behind the one it hangs on.
    Box,
    /// What the file says of itself: only some of it is kept.
    Info,
    Title,
    Author,
    /// A footnote or an annotation: a paragraph of its own behind the one it hangs on.
    Note,
    Marker,
    Fonts,
    Styles,
}

#[derive(Clone, Copy)]
struct Group {
    destination: Destination,
    outside: Destination, // of the shape or object that is open
    code_page: u16,
    skip: usize, // characters that stand in for a Unicode one
}

struct Rtf<'b> {
    build: &'b mut Build,
    groups: Vec<Group>,
    now: Group,
    code_page: u16,           // of the file
    fonts: Vec<(i32, u16)>,   // and their code pages
    font: i32,                // the one that is defined
    headings: Vec<(i32, u8)>, // styles, and their levels
    style: i32,
    style_name: String,
    pending: Vec<u8>, // bytes in `now.code_page`, not decoded yet
    unknown_pages: Vec<u16>,
    surrogate: Option<u16>,
    text: String,
    at: usize, // where the open paragraph began
    title: String,
    author: String,
    note: String,
    boxed: String,
    notes: Vec<String>, // and text boxes, to be written behind the open paragraph
    marker: String,
    level: Option<u8>,
    depth: usize,
    in_table: bool,
    cells: Vec<String>,
    rows: Vec<Row>,
    row_at: usize,
    to_skip: usize,
}

impl<'b> Rtf<'b> {
    fn new(build: &'b mut Build) -> Self {
        let now = Group { destination: Destination::Body, outside: Destination::Body, code_page: 1252, skip: 1 };
        Self {
            build,
            groups: Vec::new(),
            now,
            code_page: 1252,
            fonts: Vec::new(),
            font: 0,
            headings: Vec::new(),
            style: 0,
            style_name: String::new(),
            pending: Vec::new(),
            unknown_pages: Vec::new(),
            surrogate: None,
            text: String::new(),
            at: 0,
            title: String::new(),
            author: String::new(),
            note: String::new(),
            boxed: String::new(),
            notes: Vec::new(),
            marker: String::new(),
            level: None,
            depth: 0,
            in_table: false,
            cells: Vec::new(),
            rows: Vec::new(),
            row_at: 0,
            to_skip: 0,
        }
    }

    fn read(mut self, bytes: &[u8]) {
        let mut tokens = Tokens::new(bytes);
        let mut opens = false; // whether a group has just begun
        while let Some(token) = tokens.next() {
            let begins = std::mem::replace(&mut opens, matches!(token, Token::Open));
            match token {
                Token::Word(b"*", _) if !begins => {}
                Token::Open => {
                    self.decode();
                    self.groups.push(self.now);
                    self.to_skip = 0;
                }
                Token::Close => self.close(),
                Token::Word(b"*", _) => {
                    // A destination that a reader may pass over, unless it is known to hold words.
                    match tokens.peek_word() {
                        Some(b"shptxt" | b"footnote" | b"annotation" | b"listtext") => {}
                        Some(b"shpinst") => self.open_shape(),
                        _ => self.now.destination = Destination::Nowhere,
                    }
                }
                Token::Word(b"bin", Some(length)) => tokens.pass(usize::try_from(length).unwrap_or(0)),
                Token::Word(word, value) => self.word(word, value, tokens.at()),
                Token::Byte(byte, escaped) => {
                    if self.to_skip > 0 {
                        self.to_skip -= 1;
                    } else if matches!(self.now.destination, Destination::Nowhere | Destination::Shape) {
                        // Pictures are the most of many files.
                    } else if escaped || !matches!(byte, b'\r' | b'\n') {
                        self.pending.push(byte);
                    }
                }
            }
            if self.build.is_over() {
                return;
            }
        }
        self.decode();
        self.end_note();
        self.end_box();
        self.now.destination = Destination::Body;
        self.end_paragraph(bytes.len());
        self.end_table();
        // What a cut file left in a table, and the notes of its last rows.
        self.in_table = false;
        self.end_paragraph(bytes.len());
        let (title, author) = (std::mem::take(&mut self.title), std::mem::take(&mut self.author));
        self.build.meta("title", &title);
        self.build.meta("author", &author);
    }

    fn close(&mut self) {
        self.decode();
        let inner = self.now.destination;
        self.now = self.groups.pop().unwrap_or(self.now);
        if inner == Destination::Note && self.now.destination != Destination::Note {
            self.end_note();
        }
        if inner == Destination::Box && self.now.destination != Destination::Box {
            self.end_box();
        }
        if inner == Destination::Styles {
            let name = std::mem::take(&mut self.style_name).to_lowercase();
            let name = name.trim_end_matches(';').trim();
            let level = name.strip_prefix("heading ").and_then(|n| n.trim().parse::<u8>().ok());
            let level = level.or((name == "title").then_some(1));
            self.headings.extend(level.filter(|l| (1..=9).contains(l)).map(|l| (self.style, l)));
        }
    }

    fn word(&mut self, word: &[u8], value: Option<i32>, at: usize) {
        use Destination as D;
        let is_on = value != Some(0);
        if word != b"u" {
            self.decode();
        }
        match (self.now.destination, word) {
            (D::Nowhere, _) => return,
            (D::Shape, b"shptxt" | b"result") => {}
            (D::Shape, _) => return,
            _ => {}
        }
        match word {
            b"u" => self.unicode(value.unwrap_or(0)),
            b"uc" => self.now.skip = usize::try_from(value.unwrap_or(1)).unwrap_or(1),
            b"ansicpg" => {
                self.code_page = u16::try_from(value.unwrap_or(1252)).unwrap_or(1252);
                self.now.code_page = self.code_page;
            }
            b"mac" => (self.code_page, self.now.code_page) = (10_000, 10_000),
            b"pc" => (self.code_page, self.now.code_page) = (437, 437),
            b"pca" => (self.code_page, self.now.code_page) = (850, 850),
            b"fonttbl" => self.now.destination = D::Fonts,
            b"stylesheet" => self.now.destination = D::Styles,
            b"f" if self.now.destination == D::Fonts => self.font = value.unwrap_or(0),
            b"fcharset" => {
                let page = words::code_page_of_charset(value.unwrap_or(0)).unwrap_or(self.code_page);
                self.fonts.push((self.font, page));
            }
            b"f" => {
                let of = value.unwrap_or(0);
                let page = self.fonts.iter().rev().find(|(font, _)| *font == of).map(|(_, page)| *page);
                self.now.code_page = page.unwrap_or(self.code_page);
            }
            b"s" if self.now.destination == D::Styles => self.style = value.unwrap_or(0),
            b"s" if self.now.destination == D::Body => {
                self.level = self.headings.iter().find(|(s, _)| Some(*s) == value).map(|(_, level)| *level);
            }
            b"outlinelevel" if self.now.destination == D::Body => {
                self.level = value.and_then(|v| u8::try_from(v).ok()).filter(|v| *v < 9).map(|v| v + 1);
            }
            b"ilvl" if self.now.destination == D::Body => self.depth = usize::try_from(value.unwrap_or(0)).unwrap_or(0),
            b"colortbl" | b"pict" | b"shprslt" | b"fldinst" | b"filetbl" | b"revtbl" | b"listtable" | b"themedata"
            | b"datastore" | b"xmlnstbl" | b"rsidtbl" | b"generator" | b"latentstyles" | b"nonshppict" | b"private"
            | b"bkmkstart" | b"bkmkend" | b"atnid" | b"atnauthor" | b"atntime" | b"atnref" | b"deleted" | b"xe"
            | b"tc" | b"listoverridetable" | b"company" | b"operator" | b"doccomm" | b"creatim" | b"revtim"
            | b"printim"
                if is_on =>
            {
                self.now.destination = D::Nowhere;
            }
            b"object" => self.open_shape(),
            b"result" if self.now.destination == D::Shape => self.now.destination = self.now.outside,
            b"shptxt" => self.now.destination = D::Box,
            b"info" => self.now.destination = D::Info,
            b"title" => self.now.destination = D::Title,
            b"author" => self.now.destination = D::Author,
            b"footnote" | b"annotation" => self.now.destination = D::Note,
            b"listtext" | b"pntext" => self.now.destination = D::Marker,
            b"par" | b"sect" | b"page" => self.end_paragraph(at),
            b"line" => self.push("\n"),
            b"tab" => self.push("\t"),
            // What is said of a paragraph in a note or a box is not said of the one it hangs on.
            b"intbl" | b"trowd" | b"pard" if self.now.destination != D::Body => {}
            b"cell" if self.now.destination != D::Body => self.push(" "),
            b"row" if self.now.destination != D::Body => self.end_paragraph(at),
            b"intbl" => self.in_table = true,
            b"trowd" if self.cells.is_empty() && self.text.is_empty() => self.row_at = at,
            b"pard" => {
                self.in_table = false;
                (self.level, self.depth) = (None, 0);
            }
            b"cell" => {
                let cell = std::mem::take(&mut self.text);
                self.marker.clear();
                self.cells.push(cell);
                self.at = at;
            }
            b"nestcell" => self.push(" "),
            b"row" => self.end_row(at),
            b"emdash" => self.push("—"),
            b"endash" => self.push("–"),
            b"emspace" | b"enspace" | b"qmspace" | b"~" => self.push("\u{a0}"),
            b"bullet" => self.push("•"),
            b"lquote" => self.push("‘"),
            b"rquote" => self.push("’"),
            b"ldblquote" => self.push("“"),
            b"rdblquote" => self.push("”"),
            b"_" => self.push("-"),
            _ => {}
        }
    }

    fn unicode(&mut self, value: i32) {
        self.decode();
        self.to_skip = self.now.skip;
        // A 16-bit number that is written with a sign.
        let unit = (value & 0xFFFF) as u16;
        let units = [self.surrogate.take(), Some(unit)];
        if (0xD800..0xDC00).contains(&unit) {
            self.surrogate = Some(unit);
            return;
        }
        let text: String = char::decode_utf16(units.into_iter().flatten()).map(|c| c.unwrap_or('\u{FFFD}')).collect();
        self.push(&text);
    }

    /// Decodes the bytes that wait; called before the code page may change.
    fn decode(&mut self) {
        self.to_skip = 0;
        if !self.pending.is_empty() {
            let bytes = std::mem::take(&mut self.pending);
            let page = self.now.code_page;
            let (text, is_known) = decode::in_code_page(&bytes, page);
            if !is_known && !bytes.is_ascii() && !self.unknown_pages.contains(&page) {
                self.unknown_pages.push(page);
                self.build.warn(format!(
                    "words in code page {page}, which is not known, are read as Western; they may be wrong"
                ));
            }
            self.push(&text);
        }
    }

    fn push(&mut self, text: &str) {
        use Destination as D;
        let to = match self.now.destination {
            D::Body => &mut self.text,
            D::Title => &mut self.title,
            D::Author => &mut self.author,
            D::Note => &mut self.note,
            D::Box => &mut self.boxed,
            D::Marker => &mut self.marker,
            D::Styles => &mut self.style_name,
            D::Nowhere | D::Shape | D::Fonts | D::Info => return,
        };
        to.push_str(text);
    }

    fn end_paragraph(&mut self, at: usize) {
        match self.now.destination {
            Destination::Body => {}
            Destination::Note => return self.note.push(' '),
            Destination::Box => return self.end_box(),
            _ => return,
        }
        if self.in_table {
            return self.text.push(' ');
        }
        self.end_table();
        let text = std::mem::take(&mut self.text);
        let source = std::mem::replace(&mut self.at, at)..at;
        let marker = std::mem::take(&mut self.marker);
        match (self.level, marker.trim()) {
            (Some(level), "") => self.build.heading(level, &text, Some(source)),
            (Some(level), marker) => self.build.heading(level, &format!("{marker} {}", text.trim()), Some(source)),
            (None, "") => self.build.paragraph(&text, Some(source)),
            (None, marker) => {
                let is_number = marker.chars().any(char::is_alphanumeric) && marker.chars().count() > 1;
                self.build.item(self.depth, if is_number { marker } else { "-" }, &text, Some(source));
            }
        }
        for note in std::mem::take(&mut self.notes) {
            self.build.paragraph(&note, None);
        }
    }

    /// Begins a shape or an object, unless it stands in something that is passed over.
    fn open_shape(&mut self) {
        if !matches!(self.now.destination, Destination::Nowhere | Destination::Shape) {
            self.now.outside = self.now.destination;
            self.now.destination = Destination::Shape;
        }
    }

    fn end_note(&mut self) {
        let note = std::mem::take(&mut self.note);
        if !note.trim().is_empty() {
            self.notes.push(format!("Note: {}", note.trim()));
        }
    }

    fn end_box(&mut self) {
        let text = std::mem::take(&mut self.boxed);
        if !text.trim().is_empty() {
            self.notes.push(text);
        }
    }

    fn end_row(&mut self, at: usize) {
        let mut cells = std::mem::take(&mut self.cells);
        let rest = std::mem::take(&mut self.text);
        if !rest.trim().is_empty() {
            cells.push(rest);
        }
        self.rows.push(Row { cells, source: Some(self.row_at..at) });
        (self.row_at, self.at) = (at, at);
    }

    fn end_table(&mut self) {
        if !self.cells.is_empty() {
            self.end_row(self.at);
        }
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            self.build.table(&rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rtf: &str) -> Document {
        parse(rtf.as_bytes(), &ReadOptions::default()).unwrap()
    }

    #[test]
    fn words_come_out_and_settings_do_not() {
        let document = read(
            r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset204 Arial;}{\f1 X;}}{\stylesheet{\s1 heading 1;}}
{\info{\title T\'e4st}{\author Me}}\pard\s1 Head\par\pard gr\'fc\u223?e \f0\'cf\f1  \u-10179?\u-8704?{\*\unknown no}\par
{\pict 0102}{\listtext\'b7\tab}item\par after{\footnote see there}\par}",
        );
        assert_eq!(document.text, "# Head\n\ngrüße П 😀\n\n- item\n\nafter\n\nNote: see there");
        assert_eq!((document.meta["title"].as_str(), document.meta["author"].as_str()), ("Täst", "Me"));
    }

    #[test]
    fn rows_make_a_table() {
        let document = read(
            r"{\rtf1\pard before\par\trowd\pard\intbl a\cell b\cell\row\trowd\pard\intbl c\par d\cell e\cell\row\pard after\par}",
        );
        assert_eq!(document.text, "before\n\n| a | b |\n| --- | --- |\n| c d | e |\n\nafter");
    }

    #[test]
    fn text_boxes_and_what_objects_show_are_read() {
        let document = read(
            r"{\rtf1\pard be{\shp{\*\shpinst\shpleft0{\sp{\sn pib}{\sv{\pict 0102}}}{\shptxt \pard in the\par\pard box\par}}{\shprslt in the box}}fore\par
{\object\objemb{\*\objclass Sheet}{\*\objdata 0102}{\result \pard shown\par}}{\deleted {\object{\result gone}}}after\par}",
        );
        assert_eq!(document.text, "before\n\nin the\n\nbox\n\nshown\n\nafter");
    }

    #[test]
    fn a_note_says_nothing_of_the_paragraph_it_hangs_on() {
        let document = read(
            r"{\rtf1\pard\outlinelevel0 Head{\footnote\pard\s7 see there}\par\pard\intbl a{\footnote in a cell}\cell\row}",
        );
        assert_eq!(document.text, "# Head\n\nNote: see there\n\n| a |\n| --- |\n\nNote: in a cell");
    }

    #[test]
    fn groups_without_end_are_no_trouble() {
        let document = read(&format!(r"{{\rtf1 {}word", "{".repeat(200_000)));
        assert_eq!(document.text, "word");
    }
}
