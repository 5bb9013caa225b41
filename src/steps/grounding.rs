//! Holds a model's sentences against the text they are about: what it does not carry is not written, and every
//! sentence that is kept names turns that exist.
//!
//! The score of a sentence against a turn is the share of the sentence's content words, weighted by how rare each is
//! in the document, that the turn holds (its speaker's name counts as a word of it). 1 says that the turn holds all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::prompt::date_phrases;
use super::text::{content, is_stopword, sentences, similarity, squeeze, words};
use crate::corpus::document::Document;

/// A sentence with less of its weight in the text it is about was not read there.
/// Seen on the starter: made-up sentences mostly score below 0.45, fair ones above 0.6.
const LEAST_CARRIED: f64 = 0.7;
/// A turn that holds less than this of a sentence is no evidence for it.
const LEAST_CITED: f64 = 0.2;
/// A further turn is cited when it adds at least this share.
const LEAST_ADDED: f64 = 0.15;
const MOST_CITED: usize = 3;
/// Sentences that share more of their words say the same.
pub const SAME: f64 = 0.6;

/// Why a sentence was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// About the task and not about the text: "Here is a summary".
    MetaTalk,
    /// Speech taken over as it was said: "I will call them", "Anna: Yes.".
    FirstPerson,
    /// In quotation marks, and nobody said it.
    Misquoted,
    /// A name or a number that the text does not hold.
    UnknownName,
    /// Too few of its words are in the text.
    NotCarried,
    /// "They also" says nothing without the sentence before it.
    SaysLittle,
    Repeated,
    CutOff,
}

impl Dropped {
    /// The reason in words, after a count: "3 sentences ...".
    pub fn describe(self) -> &'static str {
        match self {
            Self::MetaTalk => "about the task itself",
            Self::FirstPerson => "repeating speech as it was said",
            Self::Misquoted => "quoting what nobody said",
            Self::UnknownName => "naming a person or a number that the text does not hold",
            Self::NotCarried => "not carried by the text",
            Self::SaysLittle => "saying too little by themselves",
            Self::Repeated => "repeating another",
            Self::CutOff => "cut off at the token limit",
        }
    }
}

/// A sentence that is kept, with the turns that hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounded {
    pub text: String,
    pub turns: Vec<usize>, // indices into `Document::turns`, ascending
    pub score: f64,        // 0 to 1: how much of it those turns hold
}

/// A document's words, counted once for many sentences.
pub struct Ground {
    turns: Vec<BTreeSet<String>>,    // content words of each turn, its speaker's name among them
    speakers: BTreeSet<String>,      // content words of their names
    in_turns: BTreeMap<String, f64>, // how many turns hold a word
    weight: BTreeMap<String, f64>,
    all_words: BTreeSet<String>,
    running: String, // the text's words, each between spaces
    nouns_are_capitalized: bool,
    first_person: &'static [&'static str], // of the document's language, beside English and German
    /// The sentences are in another language than the document: its words cannot hold them, names and numbers can.
    across_languages: bool,
}

impl Ground {
    /// The same for sentences in another language than the document's. Of those only names, numbers and quotations are
    /// held against it, and they cite the turns that share some.
    pub fn across_languages(self) -> Self {
        Self { across_languages: true, nouns_are_capitalized: true, ..self }
    }

    /// `language` is the document's: German writes every noun as English writes names.
    pub fn new(document: &Document, language: &str) -> Self {
        let turns: Vec<BTreeSet<String>> = document
            .turns
            .iter()
            .map(|t| {
                let mut words = content(document.turn_text(t));
                words.extend(t.speaker.as_deref().map(content).unwrap_or_default());
                words
            })
            .collect();
        let mut in_turns: BTreeMap<String, f64> = BTreeMap::new();
        for word in turns.iter().flatten() {
            *in_turns.entry(word.clone()).or_default() += 1.0;
        }
        let num_turns = turns.len().max(1) as f64;
        let weight = in_turns.iter().map(|(word, n)| (word.clone(), (1.0 + num_turns / n).ln())).collect();
        let names = document
            .turns
            .iter()
            .filter_map(|t| t.speaker.as_deref())
            .chain(document.meta.values().map(String::as_str));
        let mut all_words: BTreeSet<String> = names.flat_map(words).collect();
        all_words.extend(words(&document.text));
        let speakers = document.speakers().into_iter().flat_map(content).collect();
        let running = format!(" {} ", words(&document.text).join(" "));
        Self {
            turns,
            running,
            speakers,
            in_turns,
            weight,
            all_words,
            nouns_are_capitalized: language == "de",
            first_person: super::text::first_person(language),
            across_languages: false,
        }
    }

    /// Returns how much a sentence of the document says about what the document is about: its words that come back
    /// in other turns, more for numbers and days, less for what someone says of himself.
    pub fn telling(&self, sentence: &str) -> f64 {
        let own = content(sentence);
        let topical = |w: &String| match self.in_turns.get(w) {
            Some(n) if *n >= 2.0 && !self.speakers.contains(w) => n.ln_1p(),
            _ => 0.3,
        };
        let facts =
            own.iter().any(|w| w.starts_with(|c: char| c.is_ascii_digit())) || !date_phrases(sentence).is_empty();
        let length = words(sentence).len().max(1) as f64;
        let score = own.iter().map(topical).sum::<f64>() / length.sqrt() + if facts { 0.5 } else { 0.0 };
        if is_first_person(sentence) { score * 0.7 } else { score }
    }

    /// Returns the words that the most turns have in common, the commonest first: what it all was about, as far as
    /// words can say. Names of speakers, numbers and days are no topics.
    pub fn topics(&self, document: &Document, count: usize) -> Vec<String> {
        const LEAST_TURNS: f64 = 3.0;
        let weigh = |stem: &String| self.in_turns.get(stem).copied().filter(|n| *n >= LEAST_TURNS).unwrap_or(0.0);
        self.named(document, 0..document.turns.len(), &weigh, count)
    }

    /// Returns the words of some turns that weigh most, the heaviest first, each in its commonest form.
    pub fn named(
        &self,
        document: &Document,
        turns: Range<usize>,
        weigh: &dyn Fn(&String) -> f64,
        count: usize,
    ) -> Vec<String> {
        let mut forms: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
        for turn in &document.turns[turns] {
            let text = document.turn_text(turn);
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.chars().count() > 3) {
                if let Some(stem) = content(word).into_iter().next() {
                    *forms.entry(stem).or_default().entry(word).or_default() += 1;
                }
            }
        }
        let is_topic = |stem: &String, form: &str| {
            !is_common(form)
                && !self.speakers.contains(stem)
                && date_phrases(&format!("the {form}")).is_empty()
                && !form.starts_with(|c: char| c.is_ascii_digit())
        };
        let mut ranked: Vec<(f64, String)> = forms
            .into_iter()
            .filter_map(|(stem, forms)| {
                let weight = Some(weigh(&stem)).filter(|w| *w > 0.0)?;
                // The commonest form, the first of equals; small letters unless it is a name throughout.
                let form = forms.iter().fold(("", 0), |best, (f, n)| if *n > best.1 { (f, *n) } else { best }).0;
                // A name or a noun says more than a verb that everyone uses.
                let is_name = forms.keys().all(|f| f.starts_with(char::is_uppercase));
                is_topic(&stem, form).then(|| (weight * if is_name { 2.0 } else { 1.0 }, form.to_owned()))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        ranked.into_iter().take(count).map(|(_, form)| form).collect()
    }

    /// Sorts an answer about some turns into sentences that are kept and reasons for those that are not.
    /// `instruction` is what the model was told, so that an echo of it is known; `cut` says that the answer ran into
    /// its token limit. For a document without turns, `source` is the text it is about.
    pub fn sift(
        &self,
        answer: &str,
        about: &[usize],
        source: &str,
        instruction: &str,
        cut: bool,
    ) -> (Vec<Grounded>, Vec<Dropped>) {
        let (mut kept, mut dropped) = (Vec::<Grounded>::new(), Vec::new());
        let ranges = sentences(answer);
        let count = ranges.len();
        for (i, range) in ranges.into_iter().enumerate() {
            let is_finished = super::text::is_finished(&answer[range.clone()]);
            let sentence = tidy(&answer[range]);
            if sentence.is_empty() {
                continue;
            }
            let unfinished = cut && i + 1 == count && !is_finished;
            let repeats = || kept.iter().any(|k| similarity(&k.text, &sentence) >= SAME);
            let verdict = if unfinished {
                Err(Dropped::CutOff)
            } else if repeats() {
                Err(Dropped::Repeated)
            } else {
                self.hold(&sentence, about, source, instruction)
            };
            match verdict {
                Ok(grounded) => kept.push(grounded),
                Err(reason) => dropped.push(reason),
            }
        }
        (kept, dropped)
    }

    /// Holds one sentence against the turns it is about.
    pub fn hold(&self, sentence: &str, about: &[usize], source: &str, instruction: &str) -> Result<Grounded, Dropped> {
        if is_meta_talk(sentence) || echoes(sentence, instruction) {
            return Err(Dropped::MetaTalk);
        }
        let in_own_language = words(sentence).iter().any(|w| self.first_person.contains(&w.as_str()));
        if is_first_person(sentence) || in_own_language || self.is_speech(sentence) {
            return Err(Dropped::FirstPerson);
        }
        if !self.quotes_are_true(sentence) {
            return Err(Dropped::Misquoted);
        }
        if goes_round(sentence, 2) {
            return Err(Dropped::Repeated);
        }
        if self.names_something_unknown(sentence) {
            return Err(Dropped::UnknownName);
        }
        if self.across_languages {
            let (turns, score) = self.cite(sentence, about);
            let turns = if turns.is_empty() { about.first().copied().into_iter().collect() } else { turns };
            return Ok(Grounded { text: sentence.to_owned(), turns, score });
        }
        if self.turns.is_empty() {
            let score = super::text::carried_by(sentence, &content(source));
            return if score >= LEAST_CARRIED {
                Ok(Grounded { text: sentence.to_owned(), turns: Vec::new(), score })
            } else {
                Err(Dropped::NotCarried)
            };
        }
        let held = about.iter().flat_map(|&i| &self.turns[i]).cloned().collect();
        let sentence = self.carried_clauses(sentence, &held);
        let (turns, score) = self.cite(&sentence, about);
        if self.carried(&sentence, &held) < LEAST_CARRIED || turns.is_empty() {
            return Err(Dropped::NotCarried);
        }
        Ok(Grounded { text: sentence, turns, score })
    }

    /// Returns the turns among `about` that hold a sentence best, in order, and how much of it they hold together.
    pub fn cite(&self, sentence: &str, about: &[usize]) -> (Vec<usize>, f64) {
        let mut cited: Vec<usize> = Vec::new();
        let mut held: BTreeSet<String> = BTreeSet::new();
        let mut score = 0.0;
        while cited.len() < MOST_CITED {
            let candidates = about.iter().filter(|i| !cited.contains(i));
            let with = |i: usize| self.share(sentence, &held.union(&self.turns[i]).cloned().collect());
            // The first of equals, so that the same text always cites the same turns.
            let best = candidates.map(|&i| (i, with(i))).fold(None, |best: Option<(usize, f64)>, (i, s)| match best {
                Some((_, most)) if most >= s => best,
                _ => Some((i, s)),
            });
            let Some((turn, total)) = best else { break };
            let least = if cited.is_empty() { LEAST_CITED } else { LEAST_ADDED };
            if total - score < least {
                break;
            }
            held.extend(self.turns[turn].iter().cloned());
            cited.push(turn);
            score = total;
        }
        cited.sort_unstable();
        (cited, score)
    }

    /// Cuts a sentence before its first clause that is not carried: small models begin well and go on too long.
    fn carried_clauses(&self, sentence: &str, held: &BTreeSet<String>) -> String {
        let mut clauses = sentence.split_inclusive(", ");
        let mut kept = clauses.next().unwrap_or_default().to_owned();
        for clause in clauses {
            if !content(clause).is_empty() && self.carried(clause, held) < LEAST_CARRIED {
                return format!("{}.", kept.trim_end_matches([',', ' ']));
            }
            kept.push_str(clause);
        }
        kept
    }

    /// The share that counts for keeping a sentence: without the speakers' names, which any sentence about them has.
    fn carried(&self, sentence: &str, held: &BTreeSet<String>) -> f64 {
        let unnamed: Vec<&str> =
            sentence.split_whitespace().filter(|w| content(w).is_disjoint(&self.speakers)).collect();
        let unnamed = unnamed.join(" ");
        if content(&unnamed).is_empty() { 0.0 } else { self.share(&unnamed, held) }
    }

    /// The weighted share of a sentence's content words that `held` has; a word new to the document weighs as the rarest.
    fn share(&self, sentence: &str, held: &BTreeSet<String>) -> f64 {
        let rarest = (1.0 + self.turns.len().max(1) as f64).ln();
        let weigh = |w: &String| self.weight.get(w).copied().unwrap_or(rarest);
        let wanted = content(sentence);
        let all: f64 = wanted.iter().map(weigh).sum();
        if all == 0.0 { 0.0 } else { wanted.intersection(held).map(weigh).sum::<f64>() / all }
    }

    /// Whether a sentence begins with a speaker's label, or is one of the document's own, word for word.
    fn is_speech(&self, sentence: &str) -> bool {
        let label = sentence.split_once(':').map(|(label, _)| content(label));
        let labeled = label.is_some_and(|l| !l.is_empty() && l.is_subset(&self.speakers));
        let said = words(sentence);
        labeled || !self.turns.is_empty() && said.len() >= 4 && self.running.contains(&format!(" {} ", said.join(" ")))
    }

    /// Whether all that stands in quotation marks was said. Single words are emphasis.
    fn quotes_are_true(&self, sentence: &str) -> bool {
        let quoted = sentence.split(['"', '“', '”', '„']).skip(1).step_by(2).map(words);
        quoted.filter(|q| q.len() > 1).all(|q| self.running.contains(&format!(" {} ", q.join(" "))))
    }

    /// Whether a sentence has a name or a number that the document does not have anywhere.
    fn names_something_unknown(&self, sentence: &str) -> bool {
        let mut first = true;
        let mut before_was_unknown = false;
        for word in sentence.split_whitespace() {
            let starts_sentence = std::mem::replace(&mut first, false);
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            let known = words(bare).iter().all(|w| {
                self.all_words.contains(w) || w.strip_suffix("'s").is_some_and(|w| self.all_words.contains(w))
            });
            let is_number = bare.chars().any(|c| c.is_ascii_digit());
            let is_capitalized = bare.chars().next().is_some_and(char::is_uppercase);
            if !known && is_number {
                return true;
            }
            let unknown_name = !known && is_capitalized && !is_stopword(&bare.to_lowercase());
            // Where every noun has a capital, only two unknown ones in a row look like a name.
            let counts = if self.nouns_are_capitalized { before_was_unknown } else { !starts_sentence };
            if unknown_name && counts {
                return true;
            }
            before_was_unknown = unknown_name;
        }
        false
    }
}

/// Takes list marks, labels such as "Summary:" and stray quotes off a sentence, and gives it its end.
fn tidy(sentence: &str) -> String {
    let text = squeeze(sentence);
    let text = text.trim_start_matches(['-', '*', '•', '#', '>', ' ']);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let text = match text[digits..].strip_prefix(['.', ')']) {
        Some(rest) if digits > 0 && rest.starts_with(' ') => rest.trim_start(),
        _ => text,
    };
    let text = text.replace("**", "");
    let unlabeled =
        ["Summary:", "Note:", "Answer:", "Notes:", "Zusammenfassung:"].iter().find_map(|l| text.strip_prefix(l));
    let text = unlabeled.unwrap_or(&text).trim();
    let quotes = |c: char| matches!(c, '"' | '“' | '”');
    let text = if text.matches(quotes).count() == 1 { text.replace(quotes, "") } else { text.to_owned() };
    if !text.chars().any(char::is_alphanumeric) || text.ends_with(':') {
        return String::new();
    }
    if super::text::is_finished(&text) { text } else { format!("{}.", text.trim_end_matches([',', ';', '-'])) }
}

/// Words that come back in any meeting.
fn is_common(word: &str) -> bool {
    static WORDS: &str = include_str!("../../templates/words/common.txt");
    let lower = word.to_lowercase();
    WORDS.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).any(|w| w == lower)
}

/// Talk about the task: the word list is kept with the other words.
fn is_meta_talk(sentence: &str) -> bool {
    static PHRASES: &str = include_str!("../../templates/words/meta-talk.txt");
    let lower = sentence.to_lowercase();
    PHRASES.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).any(|phrase| match phrase.strip_prefix('^') {
        Some(opening) => lower.starts_with(opening),
        None => lower.contains(phrase),
    })
}

pub fn is_first_person(sentence: &str) -> bool {
    let outside_quotes: String = sentence.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    words(&outside_quotes).iter().any(|w| {
        matches!(
            w.as_str(),
            "i" | "i'm" | "i'll" | "i've" | "i'd" | "my" | "me" | "ich" | "mich" | "mir" | "mein" | "meine"
        )
    })
}

/// Whether a sentence goes round in circles: the same three words in a row come so many times.
pub fn goes_round(sentence: &str, times: usize) -> bool {
    const RUN: usize = 3;
    let words = words(sentence);
    let mut seen: HashMap<&[String], usize> = HashMap::new();
    words.windows(RUN).any(|run| {
        let count = seen.entry(run).or_default();
        *count += 1;
        *count >= times
    })
}

/// Whether five words in a row were taken over from the instruction.
fn echoes(sentence: &str, instruction: &str) -> bool {
    const RUN: usize = 5;
    let told = words(instruction);
    words(sentence).windows(RUN).any(|run| told.windows(RUN).any(|t| t == run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::meeting;

    const INSTRUCTION: &str = "Write one or two sentences that say what was discussed above.";

    fn check(sentence: &str, expected: Result<&[usize], Dropped>) {
        let document = meeting(&[
            ("Nadia", "The old tracking page goes off on the thirty-first of March."),
            ("Beth", "The pharmacy customer still uses it, forty or 50 hits a day."),
            ("Nadia", "Then I'll call the pharmacy people myself before Wednesday."),
        ]);
        let ground = Ground::new(&document, "en");
        let held = ground.hold(sentence, &[0, 1, 2], "", INSTRUCTION);
        assert_eq!(held.as_ref().map(|g| g.turns.as_slice()).map_err(|d| *d), expected, "{sentence}");
    }

    #[test]
    fn a_sentence_cites_the_turns_that_hold_it() {
        check("The old tracking page goes off in March.", Ok(&[0]));
        check("Nadia will call the pharmacy before Wednesday.", Ok(&[2]));
        check("The tracking page goes off, and the pharmacy has 50 hits a day.", Ok(&[0, 1]));
    }

    #[test]
    fn what_was_not_said_is_not_kept() {
        check("Nadia met Priyanka about the tracking page.", Err(Dropped::UnknownName));
        check("The tracking page has 70 hits a day.", Err(Dropped::UnknownName));
        check("The team celebrated a successful quarter with champagne.", Err(Dropped::NotCarried));
        check("Here is a summary of the tracking page.", Err(Dropped::MetaTalk));
        check("These sentences say what was discussed above, the tracking page.", Err(Dropped::MetaTalk));
        check("I'll call the pharmacy people myself.", Err(Dropped::FirstPerson));
        check("Beth: The pharmacy customer uses it.", Err(Dropped::FirstPerson));
        check("The pharmacy customer still uses it.", Err(Dropped::FirstPerson));
        check("Nadia said the tracking page is \"a true delight\".", Err(Dropped::Misquoted));
        check("The tracking page and the tracking page and the pharmacy.", Err(Dropped::Repeated));
    }

    #[test]
    fn an_answer_is_sifted_sentence_by_sentence() {
        let document = meeting(&[("Beth", "The load test held at three times a normal Friday.")]);
        let ground = Ground::new(&document, "en");
        let answer =
            "Here is the summary:\n- Beth said the load test held.\n- The load test held, Beth said.\n- The load te";
        let (kept, dropped) = ground.sift(answer, &[0], "", "", true);
        assert_eq!(kept.iter().map(|k| k.text.as_str()).collect::<Vec<_>>(), ["Beth said the load test held."]);
        assert_eq!(dropped, [Dropped::Repeated, Dropped::CutOff]);
    }

    #[test]
    fn german_nouns_are_no_names() {
        let document = meeting(&[("Jürgen", "Die Umstellung dauert vom zehnten bis zum neunzehnten April.")]);
        let ground = Ground::new(&document, "de");
        assert!(ground.hold("Die Umstellung im April dauert laut Jürgen.", &[0], "", "").is_ok());
        let unknown = ground.hold("Die Umstellung leitet im April Horst Krause.", &[0], "", "");
        assert_eq!(unknown, Err(Dropped::UnknownName));
    }
}
