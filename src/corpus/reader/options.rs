//! How files are read: the `read` mapping of a pipeline, its keys defined once.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::roster::Speakers;
use super::time;
use super::worker::Isolation;
use crate::spec::{KeySpec, ValueSpec};

/// The keys of `read:`. The defaults here are those of [`ReadOptions::default`]; a test holds them together.
pub static READ_KEYS: &[KeySpec] = &[
    KeySpec::default(
        "as",
        ValueSpec::Choice(&["auto", "text", "transcript"]),
        "auto",
        "What the files hold. `auto` tells by content, then by extension; `text` looks for no turns; `transcript` \
         makes it an error when no turns are found.",
    ),
    KeySpec::default(
        "merge_gap",
        ValueSpec::OneOf(&[ValueSpec::Duration, ValueSpec::Choice(&["none"])]),
        "2s",
        "Cues of one speaker become one turn when the silence between them is at most this long. Where lines carry no \
         times, consecutive lines of one speaker do. `none` or 0 keeps every cue and every line a turn of its own.",
    ),
    KeySpec::default(
        "no_timestamps",
        ValueSpec::Choice(&["allow", "error"]),
        "allow",
        "Whether a transcript without times is accepted; it is then cited by turn and not by time.",
    ),
    KeySpec::optional(
        "speakers",
        ValueSpec::Object(SPEAKERS),
        "Who the speakers of a transcript are: labels that a roster knows become the names it gives them.",
    ),
    KeySpec::default(
        "pages",
        ValueSpec::Choice(&["keep", "drop"]),
        "keep",
        "Whether the pages of a file are kept, to be cut by and cited; without them it is one text.",
    ),
    KeySpec::default(
        "no_text",
        ValueSpec::Choice(&["quarantine", "skip", "stop"]),
        "quarantine",
        "What a file without text does: `quarantine` fails the document, `skip` leaves it as abstained, `stop` ends the \
         run.",
    ),
    KeySpec::default("max_size", SIZE, "50 MiB", "The largest file that is read."),
    KeySpec::default(
        "max_pages",
        ValueSpec::Integer { min: 1, max: u32::MAX as i64 },
        "5000",
        "The most pages a file may have.",
    ),
    KeySpec::default("timeout", ValueSpec::Duration, "60s", "The longest that the parsing of one file may take."),
    KeySpec::default("max_memory", SIZE, "1 GiB", "The most memory that the parsing of one file may take."),
    KeySpec::default(
        "max_turns",
        ValueSpec::Integer { min: 1, max: u32::MAX as i64 },
        "500000",
        "The most turns a transcript may have.",
    ),
    KeySpec::default("max_text", SIZE, "100 MiB", "The most text that is taken from one file."),
    KeySpec::default(
        "max_members",
        ValueSpec::Integer { min: 1, max: u32::MAX as i64 },
        "10000",
        "The most members that an archive, an office file or an e-mail may have, those of inner ones included.",
    ),
    KeySpec::default("max_unpacked", SIZE, "256 MiB", "The most bytes that the members of one file may unpack to."),
    KeySpec::default(
        "max_ratio",
        ValueSpec::Integer { min: 2, max: u32::MAX as i64 },
        "200",
        "How many times its packed size a member may unpack to, where that is more than 1 MiB.",
    ),
    KeySpec::default(
        "max_depth",
        ValueSpec::Integer { min: 1, max: 16 },
        "4",
        "How deep archives and attachments may stand inside each other.",
    ),
    KeySpec::default(
        "html",
        ValueSpec::Choice(&["full", "main"]),
        "full",
        "What is taken from a web page: all of its text, or its main content without menus and footers.",
    ),
    KeySpec::optional(
        "json_field",
        ValueSpec::Setting,
        "The field of JSON, or of each line of JSON Lines, that holds the text: a JSON pointer such as `/body/text`.",
    ),
    KeySpec::optional(
        "passwords",
        ValueSpec::List(&ValueSpec::Setting),
        "Passwords that are tried on an encrypted PDF or archive.",
    ),
    KeySpec::default(
        "ocr",
        ValueSpec::Choice(&["none", "tesseract"]),
        "none",
        "What reads the pages of a PDF that hold images and no text. `tesseract` uses the installed program, and \
         `pdftoppm` of Poppler to draw the page. Not for PDFs inside archives and e-mails, whose pages are named.",
    ),
    KeySpec::default(
        "ocr_languages",
        ValueSpec::Setting,
        "eng",
        "The languages of scanned pages, as tesseract names them, joined by `+`: eng+deu.",
    ),
    KeySpec::default("ocr_timeout", ValueSpec::Duration, "60s", "The longest that recognising one page may take."),
];

const SIZE: ValueSpec = ValueSpec::Size;

/// The keys of `read.speakers:`.
pub static SPEAKERS: &[KeySpec] = &[
    KeySpec::optional(
        "roster",
        ValueSpec::Setting,
        "A CSV file with a column `name` and, where labels differ from it, `alias`, several of them parted by `;`. A \
         person may have several rows; other columns are not used. A change of it is a change of every document.",
    ),
    KeySpec::default(
        "unknown",
        ValueSpec::Choice(&["keep-label", "drop", "error"]),
        "keep-label",
        "A label that the roster does not know stays as the file has it, is taken away, or fails the document. No name is \
         ever invented.",
    ),
];

/// How one file is read. Deserializes from the `read` mapping of a pipeline, where every key may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    #[serde(rename = "as")]
    pub as_: ReadAs,
    /// The longest silence inside a turn; `None` keeps every cue a turn of its own.
    #[serde(rename = "merge_gap", serialize_with = "write_gap", deserialize_with = "read_gap")]
    pub merge_gap_ms: Option<u64>,
    pub no_timestamps: NoTimestamps,
    pub speakers: Option<Speakers>,
    pub pages: Pages,
    /// Not the reader's to decide: it says that there is no text, and whoever asked does as this says.
    pub no_text: NoText,
    #[serde(rename = "max_size", deserialize_with = "read_size")]
    pub max_bytes: u64,
    pub max_pages: u32,
    pub max_turns: u32,
    #[serde(serialize_with = "write_duration", deserialize_with = "read_duration")]
    pub timeout: Duration, // wall clock, of one parse in the child process
    #[serde(deserialize_with = "read_size")]
    pub max_memory: u64, // bytes of address space of the child process
    #[serde(deserialize_with = "read_size")]
    pub max_text: u64, // bytes
    pub max_members: u32,
    #[serde(deserialize_with = "read_size")]
    pub max_unpacked: u64, // bytes, of all members together
    pub max_ratio: u32,
    pub max_depth: u32,
    pub html: HtmlContent,
    pub json_field: Option<String>,
    pub passwords: Vec<String>,
    pub ocr: Ocr,
    pub ocr_languages: String, // as tesseract names them, joined by `+`
    #[serde(serialize_with = "write_duration", deserialize_with = "read_duration")]
    pub ocr_timeout: Duration, // wall clock, of one page
    /// Who parses what is not plain text; `None` parses in this process, without limits of time and memory.
    #[serde(skip)]
    pub isolation: Option<Isolation>,
}

/// What a file is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadAs {
    #[default]
    Auto,
    Text,
    Transcript,
}

/// Whether a document has pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    #[default]
    Keep,
    Drop,
}

/// What becomes of a file without text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoText {
    #[default]
    Quarantine,
    Skip,
    Stop,
}

/// What is taken from a web page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HtmlContent {
    #[default]
    Full,
    Main,
}

/// What reads the pages that are images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ocr {
    #[default]
    None,
    Tesseract,
}

/// Whether a transcript without times is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoTimestamps {
    #[default]
    Allow,
    Error,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            as_: ReadAs::Auto,
            merge_gap_ms: Some(2000),
            no_timestamps: NoTimestamps::Allow,
            speakers: None,
            pages: Pages::Keep,
            no_text: NoText::Quarantine,
            max_bytes: 50 << 20,
            max_pages: 5000,
            max_turns: 500_000,
            timeout: Duration::from_secs(60),
            max_memory: 1 << 30,
            max_text: 100 << 20,
            max_members: 10_000,
            max_unpacked: 256 << 20,
            max_ratio: 200,
            max_depth: 4,
            html: HtmlContent::Full,
            json_field: None,
            passwords: Vec::new(),
            ocr: Ocr::None,
            ocr_languages: "eng".into(),
            ocr_timeout: Duration::from_secs(60),
            isolation: None,
        }
    }
}

/// Returns a size as people read it: `61.2 MiB`, `512 bytes`.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// Reads `50 MiB`, `50MB`, `1.5 GiB` or a number of bytes.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit: f64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let bytes = number * unit;
    (bytes >= 1.0 && bytes <= 2f64.powi(53)).then_some(bytes as u64)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn read_size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match NumberOrText::deserialize(from)? {
        NumberOrText::Number(bytes) => Ok(bytes),
        NumberOrText::Text(text) => {
            parse_size(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is no size such as 50 MiB")))
        }
    }
}

fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    // A checked pipeline file gives milliseconds; the way to the child process gives text.
    match NumberOrText::deserialize(from)? {
        NumberOrText::Number(ms) => Ok(Duration::from_millis(ms)),
        NumberOrText::Text(text) => time::parse_duration(&text)
            .map(Duration::from_millis)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no duration such as 20s, 3m or 1h30m"))),
    }
}

fn read_gap<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let gap = match Option::<NumberOrText>::deserialize(from)? {
        None => 0,
        Some(NumberOrText::Text(text)) if text == "none" => 0,
        Some(NumberOrText::Text(text)) => time::parse_duration(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no duration such as 2s, nor `none`")))?,
        Some(NumberOrText::Number(ms)) => ms,
    };
    Ok((gap > 0).then_some(gap))
}

fn write_duration<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{}ms", duration.as_millis()))
}

fn write_gap<S: Serializer>(gap: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match gap {
        Some(ms) => to.serialize_str(&format!("{ms}ms")),
        None => to.serialize_str("none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_key_table_are_the_defaults_of_the_options() {
        let written: serde_json::Map<String, serde_json::Value> = READ_KEYS
            .iter()
            .filter_map(|key| Some((key.name.to_owned(), key.default?)))
            .map(|(name, default)| (name, default.parse::<u64>().map_or(default.into(), Into::into)))
            .collect();
        let options: ReadOptions = serde_json::from_value(written.into()).unwrap();
        assert_eq!(options, ReadOptions::default());
    }

    #[test]
    fn options_survive_the_way_to_the_child_process() {
        let options = ReadOptions { merge_gap_ms: None, timeout: Duration::from_millis(1500), ..Default::default() };
        let sent = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<ReadOptions>(&sent).unwrap(), options);
    }

    #[test]
    fn a_gap_of_zero_or_none_turns_merging_off() {
        let gap = |json: &str| serde_json::from_str::<ReadOptions>(json).map(|o| o.merge_gap_ms);
        assert_eq!(gap(r#"{"merge_gap": "1.5s"}"#).unwrap(), Some(1500));
        assert_eq!(gap(r#"{"merge_gap": "none"}"#).unwrap(), None);
        assert_eq!(gap(r#"{"merge_gap": 0}"#).unwrap(), None);
        assert_eq!(gap(r#"{"merge_gap": "0s"}"#).unwrap(), None);
        assert_eq!(gap(r#"{"merge_gap": 1500}"#).unwrap(), Some(1500)); // as a checked pipeline file gives it
        assert!(gap(r#"{"merge_gpa": "2s"}"#).is_err());
    }

    #[test]
    fn sizes_are_read_with_and_without_a_space() {
        assert_eq!(parse_size("50MB"), Some(50_000_000));
        assert_eq!(parse_size("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse_size("12"), Some(12));
        assert_eq!(parse_size("0 MB"), None);
        assert_eq!(parse_size("5 lbs"), None);
        assert_eq!(size_text(50 << 20), "50 MiB");
        assert_eq!(size_text(64_172_851), "61.2 MiB");
    }
}
