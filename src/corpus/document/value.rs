//! A document as templates and expressions see it, under the name `doc`. The one definition of that shape.

use serde_json::{Map, Value, json};

use super::{Document, Heading, Page, Turn};

impl Document {
    /// Returns what templates and expressions see as `doc`:
    ///
    /// - `path`, `name` (with extension), `stem`, `ext`, `sha256`, `format`, `text`;
    /// - `pages`: a list of `{number, text}`;
    /// - `turns`: a list of `{id, speaker, start_ms, end_ms, at, text}`: `id` is `T12`, counted from 1; `speaker` is
    ///   none where the file names nobody; `at` is the start as `0:12:03`; all times are none where the file carries
    ///   none;
    /// - `speakers`: each name once, in the order of their first turn;
    /// - `headings`: a list of `{level, title}`;
    /// - `meta`: what the file says of itself, all values text;
    /// - `title`: what the file says it is called, else its first heading of the first level, else none;
    /// - `warnings`: what the reader dropped, repaired or doubted.
    ///
    /// Bytes of a path that are no UTF-8 are shown as `\xFF`. Costs about twice the text.
    pub fn doc_value(&self) -> Value {
        let mut doc = Map::new();
        let mut put = |name: &str, value: Value| {
            doc.insert(name.to_owned(), value);
        };
        put("path", exact(self.path.as_os_str()).into());
        put("name", self.path.file_name().map(exact).unwrap_or_default().into());
        put("stem", self.path.file_stem().map(exact).unwrap_or_default().into());
        put("ext", self.ext().into());
        put("sha256", self.sha256.as_str().into());
        put("format", self.format.name().into());
        put("text", self.text.as_str().into());
        put("pages", self.pages.iter().map(|p| self.page_value(p)).collect());
        put("turns", self.turns.iter().map(|t| self.turn_value(t)).collect());
        put("speakers", self.speakers().into());
        put("headings", self.headings.iter().map(heading_value).collect());
        put("meta", self.meta.iter().map(|(k, v)| (k.clone(), v.as_str())).collect());
        let heading = || self.headings.iter().find(|h| h.level == 1).map(|h| h.title.as_str());
        put("title", self.meta.get("title").map(String::as_str).or_else(heading).into());
        put("warnings", self.warnings.as_slice().into());
        Value::Object(doc)
    }

    fn page_value(&self, page: &Page) -> Value {
        json!({ "number": page.number, "text": &self.text[page.range.clone()] })
    }

    fn turn_value(&self, turn: &Turn) -> Value {
        json!({
            "id": turn.id.to_string(),
            "speaker": turn.speaker,
            "start_ms": turn.start_ms,
            "end_ms": turn.end_ms,
            "at": turn.start_ms.map(timecode),
            "text": self.turn_text(turn),
        })
    }
}

fn heading_value(heading: &Heading) -> Value {
    json!({ "level": heading.level, "title": heading.title })
}

/// Returns a time of a recording as people read it: `0:12:03`. Milliseconds are cut off, hours are always there.
pub fn timecode(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns a name as UTF-8 without losing a byte: what is no UTF-8 stands as `\xFF`.
fn exact(name: &std::ffi::OsStr) -> String {
    let mut shown = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02X}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::corpus::document::Format;
    use crate::ids::TurnId;

    #[test]
    fn a_template_sees_turns_with_ids_times_and_words() {
        let mut document = Document::of(Format::Vtt, "Anna: Hello\nyes".into());
        document.path = PathBuf::from("calls/Monday call.VTT");
        document.turns = vec![
            Turn {
                id: TurnId(1),
                speaker: Some("Anna".into()),
                start_ms: Some(723_400),
                end_ms: Some(724_000),
                range: 6..11,
                source: 0..0,
            },
            Turn { id: TurnId(2), speaker: None, start_ms: None, end_ms: None, range: 12..15, source: 0..0 },
        ];
        let doc = document.doc_value();
        assert_eq!(
            doc["turns"][0],
            json!({"id": "T1", "speaker": "Anna", "start_ms": 723400, "end_ms": 724000, "at": "0:12:03", "text": "Hello"})
        );
        assert_eq!(
            doc["turns"][1],
            json!({"id": "T2", "speaker": null, "start_ms": null, "end_ms": null, "at": null, "text": "yes"})
        );
        assert_eq!((&doc["stem"], &doc["ext"]), (&json!("Monday call"), &json!("vtt")));
        assert_eq!(doc["speakers"], json!(["Anna"]));
        assert_eq!(doc["title"], Value::Null);
        document.meta.insert("title".into(), "Monday".into());
        assert_eq!(document.doc_value()["title"], "Monday");
    }

    #[test]
    fn a_heading_path_forgets_siblings() {
        let mut document = Document::of(Format::Markdown, "x".repeat(40));
        let heading = |level, title: &str, at| Heading { level, title: title.into(), range: at..at + 1 };
        document.headings = vec![heading(1, "A", 0), heading(2, "B", 10), heading(2, "C", 20), heading(1, "D", 30)];
        assert_eq!(document.heading_path(5), ["A"]);
        assert_eq!(document.heading_path(20), ["A", "C"]);
        assert_eq!(document.heading_path(39), ["D"]);
    }
}
