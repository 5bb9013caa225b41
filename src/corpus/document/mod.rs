//! A document as steps see it: one text, with pages, headings and turns as ranges into it.
//! Every range leads back to a place in the file. Knows no format.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::TurnId;

mod place;
mod value;

pub use place::{Located, Part, Place, Table, cell_name};
pub use value::timecode;

/// What a reader made of one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub path: PathBuf,
    pub sha256: String, // of the bytes that were read, lower-case hex
    pub format: Format,
    pub text: String,
    pub pages: Vec<Page>,
    pub headings: Vec<Heading>,
    pub turns: Vec<Turn>,   // empty where the file is no transcript
    pub tables: Vec<Table>, // of sheets and separated values; other tables are text like any other
    pub parts: Vec<Part>,   // members, attachments, sheets; empty where the file is one piece
    pub places: Vec<Place>, // ascending; empty where the text is the decoded file itself, and in a PDF
    /// `title`, `date`, `language` and what else the file says of itself.
    pub meta: BTreeMap<String, String>,
    /// What the reader dropped, repaired or doubted, each worth a line in the report.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Markdown,
    Vtt,
    Srt,
    Sbv,
    /// Plain `Name: text` lines.
    Transcript,
    /// JSON; a list of `{speaker, text}` objects in it gives turns.
    Json,
    Jsonl,
    Csv,
    Tsv,
    Html,
    Rtf,
    Pdf,
    Docx,
    Pptx,
    Xlsx,
    Xls,
    Ods,
    Odt,
    Odp,
    Epub,
    Eml,
    Mbox,
    Msg,
    Zip,
    Tar,
}

impl Format {
    /// Returns the format's one-word name, as it is written in records and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Vtt => "vtt",
            Self::Srt => "srt",
            Self::Sbv => "sbv",
            Self::Transcript => "transcript",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Html => "html",
            Self::Rtf => "rtf",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Pptx => "pptx",
            Self::Xlsx => "xlsx",
            Self::Xls => "xls",
            Self::Ods => "ods",
            Self::Odt => "odt",
            Self::Odp => "odp",
            Self::Epub => "epub",
            Self::Eml => "eml",
            Self::Mbox => "mbox",
            Self::Msg => "msg",
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    /// Whether the text of such a document is Markdown: written so, or made by a reader that keeps structure.
    pub fn is_markdown(self) -> bool {
        !matches!(
            self,
            Self::Text | Self::Vtt | Self::Srt | Self::Sbv | Self::Transcript | Self::Json | Self::Jsonl | Self::Pdf
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub number: u32,         // 1-based, as printed by a viewer
    pub range: Range<usize>, // bytes of `Document::text`
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    pub level: u8, // 1..=6
    pub title: String,
    pub range: Range<usize>, // bytes of `Document::text`, of the heading's own line
}

/// What one person said without a break. Times come only from cues and stamps of the file, names only from the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub id: TurnId, // 1-based position in `Document::turns`
    pub speaker: Option<String>,
    pub start_ms: Option<u64>, // since the start of the recording
    pub end_ms: Option<u64>,
    pub range: Range<usize>,  // bytes of `Document::text`: the words, without the speaker's label
    pub source: Range<usize>, // bytes of the decoded file
}

impl Document {
    /// Returns a document that holds `text` and nothing else yet; its reader fills in the rest.
    pub fn of(format: Format, text: String) -> Self {
        Self {
            path: PathBuf::new(),
            sha256: String::new(),
            format,
            text,
            pages: Vec::new(),
            headings: Vec::new(),
            turns: Vec::new(),
            tables: Vec::new(),
            parts: Vec::new(),
            places: Vec::new(),
            meta: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the words of a turn.
    pub fn turn_text(&self, turn: &Turn) -> &str {
        &self.text[turn.range.clone()]
    }

    /// Returns each speaker once, in the order of their first turn.
    pub fn speakers(&self) -> Vec<&str> {
        let mut seen = Vec::new();
        for name in self.turns.iter().filter_map(|t| t.speaker.as_deref()) {
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
        seen
    }

    /// Returns the file's name without its folder and its last extension.
    pub fn stem(&self) -> String {
        self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Returns the file's last extension, without the dot and in lower case; empty where there is none.
    pub fn ext(&self) -> String {
        self.path.extension().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default()
    }

    /// Returns the pages a range of the text touches, first and last; `None` where the format has no pages.
    pub fn pages_of(&self, range: &Range<usize>) -> Option<(u32, u32)> {
        let first = self.pages.iter().find(|p| p.range.end > range.start)?;
        let last = self.pages.iter().rev().find(|p| p.range.start < range.end)?;
        (first.number <= last.number).then_some((first.number, last.number))
    }

    /// Returns the titles that stand above a place of the text, outermost first. A heading that begins
    /// at the place itself is part of its path.
    pub fn heading_path(&self, at: usize) -> Vec<String> {
        let mut path: Vec<&Heading> = Vec::new();
        for heading in self.headings.iter().take_while(|h| h.range.start <= at) {
            path.retain(|above| above.level < heading.level);
            path.push(heading);
        }
        path.into_iter().map(|h| h.title.clone()).collect()
    }
}
