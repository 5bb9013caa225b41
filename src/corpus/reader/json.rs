//! JSON transcripts: a list of objects, each with a speaker and words. Other JSON is read as the text it is.
//!
//! The list is looked for in the file itself and in objects up to three levels deep. No tree of values is built: lists
//! and objects are walked in the text, so memory stays that of the text, and every string knows its place.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::build::Build;
use super::label;
use super::options::{ReadAs, ReadOptions};
use super::time;
use super::turns::{Piece, TurnBuilder, count, line_ranges, squeeze, trimmed};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format};

const SPEAKER_KEYS: &[&str] = &["speaker", "name", "from"];
const WORDS_KEYS: &[&str] = &["content", "text", "utterance"];
const START_KEYS: &[&str] = &["start", "start_time", "begin"]; // seconds, or `0:12:03.400`
const END_KEYS: &[&str] = &["end", "end_time"];
const MAX_DEPTH: usize = 3;

/// Whether a text is JSON and holds a list of turns.
pub(super) fn holds_turns(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && find_turns(text, start_of(text, 0), MAX_DEPTH).is_some()
}

/// Reads JSON: the field that `json_field` names; else turns where there is a list of them; else the text of the file as
/// it stands.
pub(super) fn parse(text: String, options: &ReadOptions) -> Result<Document, Refusal> {
    serde_json::from_str::<IgnoredAny>(&text)
        .map_err(|error| (ReadReason::Unreadable, format!("is no valid JSON: {error}")))?;
    let root = start_of(&text, 0);
    if let Some(pointer) = &options.json_field {
        return field(&text, root, pointer, options);
    }
    let Some(found) = find_turns(&text, root, MAX_DEPTH) else {
        if options.as_ == ReadAs::Transcript {
            let detail = "holds no list of turns: objects with `speaker` and `content`".to_owned();
            return Err((ReadReason::Unreadable, detail));
        }
        return Ok(Document::of(Format::Json, text));
    };
    let mut turns = TurnBuilder::new(options);
    let mut strangers = Vec::new();
    for (index, item) in items(&text, found.at).enumerate() {
        match Turn::read(&text, item.value) {
            Some(turn) => turns.push(Piece {
                speaker: turn.speaker.as_deref(),
                start_ms: turn.start_ms,
                end_ms: turn.end_ms.map(|end| end.max(turn.start_ms.unwrap_or(0))),
                words: &turn.words,
                source: turn.source,
            }),
            None => strangers.push(index + 1),
        }
    }
    let num_empty = turns.num_empty();
    if turns.num_turns() == 0 {
        return Err((ReadReason::NoTextFound, "holds a list of turns without words".into()));
    }
    let mut document = turns.finish(Format::Json)?;
    if let Some(first) = strangers.first() {
        let items =
            count(strangers.len(), "item of the list is no turn and was", "items of the list are no turns and were");
        document.warnings.push(format!("{items} left out, beginning with item {first}"));
    }
    if num_empty > 0 {
        let turns = count(num_empty, "turn without words was", "turns without words were");
        document.warnings.push(format!("{turns} left out"));
    }
    if text[root..].starts_with('{') {
        for item in items(&text, root) {
            if let (Some(key), Some(value)) =
                (item.key(&text).and_then(|k| label::header_key(&k)), string(&text, item.value))
            {
                document.meta.insert(key.into(), squeeze(&value));
            }
        }
    }
    Ok(document)
}

/// Reads the texts that a pointer leads to: a string, or a list of them.
fn field(text: &str, root: usize, pointer: &str, options: &ReadOptions) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Json, options);
    let absent = || (ReadReason::NoTextFound, format!("has no text at `{pointer}`, its `json_field`"));
    let place = at_pointer(text, root, pointer).ok_or_else(absent)?;
    let found = push_strings(text, place, &mut build);
    if found == 0 { Err(absent()) } else { build.finish() }
}

/// Writes a string, or each string of a list, as a paragraph; returns how many there were.
fn push_strings(text: &str, place: Range<usize>, build: &mut Build) -> usize {
    match text.as_bytes().get(place.start) {
        Some(b'"') => {
            let words = string(text, place.clone()).unwrap_or_default();
            build.paragraph(&words, Some(place.start + 1..place.end - 1));
            1
        }
        Some(b'[') => {
            let strings = items(text, place.start).map(|i| i.value).filter(|v| text[v.start..].starts_with('"'));
            strings.map(|value| push_strings(text, value, build)).sum()
        }
        _ => 0,
    }
}

/// Returns the place of the value that a JSON pointer (RFC 6901) leads to.
fn at_pointer(text: &str, root: usize, pointer: &str) -> Option<Range<usize>> {
    let mut place = root..value_end(text, root)?;
    for word in pointer.trim_start_matches('/').split('/').filter(|_| !pointer.trim_matches('/').is_empty()) {
        let word = word.replace("~1", "/").replace("~0", "~");
        let mut items = items(text, place.start);
        place = match text.as_bytes().get(place.start)? {
            b'{' => items.find(|item| item.key(text).as_deref() == Some(word.as_str()))?.value,
            b'[' => items.nth(word.parse().ok()?)?.value,
            _ => return None,
        };
    }
    Some(place)
}

/// Reads JSON Lines: the field that `json_field` names, line by line; else turns where the lines are turns; else the text
/// of the file as it stands.
pub(super) fn lines(text: String, options: &ReadOptions) -> Result<Document, Refusal> {
    let filled = || line_ranges(&text).map(|l| trimmed(&text, l)).filter(|l| !l.is_empty());
    let is_json = |line: &Range<usize>| serde_json::from_str::<IgnoredAny>(&text[line.clone()]).is_ok();
    let broken = filled().enumerate().filter(|(_, line)| !is_json(line)).map(|(index, _)| index + 1);
    let broken: Vec<usize> = broken.collect();
    let warning = broken.first().map(|first| {
        let lines = count(broken.len(), "line is", "lines are");
        format!("{lines} no valid JSON, beginning with line {first}")
    });
    if let Some(pointer) = &options.json_field {
        let mut build = Build::new(Format::Jsonl, options);
        let mut num_absent = 0;
        for line in filled().filter(is_json) {
            // Places of a value are looked for in its own line: a list of a million lines is walked once.
            let place = at_pointer(&text[..line.end], line.start, pointer);
            num_absent += usize::from(place.is_none_or(|place| push_strings(&text, place, &mut build) == 0));
        }
        if num_absent > 0 {
            build.warn(format!("{} no text at `{pointer}`", count(num_absent, "line has", "lines have")));
        }
        build.document.warnings.extend(warning);
        return build.finish();
    }
    if broken.is_empty() {
        // As one list, each line a byte further: the lines become its items.
        let mut list = String::with_capacity(text.len() + 2);
        list.push('[');
        let mut end = 0;
        for line in filled() {
            let gap = line.start - end;
            (0..gap).for_each(|at| list.push(if at == 0 && end > 0 { ',' } else { ' ' }));
            list.push_str(&text[line.clone()]);
            end = line.end;
        }
        list.push(']');
        if list_of_turns(&list, 0).is_some() {
            let mut document = parse(list, &ReadOptions { json_field: None, ..options.clone() })?;
            document.format = Format::Jsonl;
            for turn in &mut document.turns {
                turn.source = turn.source.start - 1..turn.source.end - 1;
            }
            return Ok(document);
        }
    }
    let mut document = Document::of(Format::Jsonl, text);
    document.warnings.extend(warning);
    Ok(document)
}

/// One object of the list.
struct Turn {
    speaker: Option<String>,
    words: String,
    source: Range<usize>, // inside the quotes, escapes as they stand
    start_ms: Option<u64>,
    end_ms: Option<u64>,
    names_a_speaker: bool, // by the key `speaker`
}

impl Turn {
    /// Returns `None` where the value is no object with words; a speaker may be missing.
    fn read(text: &str, object: Range<usize>) -> Option<Self> {
        if !text[object.start..].starts_with('{') {
            return None;
        }
        let mut turn = Self {
            speaker: None,
            words: String::new(),
            source: 0..0,
            start_ms: None,
            end_ms: None,
            names_a_speaker: false,
        };
        for item in items(text, object.start) {
            let Some(key) = item.key(text) else { continue };
            let key = key.to_lowercase();
            let is = |keys: &[&str]| keys.contains(&key.as_str());
            if is(SPEAKER_KEYS) && turn.speaker.is_none() {
                turn.speaker = string(text, item.value).filter(|name| !name.trim().is_empty());
                turn.names_a_speaker = key == "speaker";
            } else if is(WORDS_KEYS) && turn.source.is_empty() {
                turn.words = string(text, item.value.clone())?;
                turn.source = item.value.start + 1..item.value.end - 1;
            } else if is(START_KEYS) {
                turn.start_ms = moment(text, item.value);
            } else if is(END_KEYS) {
                turn.end_ms = moment(text, item.value);
            }
        }
        // Empty words are a turn of silence; no words at all are no turn.
        (turn.source.start > 0).then_some(turn)
    }
}

struct Found {
    at: usize, // byte of the opening bracket
    num_turns: usize,
}

/// Returns the longest list of turns below the value at `at`.
fn find_turns(text: &str, at: usize, depth: usize) -> Option<Found> {
    match text.as_bytes().get(at)? {
        b'[' => list_of_turns(text, at),
        b'{' if depth > 0 => items(text, at)
            .filter_map(|item| find_turns(text, item.value.start, depth - 1))
            // The first of equals, so that the answer does not hang on the order of a comparison.
            .reduce(|best, next| if next.num_turns > best.num_turns { next } else { best }),
        _ => None,
    }
}

/// More than half of a list must be turns, and somebody in it must be named. Lists of `{name, text}` are made for many
/// ends: there, a name must come back.
fn list_of_turns(text: &str, at: usize) -> Option<Found> {
    let (mut num_items, mut num_turns, mut num_speakers, mut comes_back) = (0usize, 0usize, 0usize, false);
    let mut seen = std::collections::HashSet::new();
    for item in items(text, at) {
        num_items += 1;
        if let Some(turn) = Turn::read(text, item.value) {
            num_turns += 1;
            if let Some(name) = turn.speaker {
                num_speakers += usize::from(turn.names_a_speaker);
                comes_back |= !seen.insert(name);
            }
        }
    }
    let is_one = num_turns * 2 > num_items && (num_speakers > 0 || comes_back);
    is_one.then_some(Found { at, num_turns })
}

/// A value of a list or an object, as places in the text.
struct Item {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Item {
    fn key(&self, text: &str) -> Option<String> {
        string(text, self.key.clone()?)
    }
}

/// Walks a list or an object that is known to be valid JSON.
fn items(text: &str, at: usize) -> impl Iterator<Item = Item> + '_ {
    let object = text[at..].starts_with('{');
    let mut at = at + 1;
    std::iter::from_fn(move || {
        at = start_of(text, at);
        if text[at..].starts_with(',') {
            at = start_of(text, at + 1);
        }
        if text[at..].starts_with(['}', ']']) || at >= text.len() {
            return None;
        }
        let key = if object {
            let key = at..value_end(text, at)?;
            at = start_of(text, key.end);
            at = start_of(text, at + 1); // past the colon
            Some(key)
        } else {
            None
        };
        let value = at..value_end(text, at)?;
        at = value.end;
        Some(Item { key, value })
    })
}

fn start_of(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + (rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len())
}

fn value_end(text: &str, at: usize) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(at + values.byte_offset())
}

fn string(text: &str, value: Range<usize>) -> Option<String> {
    serde_json::from_str(&text[value]).ok()
}

fn moment(text: &str, value: Range<usize>) -> Option<u64> {
    let text = &text[value];
    match serde_json::from_str::<f64>(text) {
        // Over thirty years of seconds is a time of day since 1970, and none of a recording.
        Ok(seconds) => (0.0..9e8).contains(&seconds).then_some((seconds * 1000.0).round() as u64),
        Err(_) => time::parse_cue_time(&serde_json::from_str::<String>(text).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        parse(text.to_owned(), &ReadOptions::default()).unwrap()
    }

    #[test]
    fn a_list_of_turns_inside_an_object_is_found_with_its_meta() {
        let text = r#"{"title": "Kick-off", "topics": [{"topic": "x"}], "meeting_transcripts": [
            {"speaker": "Grad A", "content": "one \"quoted\""}, {"speaker": "Grad A", "content": "two"},
            {"speaker": "Prof B", "content": ""}, {"speaker": "Grad A", "content": "tr\u00e8s"}]}"#;
        assert!(holds_turns(text));
        let document = read(text);
        assert_eq!(document.text, "Grad A: one \"quoted\" two\nGrad A: très");
        assert_eq!(document.meta["title"], "Kick-off");
        assert_eq!(document.warnings, ["1 turn without words was left out"]);
        assert_eq!(&text[document.turns[1].source.clone()], r"tr\u00e8s");
    }

    #[test]
    fn seconds_become_times_and_a_bare_list_is_enough() {
        let text = r#"[{"from": "A", "text": "x", "start": 1.5, "end": 2}, {"from": "B", "text": "y", "start": "0:00:03"},
            {"from": "A", "text": "z"}, 7]"#;
        let document = read(text);
        assert_eq!((document.turns[0].start_ms, document.turns[0].end_ms), (Some(1500), Some(2000)));
        assert_eq!(document.turns[1].start_ms, Some(3000));
        assert_eq!(document.turns[2].start_ms, None);
        assert!(document.warnings[0].contains("item 4"));
    }

    #[test]
    fn other_json_is_text_and_broken_json_is_refused() {
        let text = r#"{"products": [{"name": "Chair", "text": "red"}, {"name": "Table", "text": "blue"}]}"#;
        assert!(!holds_turns(text));
        assert_eq!(read(text).text, text);
        let (reason, detail) = parse("{\"a\": [1,\n 2}".into(), &ReadOptions::default()).unwrap_err();
        assert_eq!(reason, ReadReason::Unreadable);
        assert!(detail.contains("line 2"), "{detail}");
        let (_, detail) =
            parse(text.into(), &ReadOptions { as_: ReadAs::Transcript, ..Default::default() }).unwrap_err();
        assert!(detail.contains("no list of turns"));
    }

    #[test]
    fn a_pointer_chooses_the_text_and_each_text_knows_its_place() {
        let text = r#"{"a/b": [{"x": 1}, {"t": ["one", "tw\u00f6"]}]}"#;
        let with = |field: &str| ReadOptions { json_field: Some(field.into()), ..Default::default() };
        let document = parse(text.into(), &with("/a~1b/1/t")).unwrap();
        assert_eq!(document.text, "one\n\ntwö");
        assert_eq!(&text[document.locate(6).bytes.unwrap()], r"tw\u00f6");
        assert!(parse(text.into(), &with("/nowhere")).unwrap_err().1.contains("`json_field`"));
        let text = "{\"t\": \"one\"}\n\n{\"t\": 2}\nbroken\n{\"t\": \"three\"}";
        let document = lines(text.into(), &with("/t")).unwrap();
        assert_eq!(document.text, "one\n\nthree");
        assert_eq!(&text[document.locate(5).bytes.unwrap()], "three");
        assert_eq!(document.warnings, ["1 line has no text at `/t`", "1 line is no valid JSON, beginning with line 3"]);
    }

    #[test]
    fn lines_that_are_turns_are_read_as_turns() {
        let text = "{\"speaker\": \"A\", \"text\": \"x\"}\r\n{\"speaker\": \"B\", \"text\": \"y\"}\n";
        let document = lines(text.into(), &ReadOptions::default()).unwrap();
        assert_eq!(document.text, "A: x\nB: y");
        assert_eq!(&text[document.turns[1].source.clone()], "y");
        assert_eq!(lines("{}\n{}".into(), &ReadOptions::default()).unwrap().text, "{}\n{}");
    }

    #[test]
    fn deep_nesting_is_no_trouble() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!holds_turns(&text));
        let text = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert!(!holds_turns(&text));
    }
}
