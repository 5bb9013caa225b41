use super::*;

fn read(text: &str) -> Document {
    parse(text.to_owned(), &ReadOptions::default()).unwrap()
}

#[test]
fn lines_of_names_are_a_transcript_and_fields_before_them_are_meta() {
    let text = "Title: Weekly planning\nDate: 2026-03-13\nClient: Acme\nAttendees:\n- Anna\n- Ben\n\n\
                Anna: Shall we begin?\nThere is a lot to do.\nBen: Yes.\nBen: Go on.\n\nAnna: First: the budget.\n";
    assert!(looks_like(text));
    let document = read(text);
    assert_eq!(
        document.text,
        "Anna: Shall we begin? There is a lot to do.\nBen: Yes. Go on.\nAnna: First: the budget."
    );
    assert_eq!(document.meta["title"], "Weekly planning");
    assert_eq!(document.meta["client"], "Acme");
    assert_eq!(document.meta["attendees"], "Anna, Ben");
    assert!(document.turns.iter().all(|t| t.start_ms.is_none()));
}

#[test]
fn a_range_of_the_file_leads_back_to_the_words_of_its_turn() {
    let text = "Anna:  Shall we\r\n  begin?\r\n\r\nBen: Ja, natürlich.\r\nBen: Go.\r\nAnna: Good.\r\n";
    let document = read(text);
    for turn in &document.turns {
        let words = squeeze(&text[turn.source.clone()]).replace("Ben: ", "");
        assert_eq!(words, document.turn_text(turn));
    }
    assert_eq!(&text[document.turns[0].source.clone()], "Shall we\r\n  begin?");
}

#[test]
fn stamps_become_starts_and_keep_their_lines_apart() {
    let text = "[00:12:03] Anna: Hello.\n[00:12:09] Anna: Are you there?\n[00:12:30] Ben: Yes.\n";
    assert!(looks_like(text));
    let document = read(text);
    let starts: Vec<_> = document.turns.iter().map(|t| t.start_ms).collect();
    assert_eq!(starts, [Some(723_000), Some(729_000), Some(750_000)]);
    assert!(document.turns.iter().all(|t| t.end_ms.is_none()));
}

#[test]
fn stamps_are_found_beside_and_above_the_words() {
    for text in [
        "Anna (00:05): Hello.\nBen (00:09): Yes.\nAnna (00:12): Good.\n",
        "Anna Lee  0:05\nHello.\n\nBen  0:09\nYes.\n\nAnna Lee  0:12\nGood.\n",
        "[Anna] 00:00:05\nHello.\n\n[Ben] 00:00:09\nYes.\n\n[Anna] 00:00:12\nGood.\n",
        "00:00:05 Anna: Hello.\n00:00:09 Ben: Yes.\n00:00:12 Anna: Good.\n",
    ] {
        assert!(looks_like(text), "{text}");
        let document = read(text);
        let starts: Vec<_> = document.turns.iter().map(|t| t.start_ms).collect();
        assert_eq!(starts, [Some(5000), Some(9000), Some(12000)], "{text}");
        assert_eq!(document.turn_text(&document.turns[0]), "Hello.");
    }
}

#[test]
fn times_of_day_are_no_times_of_the_recording() {
    let document = read("[10:01 AM] Anna: Hello.\n[10:02 AM] Ben: Yes.\n[10:02 AM] Anna: Good.\n");
    assert!(document.turns.iter().all(|t| t.start_ms.is_none()));
    assert!(document.warnings[0].contains("times of day"));
    let document = read("14:30 Anna: Hello.\n14:31 Ben: Yes.\n14:35 Anna: Good.\n");
    assert!(document.turns.iter().all(|t| t.start_ms.is_none()));
}

#[test]
fn a_sentence_with_a_colon_in_a_turn_is_no_speaker() {
    let text = "Anna: We have\nTwo options: wait or go.\n\nBen: Let us go\nnow.\n\nAnna: Fine.\n\nBen: Good.\n";
    let document = read(text);
    assert_eq!(document.speakers(), ["Anna", "Ben"]);
    assert_eq!(document.turn_text(&document.turns[0]), "We have Two options: wait or go.");
    assert!(document.warnings[0].contains("Two options"), "{:?}", document.warnings);
}

#[test]
fn words_before_the_first_turn_are_read_as_nobodys() {
    let document = read("A note at the top.\n\nAnna: Hello.\nBen: Yes.\nAnna: Good.\n");
    assert_eq!(document.text, "A note at the top.\nAnna: Hello.\nBen: Yes.\nAnna: Good.");
    assert_eq!(document.turns[0].speaker, None);
}

#[test]
fn merging_can_be_turned_off() {
    let options = ReadOptions { merge_gap_ms: None, ..Default::default() };
    let document = parse("Anna: one\nAnna: two\nBen: three\n".into(), &options).unwrap();
    assert_eq!(document.turns.len(), 3);
}

#[test]
fn prose_markdown_forms_logs_and_records_are_no_transcripts() {
    for text in [
        "There are two kinds of people: those who wait and those who go.\nRemember: time flies.\n\nThe end: near.\n",
        "# Title\n\nSome text: with colons.\n\n- Pros: cheap\n- Cons: slow\n\n## Usage\n\nRun: it.\n\nNote: it works.\n",
        "name: build\non: push\njobs: none\nname: test\non: push\njobs: none\n",
        "From: a@example.org\nTo: b@example.org\nSubject: x\n\nHello\n\nFrom: b@example.org\nTo: a@example.org\n\nHi\n",
        "INFO: started\nERROR: failed\nINFO: again\nDEBUG: x\nINFO: done\n",
        "City: Rome\nCountry: Italy\nPeople: 3\n\nCity: Paris\nCountry: France\nPeople: 2\n\nCity: Oslo\nCountry: Norway\nPeople: 1\n",
        "Ingredients: flour\n\nMix it all and wait for an hour.\n\nBake it.\n\nIngredients: eggs\n\nBoil them.\n\nServe: hot\n",
        "Anna: hello\n",
        "12:30 lunch\n13:30 walk\n",
        "",
    ] {
        assert!(!looks_like(text), "{text}");
    }
}

#[test]
fn a_wrapped_transcript_is_seen_by_its_paragraphs() {
    let turn = |name: &str| format!("{name}: {}\n\n", "This is a rather long line of speech\n".repeat(6).trim_end());
    let text: String = ["Anna", "Ben", "Anna", "Carla", "Ben"].iter().map(|n| turn(n)).collect();
    assert!(looks_like(&text));
    assert_eq!(read(&text).turns.len(), 5);
}

#[test]
fn labels_without_a_transcript_are_refused_only_when_there_are_none() {
    let error = parse("Just prose.\n".into(), &ReadOptions::default()).unwrap_err();
    assert_eq!(error.0, ReadReason::Unreadable);
}
