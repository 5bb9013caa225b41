//! Speakers' labels and header lines as people write them: what may be a name, what is a field of a form.
//! Knows no format.

use std::collections::HashMap;

/// A line that begins like `Anna Smith: words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label<'a> {
    pub name: &'a str,
    pub words_at: usize, // byte of the line where the words begin
}

/// Longer names than these are sentences with a colon.
const MAX_NAME_BYTES: usize = 64;
const MAX_NAME_WORDS: usize = 6;

/// Words that stand before a colon in forms, logs, mails and asides, and are nobody's name.
const FIELDS: &[&str] = &[
    "note",
    "notes",
    "nb",
    "n.b",
    "ps",
    "p.s",
    "warning",
    "caution",
    "important",
    "example",
    "examples",
    "e.g",
    "i.e",
    "hint",
    "tip",
    "error",
    "info",
    "debug",
    "trace",
    "fatal",
    "todo",
    "fixme",
    "summary",
    "abstract",
    "conclusion",
    "background",
    "introduction",
    "references",
    "source",
    "sources",
    "from",
    "to",
    "cc",
    "bcc",
    "re",
    "fw",
    "fwd",
    "sent",
    "reply-to",
    "message-id",
    "name",
    "address",
    "phone",
    "tel",
    "fax",
    "email",
    "e-mail",
    "mail",
    "web",
    "website",
    "url",
    "http",
    "https",
    "id",
    "age",
    "price",
    "total",
    "amount",
    "version",
    "license",
    "author",
    "description",
    "type",
    "status",
    "result",
    "input",
    "output",
    "usage",
    "file",
    "figure",
    "fig",
    "table",
    "chapter",
    "section",
    "page",
    "step",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "hinweis",
    "achtung",
    "beispiel",
    "anmerkung",
    "warnung",
    "von",
    "an",
    "betreff",
    "nota",
    "nota bene",
    "ejemplo",
    "exemple",
    "remarque",
    "esempio",
    "exemplo",
    "poznámka",
    "opmerking",
    "voorbeeld",
    "注意",
    "注",
    "備考",
    "例",
    "참고",
];

/// Fields of a transcript's head, each with the spellings of the languages the model speaks.
const HEADER: &[(&str, &[&str])] = &[
    (
        "title",
        &[
            "title",
            "subject",
            "topic",
            "meeting",
            "meeting title",
            "titel",
            "betreff",
            "thema",
            "besprechung",
            "título",
            "titulo",
            "asunto",
            "titre",
            "objet",
            "sujet",
            "titolo",
            "oggetto",
            "assunto",
            "název",
            "předmět",
            "onderwerp",
            "vergadering",
            "標題",
            "标题",
            "主题",
            "会议",
            "件名",
            "会議名",
            "제목",
            "회의",
            "العنوان",
        ],
    ),
    ("date", &["date", "meeting date", "datum", "fecha", "data", "日付", "日期", "날짜", "التاريخ"]),
    (
        "time",
        &[
            "time",
            "start time",
            "zeit",
            "uhrzeit",
            "beginn",
            "hora",
            "heure",
            "ora",
            "čas",
            "tijd",
            "時間",
            "时间",
            "시간",
            "الوقت",
        ],
    ),
    ("duration", &["duration", "length", "dauer", "duración", "durée", "durata", "duração", "délka", "duur", "时长"]),
    (
        "location",
        &[
            "location",
            "place",
            "venue",
            "room",
            "where",
            "ort",
            "raum",
            "lugar",
            "lieu",
            "luogo",
            "local",
            "místo",
            "locatie",
            "plaats",
            "場所",
            "地点",
            "장소",
            "المكان",
        ],
    ),
    (
        "attendees",
        &[
            "attendees",
            "participants",
            "present",
            "attending",
            "in attendance",
            "speakers",
            "teilnehmer",
            "teilnehmende",
            "teilnehmerinnen",
            "anwesend",
            "anwesende",
            "asistentes",
            "participantes",
            "présents",
            "participants présents",
            "partecipanti",
            "presenti",
            "presentes",
            "účastníci",
            "přítomni",
            "aanwezig",
            "aanwezigen",
            "deelnemers",
            "出席者",
            "参加者",
            "与会者",
            "参会人",
            "참석자",
            "الحضور",
        ],
    ),
    (
        "absent",
        &["absent", "apologies", "regrets", "abwesend", "entschuldigt", "ausentes", "absents", "assenti", "欠席者"],
    ),
    ("organizer", &["organizer", "organiser", "host", "chair", "facilitator", "moderator", "leitung", "organisator"]),
    ("recorded_by", &["recorded by", "transcribed by", "transcript by", "minutes by", "protokoll"]),
    ("language", &["language", "sprache", "idioma", "langue", "lingua", "língua", "jazyk", "taal"]),
    ("project", &["project", "projekt", "proyecto", "projet", "progetto", "projeto"]),
    ("agenda", &["agenda", "tagesordnung"]),
    ("kind", &["kind"]),
];

/// Returns the name under which a header field is kept, if the word is one.
pub(super) fn header_key(word: &str) -> Option<&'static str> {
    let word = word.trim().to_lowercase();
    HEADER.iter().find(|(_, spellings)| spellings.contains(&word.as_str())).map(|(key, _)| *key)
}

/// Returns the key and the value of a header line such as `Date: 2026-03-13`.
pub(super) fn header_line(line: &str) -> Option<(&'static str, &str)> {
    let (word, value) = line.split_once([':', '：'])?;
    let value = value.trim();
    if value.is_empty() { None } else { Some((header_key(word.trim_matches(['*', '#', ' ', '-']))?, value)) }
}

/// Splits a line into a label and words, by form alone: up to six words of letters before a colon that is followed by
/// a space or the end of the line. Bold type around the label (`**Anna:** hello`) is no part of the name.
pub(super) fn split_label(line: &str) -> Option<Label<'_>> {
    let bold = line.starts_with("**");
    let from = if bold { 2 } else { 0 };
    let window = line.floor_char_boundary((from + MAX_NAME_BYTES + 4).min(line.len()));
    let (colon, mark) = line[from..window].char_indices().find(|(_, c)| matches!(c, ':' | '：'))?;
    let (mut name, mut rest) = (&line[from..from + colon], &line[from + colon + mark.len_utf8()..]);
    if bold {
        match name.strip_suffix("**") {
            Some(inner) => name = inner,
            None => rest = rest.strip_prefix("**")?,
        }
    }
    let open = mark == '：' || rest.is_empty() || rest.starts_with(char::is_whitespace);
    let words_at = line.len() - rest.trim_start().len();
    if open && may_be_name(name) { Some(Label { name: name.trim_end(), words_at }) } else { None }
}

/// Whether a text has the form of a name or a role: it begins with a letter, holds few words and no punctuation that
/// sentences have.
pub(super) fn may_be_name(name: &str) -> bool {
    let name = name.trim_end();
    name.len() <= MAX_NAME_BYTES
        && name.chars().next().is_some_and(char::is_alphabetic)
        && name.split_whitespace().count() <= MAX_NAME_WORDS
        && name.chars().all(|c| c.is_alphanumeric() || " .,'’-_()/&@·・\u{a0}".contains(c) || is_mark(c))
        && !name.ends_with(',')
        && !is_field(name)
}

/// Combining marks belong to letters (Hindi, and Latin letters written in two parts).
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{64B}'..='\u{65F}' | '\u{900}'..='\u{DFF}')
}

/// Whether the word is a field of a form, a log level or an aside, and so nobody's name.
pub(super) fn is_field(name: &str) -> bool {
    let word = name.trim().trim_end_matches('.').to_lowercase();
    FIELDS.contains(&word.as_str()) || header_key(&word).is_some()
}

/// Whether every word is written as names are: a capital, a digit, or a script without capitals; small particles as in
/// `Ludwig van Beethoven` are allowed after the first word.
pub(super) fn is_capitalized(name: &str) -> bool {
    const PARTICLES: &[&str] = &[
        "von", "van", "de", "der", "den", "da", "di", "do", "dos", "du", "del", "la", "le", "el", "al", "bin", "y",
        "zu",
    ];
    name.split_whitespace().enumerate().all(|(index, word)| {
        let first = word.chars().find(|c| c.is_alphanumeric());
        first.is_none_or(|c| !c.is_lowercase()) || (index > 0 && PARTICLES.contains(&word))
    })
}

/// How often each label stands in a file.
#[derive(Default)]
pub(super) struct Census<'a> {
    counts: HashMap<&'a str, usize>,
    pub num_labels: usize,
}

impl<'a> Census<'a> {
    pub fn add(&mut self, name: &'a str) {
        *self.counts.entry(name).or_default() += 1;
        self.num_labels += 1;
    }

    pub fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn num_names(&self) -> usize {
        self.counts.len()
    }

    /// Returns how many labels occur at least `times` times.
    pub fn num_repeated(&self, times: usize) -> usize {
        self.counts.values().filter(|n| **n >= times).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(line: &str) -> Option<&str> {
        split_label(line).map(|label| label.name)
    }

    #[test]
    fn labels_are_told_from_sentences_times_and_addresses() {
        assert_eq!(name("Anna: hello"), Some("Anna"));
        assert_eq!(name("Dr. Müller-Lüdenscheidt (Vertrieb): ja"), Some("Dr. Müller-Lüdenscheidt (Vertrieb)"));
        assert_eq!(name("Speaker 1: yes"), Some("Speaker 1"));
        assert_eq!(name("Smith, John: yes"), Some("Smith, John"));
        assert_eq!(name("田中：はい"), Some("田中"));
        assert_eq!(name("**Anna:** hello"), Some("Anna"));
        assert_eq!(name("**Anna**: hello"), Some("Anna"));
        assert_eq!(split_label("Anna:  hello").unwrap().words_at, 7);
        for line in [
            "12:30 we met",
            "http://example.org",
            "Note: beware",
            "Date: today",
            "- a: b",
            "# x: y",
            "he said “x”: no",
            "This is a rather long sentence that ends: here",
            "no colon",
            ": x",
            "ratio 3:4",
            "",
        ] {
            assert_eq!(name(line), None, "{line}");
        }
    }

    #[test]
    fn header_fields_are_known_in_several_languages() {
        assert_eq!(header_line("Datum: 13. März 2026"), Some(("date", "13. März 2026")));
        assert_eq!(header_line("**Attendees:** Anna, Ben").map(|h| h.0), Some("attendees"));
        assert_eq!(header_line("Anna: hello"), None);
        assert_eq!(header_line("Date:"), None);
    }

    #[test]
    fn capitals_make_names_and_particles_are_forgiven() {
        assert!(is_capitalized("Ludwig van Beethoven"));
        assert!(is_capitalized("PhD A"));
        assert!(is_capitalized("田中"));
        assert!(!is_capitalized("Two options"));
    }
}
