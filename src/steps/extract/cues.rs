//! Cue words: which sentences of a transcript may hold a task, a decision or an open question, and what the words
//! themselves already settle. The lists are in `templates/cues/`: English and German together, a file for each other.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::meant::{OPEN, asks_itself, question_before, sentence_instead, sentence_meant};
use super::phrases::{Phrase, any, core_start};
use crate::corpus::document::Document;
use crate::steps::ask::language_of;
use crate::steps::prompt::date_phrases;
use crate::steps::text::{content, sentences, squeeze, without_fillers, words};

/// "I'll read it" names a kind of work and nothing to do it to; so many words with content do.
pub const LEAST_CONTENT: usize = 3;
/// A sentence with fewer words of content, such as "That's decided.", speaks of another one.
pub const STANDS_ALONE: usize = 2;
/// Turns after a question or an offer in which an answer to it counts.
const REPLY_TURNS: usize = 2;
/// Turns within which "I'll have it by then" belongs to the task before it.
const JOIN_TURNS: usize = 3;

/// What is looked for.
pub enum Topic {
    Tasks,
    Decisions,
    Questions,
    /// An author's own words.
    Phrases(Box<Cues>),
}

/// A sentence that may hold an item, and what its words settle.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub turn: usize,          // index into `Document::turns`
    pub evidence: Vec<usize>, // turns, ascending, `turn` among them
    pub said: String,         // the sentence, word for word
    /// What is left of it without the cue: "have the report ready by Friday".
    pub core: String,
    pub when: Option<String>, // the day or time it names, as said
    /// Who may be meant: the speaker of "I'll", the one asked in "could you". Empty where the words do not say.
    pub people: Vec<String>,
    /// Whether it takes back something settled before.
    pub reverses: bool,
}

/// The candidates of a document, and how many were left out because they were turned down.
#[derive(Debug, Default)]
pub struct Found {
    pub candidates: Vec<Candidate>,
    pub declined: Vec<usize>, // turns of what was offered or asked, and refused
}

/// Phrases by what they mean.
#[derive(Clone, Debug, Default)]
pub struct Cues {
    own: Vec<Phrase>,
    /// What one can do: a promise where it names a day, else an offer.
    able: Vec<Phrase>,
    offer: Vec<Phrase>,
    ask: Vec<Phrase>,
    accept: Vec<Phrase>,
    refuse: Vec<Phrase>,
    not: Vec<Phrase>,
    reverse: Vec<Phrase>,
    /// What changes a decision, where the sentence shares words with one.
    revise: Vec<Phrase>,
    /// What leaves a question open unless the speaker then takes it on.
    reply: Vec<Phrase>,
    work: BTreeSet<String>,
}

macro_rules! list {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Cues> =
            LazyLock::new(|| Cues::parse(include_str!(concat!("../../../templates/cues/", $file))));
    };
}
list!(TASKS, "tasks.txt");
list!(DECISIONS, "decisions.txt");
list!(QUESTIONS, "questions.txt");

/// The lists of one language.
#[derive(Default)]
struct Lists {
    tasks: Cues,
    decisions: Cues,
    questions: Cues,
}

macro_rules! languages {
    ($($code:literal => $name:ident),* $(,)?) => {
        $(static $name: LazyLock<Lists> = LazyLock::new(|| {
            Lists::parse(include_str!(concat!("../../../templates/cues/", $code, ".txt")))
        });)*

        /// Returns the lists of a document's language; English and German stand in the ones that have no language.
        fn lists(document: &Document) -> Option<&'static Lists> {
            match language_of(document).as_str() {
                $($code => Some(&$name),)*
                _ => None,
            }
        }

        #[cfg(test)]
        const LANGUAGES: &[&str] = &[$($code),*];
    };
}
languages! {
    "es" => ES, "fr" => FR, "pt" => PT, "it" => IT, "nl" => NL, "cs" => CS, "ja" => JA, "ko" => KO, "zh" => ZH, "ar" => AR,
}

impl Lists {
    fn parse(text: &str) -> Self {
        let mut lists = Self::default();
        let mut section = ("", "");
        for line in lines(text) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').split_once('.').unwrap_or((name, ""));
                continue;
            }
            let cues = match section.0 {
                "tasks" => &mut lists.tasks,
                "decisions" => &mut lists.decisions,
                "questions" => &mut lists.questions,
                other => panic!("there is no list of cues [{other}]"),
            };
            cues.add(section.1, line);
        }
        lists
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

impl Topic {
    pub fn find(&self, document: &Document) -> Found {
        let lists = lists(document);
        match self {
            Self::Tasks => tasks(lists.map_or(&*TASKS, |l| &l.tasks), document),
            Self::Decisions => plain(lists.map_or(&*DECISIONS, |l| &l.decisions), document, None),
            Self::Questions => {
                let taken_on = tasks(lists.map_or(&*TASKS, |l| &l.tasks), document).candidates;
                plain(lists.map_or(&*QUESTIONS, |l| &l.questions), document, Some(&taken_on))
            }
            Self::Phrases(cues) => plain(cues, document, None),
        }
    }
}

impl Cues {
    /// Makes cues of an author's own phrases.
    pub fn of_phrases<'a>(phrases: impl IntoIterator<Item = &'a str>) -> Self {
        Self { own: phrases.into_iter().map(Phrase::parse).collect(), ..Self::default() }
    }

    fn parse(text: &str) -> Self {
        let mut cues = Self::default();
        let mut section = "";
        for line in lines(text) {
            match line.strip_prefix('[') {
                Some(name) => section = name.trim_end_matches(']'),
                None => cues.add(section, line),
            }
        }
        cues
    }

    fn add(&mut self, section: &str, line: &str) {
        let list = match section {
            "own" => &mut self.own,
            "offer" => &mut self.offer,
            "ask" => &mut self.ask,
            "accept" => &mut self.accept,
            "refuse" => &mut self.refuse,
            "not" => &mut self.not,
            "reverse" => &mut self.reverse,
            "revise" => &mut self.revise,
            "reply" => &mut self.reply,
            "able" => &mut self.able,
            "work" => return self.work.extend(line.split_whitespace().map(str::to_owned)),
            other => panic!("a list of cues has no section [{other}]"),
        };
        list.push(Phrase::parse(line));
    }

    /// Whether a sentence has a cue of its own.
    pub fn has_own(&self, spoken: &[String]) -> bool {
        any(&self.own, spoken)
    }

    /// Whether a promise is one to do something: it names a day, or a kind of work and what it is done to. Where the
    /// language has no list of kinds of work, the verb of the promise is one.
    fn is_work(&self, said: &str, core: &str, when: Option<&str>) -> bool {
        let works = self.work.is_empty() || words(said).iter().any(|w| self.work.contains(w));
        when.is_some() || works && content(core).len() >= LEAST_CONTENT
    }
}

/// The sentences of a turn, each with its words.
pub fn sentences_of(document: &Document, turn: usize) -> Vec<(String, Vec<String>)> {
    let text = document.turn_text(&document.turns[turn]);
    sentences(text).into_iter().map(|r| squeeze(&text[r])).map(|s| (words(&s), s)).map(|(w, s)| (s, w)).collect()
}

fn tasks(cues: &Cues, document: &Document) -> Found {
    let mut found = Found::default();
    for turn in 0..document.turns.len() {
        let speaker = document.turns[turn].speaker.clone();
        let sentences = sentences_of(document, turn);
        for (at, (said, spoken)) in sentences.iter().cloned().enumerate() {
            if any(&cues.not, &spoken) {
                continue;
            }
            let own = core_start(&cues.own, &spoken);
            let ask = core_start(&cues.ask, &spoken);
            let able = core_start(&cues.able, &spoken);
            let offer = core_start(&cues.offer, &spoken).or(able);
            let Some(start) = own.or(offer).or(ask) else { continue };
            let core = core_of(&said, start);
            let when = first_when(&said).or_else(|| when_after(cues, &sentences[at + 1..]));
            if !cues.is_work(&said, &core, when.as_deref()) {
                continue;
            }
            // "I can have it by Friday" is a promise, "I can do it in an afternoon" is none.
            let own = own.or(able.filter(|_| when.is_some()));
            let reply = reply(cues, document, turn);
            if reply == Reply::Refused {
                found.declined.push(turn);
                continue;
            }
            // A request or an offer that nobody answered is no task that someone took on.
            if own.is_none() && reply != Reply::Accepted {
                continue;
            }
            let is_request = own.is_none() && offer.is_none();
            let people = if is_request { asked(document, turn, &said) } else { speaker.iter().cloned().collect() };
            let mut evidence = vec![turn];
            if is_request {
                evidence.extend(answering_turn(document, turn));
            }
            let answered = || evidence.get(1).and_then(|&i| short_when(&sentences_of(document, i)));
            let when = when.or_else(answered);
            let candidate = Candidate { turn, evidence, core, when, people, reverses: false, said };
            join_or_push(document, &mut found.candidates, candidate);
        }
    }
    found
}

/// A promise that names nothing ("I'll have it by Friday") belongs to the same person's task just before it.
fn join_or_push(document: &Document, candidates: &mut Vec<Candidate>, candidate: Candidate) {
    let says_what = content(&candidate.core).len() >= 3 || candidate.core.split(' ').count() >= 7;
    let earlier = candidates
        .iter_mut()
        .rev()
        .take_while(|c| candidate.turn - c.turn <= JOIN_TURNS)
        .find(|c| c.people == candidate.people && !c.people.is_empty());
    match earlier {
        Some(earlier) if !says_what && earlier.turn != candidate.turn => {
            earlier.evidence.push(candidate.turn);
            earlier.evidence.dedup();
            if earlier.when.is_none() {
                earlier.when = candidate.when;
            }
        }
        _ => {
            debug_assert!(candidate.turn < document.turns.len());
            candidates.push(candidate);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Accepted,
    Refused,
    None,
}

/// What others said next.
fn reply(cues: &Cues, document: &Document, turn: usize) -> Reply {
    let by = &document.turns[turn].speaker;
    for next in turn + 1..(turn + 1 + REPLY_TURNS).min(document.turns.len()) {
        if &document.turns[next].speaker == by {
            continue;
        }
        for (_, spoken) in sentences_of(document, next).into_iter().take(2) {
            if any(&cues.refuse, &spoken) {
                return Reply::Refused;
            }
            if any(&cues.accept, &spoken) {
                return Reply::Accepted;
            }
        }
    }
    Reply::None
}

fn answering_turn(document: &Document, turn: usize) -> Option<usize> {
    (turn + 1..(turn + 1 + REPLY_TURNS).min(document.turns.len()))
        .find(|&next| document.turns[next].speaker != document.turns[turn].speaker)
}

/// Who is asked: a speaker named in the turn, else whoever answers.
fn asked(document: &Document, turn: usize, said: &str) -> Vec<String> {
    let own = document.turns[turn].speaker.as_deref();
    let named = |text: &str| -> Vec<String> {
        let spoken = words(text);
        let is_named = |s: &&str| Some(*s) != own && words(s).first().is_some_and(|first| spoken.contains(first));
        document.speakers().into_iter().filter(is_named).map(str::to_owned).collect()
    };
    let in_sentence = named(said);
    match in_sentence.len() {
        1 => in_sentence,
        _ => answering_turn(document, turn).and_then(|i| document.turns[i].speaker.clone()).into_iter().collect(),
    }
}

/// Sentences with a cue, for what needs no answer. With `taken_on`, the tasks of the document, they say that a question
/// is open.
fn plain(cues: &Cues, document: &Document, taken_on: Option<&[Candidate]>) -> Found {
    let asks = taken_on.is_some();
    let mut found = Found::default();
    for turn in 0..document.turns.len() {
        let speaker = document.turns[turn].speaker.clone();
        let sentences = sentences_of(document, turn);
        for (at, (said, spoken)) in sentences.iter().enumerate() {
            let revises =
                any(&cues.revise, spoken) && !said.ends_with('?') && revises_one(&found.candidates, turn, said);
            let is_reply = any(&cues.reply, spoken);
            if any(&cues.not, spoken) || !(any(&cues.own, spoken) || revises || is_reply) {
                continue;
            }
            if is_reply && taken_on.is_some_and(|tasks| takes_it_on(tasks, turn, speaker.as_deref())) {
                continue;
            }
            let (mut evidence, mut quoted) = (vec![turn], said.clone());
            let reverses = any(&cues.reverse, spoken);
            if asks {
                let itself = asks_itself(spoken, said);
                match question_before(document, turn, said, is_reply).filter(|_| !itself) {
                    Some((asked_in, question)) => {
                        evidence.insert(0, asked_in);
                        quoted = question;
                    }
                    None if is_reply && !itself => continue, // nothing was asked
                    None => {}
                }
            } else if reverses {
                if let Some(instead) = sentence_instead(cues, &sentences[at + 1..]) {
                    quoted = instead;
                }
            } else if content(said).len() < STANDS_ALONE {
                // "That's decided." says nothing by itself: what was decided stands before it.
                if let Some((before_in, before)) = sentence_meant(document, turn, &sentences, at) {
                    evidence.insert(0, before_in);
                    quoted = before;
                }
            }
            evidence.dedup();
            if content(&quoted).len() < STANDS_ALONE && !asks {
                continue; // what it speaks of was not found
            }
            let candidate = Candidate {
                turn,
                evidence,
                core: without_fillers(&quoted),
                when: first_when(&quoted),
                people: speaker.iter().cloned().collect(),
                reverses: reverses || revises,
                said: quoted,
            };
            match earlier_of(&mut found.candidates, &candidate, asks) {
                Some(earlier) => {
                    earlier.reverses |= candidate.reverses && !asks;
                    earlier.evidence.extend(candidate.evidence);
                    earlier.evidence.sort_unstable();
                    earlier.evidence.dedup();
                }
                None => found.candidates.push(candidate),
            }
        }
    }
    found
}

/// Whether a sentence that changes something speaks of what was decided in an earlier turn.
fn revises_one(decided: &[Candidate], turn: usize, said: &str) -> bool {
    const SHARED: usize = 2; // words
    let about = content(said);
    decided.iter().any(|d| d.turn < turn && about.intersection(&content(&d.said)).count() >= SHARED)
}

/// Whether the speaker of "I don't know" then promises to find out.
fn takes_it_on(tasks: &[Candidate], turn: usize, speaker: Option<&str>) -> bool {
    let soon = turn..=turn + JOIN_TURNS;
    tasks.iter().any(|t| soon.contains(&t.turn) && t.people.iter().any(|p| Some(p.as_str()) == speaker))
}

/// The candidate that already says what this one does.
fn earlier_of<'a>(found: &'a mut [Candidate], new: &Candidate, asks: bool) -> Option<&'a mut Candidate> {
    let is_same = |old: &Candidate| {
        if asks {
            // The same matter, left open in several ways, one after the other.
            let is_near = new.turn - old.turn <= JOIN_TURNS + 1;
            let shares = content(&new.said).intersection(&content(&old.said)).any(|w| !content(OPEN).contains(w));
            let says_little = !new.said.ends_with('?') && content(&new.said).len() <= LEAST_CONTENT;
            return old.turn == new.turn || is_near && (shares || says_little);
        }
        // Two cues in one turn speak of one thing, unless both sentences stand on their own.
        let again = old.turn == new.turn && (old.said == new.said || old.reverses && new.reverses);
        again || confirms(old, new)
    };
    found.iter_mut().rev().find(|old| is_same(old))
}

/// Whether a sentence names the day of a decision and nothing else: "The date stays, the thirty-first of March."
fn confirms(old: &Candidate, new: &Candidate) -> bool {
    let Some(when) = &new.when else { return false };
    let is_bare = content(&new.said.replacen(when.as_str(), "", 1)).len() <= STANDS_ALONE;
    is_bare && !new.reverses && old.when.as_ref().is_some_and(|w| w.eq_ignore_ascii_case(when))
}

/// The day in the short sentence right after a promise: "I'll call Minh. By Tuesday."
fn when_after(cues: &Cues, after: &[(String, Vec<String>)]) -> Option<String> {
    const LEADS: &[&str] = &["by", "until", "before", "on", "that", "it", "bis", "das", "spätestens"];
    let (said, spoken) = after.first()?;
    let belongs = spoken.len() <= 5 || spoken.first().is_some_and(|w| LEADS.contains(&w.as_str()));
    if belongs && !any(&cues.own, spoken) { first_when(said) } else { None }
}

/// The day in a short sentence of an answer: "With the appendix, yes. By Tuesday."
fn short_when(sentences: &[(String, Vec<String>)]) -> Option<String> {
    sentences.iter().take(3).filter(|(_, spoken)| spoken.len() <= 8).find_map(|(said, _)| first_when(said))
}

fn first_when(said: &str) -> Option<String> {
    date_phrases(said).into_iter().next().map(|r| squeeze(&said[r]))
}

/// What a sentence says is to be done: its words from `start` on, without the reasons that follow; the whole sentence
/// where too little would be left.
fn core_of(said: &str, start: usize) -> String {
    const REASONS: &[&str] = &[
        ", so that ",
        ", because ",
        ", since ",
        ", then ",
        ", if ",
        ", otherwise ",
        ", and you'll ",
        ", same as ",
        ", weil ",
        ", damit ",
        ", sonst ",
    ];
    let rest = after_words(said, start);
    let end = REASONS.iter().filter_map(|r| rest.find(r)).min().unwrap_or(rest.len());
    let told = if rest[..end].split_whitespace().count() >= 3 { &rest[..end] } else { rest };
    let core = if content(told).is_empty() { said } else { told };
    without_fillers(core.trim_end_matches(['.', '?', '!', ',']))
}

/// What is left of a text after its first words.
fn after_words(said: &str, count: usize) -> &str {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    let mut rest = said;
    for _ in 0..count {
        rest = rest.trim_start_matches(|c| !is_word(c)).trim_start_matches(is_word);
    }
    rest.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '-'))
}

#[cfg(test)]
#[path = "cues_tests.rs"]
mod tests;
