//! Who the speakers of a transcript are: labels become the names that a roster gives them. A label that the roster does
//! not know is kept, taken away or refused; no name is ever invented.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ReadReason, Refusal};
use crate::corpus::document::Document;

/// The most people that a roster may hold.
pub const PEOPLE_MAX: usize = 100_000;

/// The `speakers` mapping of `read`, the roster read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speakers {
    pub roster: Vec<Person>,
    pub unknown: Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub aliases: Vec<String>,
}

/// What becomes of a label that the roster does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    #[default]
    KeepLabel,
    Drop,
    Error,
}

/// Reads a roster: CSV with a header, a column `name` and perhaps one `alias`. The error is one line.
pub fn roster_of(text: &str) -> Result<Vec<Person>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let column = |wanted: &str| headers.iter().position(|h| h.eq_ignore_ascii_case(wanted));
    let Some(name) = column("name") else {
        let found = headers.iter().collect::<Vec<_>>().join(", ");
        return Err(format!("it has no column `name`, only {found}"));
    };
    let alias = column("alias").or_else(|| column("aliases"));
    let mut people: Vec<Person> = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for (index, row) in reader.records().enumerate() {
        let line = index + 2;
        let row = row.map_err(|e| format!("line {line}: {e}"))?;
        let called = row.get(name).unwrap_or_default();
        if called.is_empty() {
            return Err(format!("line {line} has no name"));
        }
        let written = alias.and_then(|at| row.get(at)).unwrap_or_default();
        let aliases: Vec<String> =
            written.split(';').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
        for label in aliases.iter().map(String::as_str).chain([called]) {
            let owner = owners.entry(folded(label)).or_insert_with(|| called.to_owned());
            if owner != called {
                return Err(format!("line {line}: `{label}` is {called}, and was {owner} before"));
            }
        }
        people.push(Person { name: called.to_owned(), aliases });
        if people.len() > PEOPLE_MAX {
            return Err(format!("it has more than {PEOPLE_MAX} rows"));
        }
    }
    Ok(people)
}

/// Gives the turns of a document the names of the roster. The words of the document stay as they are.
pub(super) fn name_speakers(document: &mut Document, speakers: &Speakers) -> Result<(), Refusal> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for person in &speakers.roster {
        for label in person.aliases.iter().chain([&person.name]) {
            names.insert(folded(label), &person.name);
        }
    }
    let mut strangers: Vec<String> = Vec::new();
    for turn in &mut document.turns {
        let Some(label) = &mut turn.speaker else { continue };
        match names.get(&folded(label)) {
            Some(name) => *label = (*name).to_owned(),
            None => {
                if !strangers.contains(label) {
                    strangers.push(label.clone());
                }
                if speakers.unknown == Unknown::Drop {
                    turn.speaker = None;
                }
            }
        }
    }
    if strangers.is_empty() {
        return Ok(());
    }
    let named = strangers.join(", ");
    match speakers.unknown {
        Unknown::Error => {
            return Err((ReadReason::Unreadable, format!("has speakers that the roster does not know: {named}")));
        }
        Unknown::Drop => {
            document.warnings.push(format!("speakers that the roster does not know, left unnamed: {named}"))
        }
        Unknown::KeepLabel => {
            document
                .warnings
                .push(format!("speakers that the roster does not know, kept as they are written: {named}"));
        }
    }
    Ok(())
}

/// What two ways to write a label have in common: case and white space.
fn folded(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::corpus::reader::{ReadAs, ReadOptions, read_bytes};

    const CALL: &[u8] = b"ANNA: Hello.\nBB: Yes.\nSpeaker 3: No.\nANNA: Bye.\n";

    fn read(roster: &str, unknown: Unknown) -> Result<Document, String> {
        let roster = roster_of(roster).unwrap();
        let options =
            ReadOptions { as_: ReadAs::Transcript, speakers: Some(Speakers { roster, unknown }), ..Default::default() };
        read_bytes(CALL, Path::new("call.txt"), &options).map_err(|e| e.to_string())
    }

    #[test]
    fn labels_become_the_names_of_the_roster_and_a_stranger_is_said() {
        let roster = "name,alias,team\nAnna Berg,Anna,ops\nBo Brandt,BB; Bo,shop\n";
        let document = read(roster, Unknown::KeepLabel).unwrap();
        assert_eq!(document.speakers(), ["Anna Berg", "Bo Brandt", "Speaker 3"]);
        assert!(document.text.contains("ANNA"), "the text is that of the file");
        assert!(document.warnings.iter().any(|w| w.contains("Speaker 3")), "{:?}", document.warnings);
        let document = read(roster, Unknown::Drop).unwrap();
        assert_eq!((document.speakers(), &document.turns[2].speaker), (vec!["Anna Berg", "Bo Brandt"], &None));
        assert!(read(roster, Unknown::Error).unwrap_err().contains("Speaker 3"));
    }

    #[test]
    fn a_roster_says_what_is_wrong_with_it() {
        let fault = |text: &str| roster_of(text).unwrap_err();
        assert_eq!(fault("who,alias\na,b\n"), "it has no column `name`, only who, alias");
        assert_eq!(fault("name,alias\n,b\n"), "line 2 has no name");
        assert_eq!(fault("name,alias\nAnna,A\nAda, a\n"), "line 3: `a` is Ada, and was Anna before");
        assert_eq!(roster_of("Name\nAnna\n").unwrap()[0].name, "Anna");
    }
}
