use std::time::{Duration, Instant};

use super::*;
use crate::corpus::document::{Format, Heading, Page, Turn};

/// A stand-in for a byte-level tokenizer: runs of up to four ASCII letters, and every other byte by itself. As with a
/// real one, a token may end inside a character, and two texts side by side may make fewer tokens than apart.
struct Bytes;

impl TokenCounter for Bytes {
    fn token_ends(&self, text: &str) -> Vec<usize> {
        let bytes = text.as_bytes();
        let mut ends = Vec::new();
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            run += 1;
            let next_is_letter = bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
            if run == 4 || !byte.is_ascii_alphabetic() || !next_is_letter {
                ends.push(at + 1);
                run = 0;
            }
        }
        ends
    }
}

/// xorshift64, so that a failing case can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn words(&mut self, num_words: usize) -> String {
        const WORDS: &[&str] = &[
            "a",
            "plan",
            "budget.",
            "Yes!",
            "naïve",
            "会議は三時です。",
            "👩‍👩‍👧‍👦",
            "z̸̢̛͙͓̤",
            "supercalifragilistic",
            "ok?",
            "\u{202e}bidi",
            "3.5",
            "مرحبا",
            "So,",
        ];
        const SPACES: &[&str] = &[" ", " ", " ", "\n", "\n\n", "  ", "\r\n"];
        (0..num_words).map(|_| [WORDS[self.below(WORDS.len())], SPACES[self.below(SPACES.len())]].concat()).collect()
    }
}

fn transcript(turns: &[(Option<&str>, String)]) -> Document {
    let mut document = Document::of(Format::Vtt, String::new());
    for (index, (speaker, words)) in turns.iter().enumerate() {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if index > 0 {
            document.text.push('\n');
        }
        if let Some(name) = speaker {
            document.text.push_str(&format!("{name}: "));
        }
        let from = document.text.len();
        document.text.push_str(if words.is_empty() { "mhm" } else { &words });
        document.turns.push(Turn {
            id: TurnId(index as u32 + 1),
            speaker: speaker.map(str::to_owned),
            start_ms: None,
            end_ms: None,
            range: from..document.text.len(),
            source: 0..0,
        });
    }
    document
}

/// The promises of the room, for one document.
fn check(document: &Document, options: &ChunkOptions) -> Vec<Chunk> {
    let chunks = chunk(document, options, &Bytes);
    let text = &document.text;
    let mut covered = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.index, index);
        assert_eq!(chunk.fresh.start, covered, "fresh parts cover the text once, in order: {options:?}");
        assert!(chunk.fresh.end > chunk.fresh.start && chunk.range.end == chunk.fresh.end);
        assert!(chunk.range.start <= chunk.fresh.start);
        assert!(text.is_char_boundary(chunk.range.start) && text.is_char_boundary(chunk.range.end));
        assert_eq!(chunk.tokens, Bytes.count(&chunk.text));
        assert!(chunk.tokens <= options.size, "{} of {} tokens: {:?}", chunk.tokens, options.size, chunk.text);
        assert!(!chunk.text.is_empty());
        if chunk.turns.is_none() {
            assert_eq!(chunk.text, text[chunk.range.clone()].trim());
        }
        covered = chunk.fresh.end;
    }
    if !text.trim().is_empty() {
        assert_eq!(covered, text.len(), "every byte is in some chunk: {options:?}");
    }
    chunks
}

fn options(by: ChunkBy, size: usize, overlap: Overlap) -> ChunkOptions {
    ChunkOptions { by, size, overlap, ..Default::default() }
}

const ALL: [ChunkBy; 5] = [ChunkBy::Turns, ChunkBy::Tokens, ChunkBy::Sentences, ChunkBy::Headings, ChunkBy::Pages];

#[test]
fn turns_are_shown_with_their_labels_and_counted_with_them() {
    let turns = [(Some("Anna"), "One two.".into()), (None, "Three.".into()), (Some("Ben"), "Four five six.".into())];
    let document = transcript(&turns);
    let chunks = check(&document, &ChunkOptions::default());
    assert_eq!(chunks[0].text, "[T1] Anna: One two.\n[T2] Three.\n[T3] Ben: Four five six.");
    assert_eq!(chunks[0].turns, Some(TurnId(1)..=TurnId(3)));
}

#[test]
fn an_overlap_repeats_whole_turns() {
    let turns: Vec<_> = (0..12).map(|n| (Some("Anna"), format!("word number {n} is said"))).collect();
    let chunks = check(&transcript(&turns), &options(ChunkBy::Turns, 90, Overlap::Units(1)));
    assert!(chunks.len() > 2);
    for pair in chunks.windows(2) {
        let (before, after) = (pair[0].turns.clone().unwrap(), pair[1].turns.clone().unwrap());
        assert_eq!(before.end(), after.start());
    }
}

#[test]
fn a_turn_too_long_for_a_chunk_is_cut_at_sentences_and_keeps_its_label() {
    let long = "This is one sentence of the turn. ".repeat(30);
    let document = transcript(&[(Some("Anna"), "Hi.".into()), (Some("Ben"), long), (Some("Anna"), "Bye.".into())]);
    let chunks = check(&document, &options(ChunkBy::Turns, 80, Overlap::Tokens(0)));
    assert!(chunks.len() > 3);
    let pieces = chunks.iter().filter(|c| c.turns == Some(TurnId(2)..=TurnId(2)));
    for piece in pieces {
        assert!(piece.text.starts_with("[T2] Ben: This is") && piece.text.ends_with("turn."), "{}", piece.text);
    }
}

#[test]
fn a_name_as_long_as_a_chunk_does_not_crowd_out_the_words() {
    let name = "x".repeat(300);
    check(&transcript(&[(Some(&name), "said ".repeat(100))]), &options(ChunkBy::Turns, 40, Overlap::Tokens(0)));
}

#[test]
fn headings_keep_sections_whole_and_give_each_chunk_its_path() {
    let section = |title: &str| format!("{title}\n\n{}\n\n", "Some words stand here. ".repeat(8));
    let text = [section("# A"), section("## B"), section("# C")].concat();
    let mut document = Document::of(Format::Markdown, text.clone());
    for (level, title) in [(1, "A"), (2, "B"), (1, "C")] {
        let at = text.find(&format!("# {title}")).unwrap() + 1 - level as usize;
        document.headings.push(Heading { level, title: title.into(), range: at..at + 3 });
    }
    let chunks = check(&document, &options(ChunkBy::Headings, 120, Overlap::Tokens(0)));
    let paths: Vec<_> = chunks.iter().map(|c| c.heading_path.join(" > ")).collect();
    assert_eq!(paths, ["A", "A > B", "C"]);
}

#[test]
fn pages_are_packed_and_named() {
    let mut document = Document::of(Format::Pdf, String::new());
    for number in 1..=5 {
        let from = document.text.len();
        document.text.push_str(&"A page of words. ".repeat(4));
        document.pages.push(Page { number, range: from..document.text.len() });
    }
    let chunks = check(&document, &options(ChunkBy::Auto, 90, Overlap::Tokens(0)));
    assert_eq!(chunks.iter().map(|c| c.pages.unwrap()).collect::<Vec<_>>(), [(1, 2), (3, 4), (5, 5)]);
    let chunks = check(&document, &options(ChunkBy::Pages, 90, Overlap::Units(1)));
    assert_eq!(chunks[1].pages, Some((2, 3)));
}

#[test]
fn sentences_are_never_cut_where_they_fit() {
    let text = "The first sentence is here. A second one follows it. And a third. ".repeat(20);
    let chunks = check(&Document::of(Format::Text, text), &options(ChunkBy::Sentences, 60, Overlap::Tokens(0)));
    assert!(chunks.len() > 5 && chunks.iter().all(|c| c.text.ends_with('.')));
}

#[test]
fn an_overlap_in_tokens_begins_with_a_word() {
    let text = "every word stands apart ".repeat(60);
    let chunks = check(&Document::of(Format::Text, text), &options(ChunkBy::Tokens, 60, Overlap::Tokens(15)));
    assert!(chunks.windows(2).all(|p| p[1].range.start < p[0].range.end && p[1].range.start > p[0].range.start));
    let words = ["every", "word", "stands", "apart"];
    assert!(chunks.iter().all(|c| words.contains(&c.text.split(' ').next().unwrap())));
}

#[test]
fn a_document_without_what_is_asked_for_is_cut_by_sentences() {
    let document = Document::of(Format::Text, "One. Two.".into());
    for by in [ChunkBy::Turns, ChunkBy::Headings, ChunkBy::Pages, ChunkBy::Auto] {
        assert_eq!(options(by, 100, Overlap::Tokens(0)).by_for(&document), ChunkBy::Sentences);
    }
    assert!(chunk(&Document::of(Format::Text, " \n ".into()), &ChunkOptions::default(), &Bytes).is_empty());
}

#[test]
fn the_promises_hold_for_random_documents() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for round in 0..400 {
        let num_words = random.below(400);
        let mut document = Document::of(Format::Text, random.words(num_words));
        if round % 2 == 0 {
            let turns: Vec<(Option<&str>, String)> = (0..1 + random.below(30))
                .map(|_| {
                    let speaker = [None, Some("Anna"), Some("Dr. Müller-Lüdenscheidt")][random.below(3)];
                    let num_words = [3, 10, 300][random.below(3)];
                    (speaker, random.words(num_words))
                })
                .collect();
            document = transcript(&turns);
        } else if round % 3 == 0 {
            document.format = Format::Markdown;
        }
        let places: Vec<usize> = document.text.match_indices('\n').map(|(at, _)| at + 1).step_by(7).collect();
        document.headings = places
            .iter()
            .map(|at| Heading { level: 1 + random.below(3) as u8, title: "t".into(), range: *at..*at })
            .collect();
        let mut page_start = 0;
        for (index, end) in places.iter().copied().chain([document.text.len()]).enumerate() {
            document.pages.push(Page { number: index as u32 + 1, range: page_start..end });
            page_start = end;
        }
        let size = MIN_SIZE + random.below(200);
        for by in ALL {
            for overlap in
                [Overlap::Tokens(0), Overlap::Tokens(random.below(size / 2)), Overlap::Units(random.below(5))]
            {
                check(&document, &options(by, size, overlap));
            }
        }
    }
}

/// Twice the text takes at most 2.5 times as long (TRUST.md, 21). A busy machine may spoil a measurement, so the best of
/// a few counts; quadratic time would spoil them all.
fn check_linear(name: &str, form: impl Fn(usize) -> Document, num_bytes: usize, options: &ChunkOptions) {
    let time = |num_bytes: usize| {
        let document = form(num_bytes);
        let started = Instant::now();
        assert!(!chunk(&document, options, &Bytes).is_empty());
        started.elapsed()
    };
    let mut measured = Vec::new();
    for _ in 0..6 {
        let (half, whole) = (time(num_bytes / 2), time(num_bytes));
        if whole <= half.mul_f64(2.5) + Duration::from_millis(50) {
            return;
        }
        measured.push((half, whole));
    }
    panic!("{name} {:?}: {measured:?}", options.by);
}

#[test]
fn hostile_texts_are_cut_in_linear_time() {
    let text_of =
        |unit: &'static str| move |num_bytes: usize| Document::of(Format::Text, unit.repeat(num_bytes / unit.len()));
    let one_turn = |num_bytes: usize| transcript(&[(Some("Anna"), "a".repeat(num_bytes))]);
    for by in [ChunkBy::Tokens, ChunkBy::Sentences] {
        let options = options(by, 500, Overlap::Tokens(50));
        check_linear("short lines", text_of("a\n"), 400_000, &options);
        check_linear("blank lines", text_of("\n\n\nx"), 400_000, &options);
        check_linear("emoji", text_of("👩‍👩‍👧‍👦"), 400_000, &options);
        check_linear("marks", text_of("z\u{338}\u{322}\u{31b}"), 400_000, &options);
        check_linear("stops", text_of("a. "), 400_000, &options);
        check_linear("nul", text_of("\0"), 400_000, &options);
    }
    let tokens = options(ChunkBy::Tokens, 500, Overlap::Tokens(50));
    check_linear("one letter", text_of("a"), 3_000_000, &tokens);
    check_linear("no spaces", text_of("ab1-,"), 1_000_000, &tokens);
    check_linear("one turn", one_turn, 3_000_000, &options(ChunkBy::Turns, 500, Overlap::Units(2)));
    let headings = |num_bytes: usize| {
        let mut document = Document::of(Format::Markdown, "#\n\n".repeat(num_bytes / 3));
        document.headings =
            (0..num_bytes / 3).map(|n| Heading { level: 1, title: String::new(), range: n * 3..n * 3 + 1 }).collect();
        document
    };
    check_linear("headings", headings, 300_000, &options(ChunkBy::Headings, 500, Overlap::Tokens(50)));
    check_linear("headings", headings, 300_000, &options(ChunkBy::Tokens, 500, Overlap::Tokens(0)));
}
