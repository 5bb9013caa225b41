use super::*;

// 12 March 2025 was a Wednesday.
fn check(words: &str, expected: &str) {
    let expected = Some(expected.to_string()).filter(|e| !e.is_empty());
    assert_eq!(resolve_date(words, "2025-03-12T09:30:00"), expected, "{words}");
}

#[test]
fn weekdays_follow_the_documented_rule() {
    check("by Friday", "2025-03-14");
    check("this Friday", "2025-03-14");
    check("next Friday", "2025-03-21");
    check("Friday next week", "2025-03-21");
    check("on Wednesday", "2025-03-19");
    check("bis Freitag", "2025-03-14");
    check("kommenden Montag", "2025-03-17");
    check("nächste Woche Dienstag", "2025-03-18");
    check("nächsten Freitag", "2025-03-21");
}

#[test]
fn days_spans_and_ends_are_counted_from_the_day_itself() {
    check("tomorrow morning", "2025-03-13");
    check("the day after tomorrow", "2025-03-14");
    check("übermorgen", "2025-03-14");
    check("morgen früh", "2025-03-13");
    check("in two weeks", "2025-03-26");
    check("in 10 Tagen", "2025-03-22");
    check("by the end of the week", "2025-03-14");
    check("end of next week", "2025-03-21");
    check("Ende der Woche", "2025-03-14");
    check("bis Ende des Monats", "2025-03-31");
    check("by end of April", "2025-04-30");
    check("end of March", "2025-03-31");
}

#[test]
fn dates_in_full_are_understood_and_roll_into_the_next_year() {
    check("March 14th", "2025-03-14");
    check("the 3rd of January", "2026-01-03");
    check("14. März 2025", "2025-03-14");
    check("am 28.3.", "2025-03-28");
    check("28.03.2026", "2026-03-28");
    check("2025-04-01", "2025-04-01");
}

#[test]
fn days_in_words_are_days() {
    check("on Tuesday the twenty-fifth of March", "2025-03-25");
    check("the twenty-fourth", "2025-03-24");
    check("the fifth", "2025-04-05");
    check("Donnerstag, den zweiten April", "2025-04-02");
    check("am siebenundzwanzigsten April", "2025-04-27");
    check("next Friday, so the twenty-first", "2025-03-21");
    check("I'll submit it on the nineteenth. The day before.", "2025-03-19");
    check("before the nineteenth", "2025-03-18");
    check("by Monday week, so the twenty-fourth", "2025-03-24");
    check("the second person", "");
}

#[test]
fn phrases_are_found_as_they_were_said() {
    let found = |text: &str| date_phrases(text).into_iter().map(|r| text[r].to_owned()).collect::<Vec<_>>();
    assert_eq!(found("I'll have the report ready by next Friday, so read it."), ["next Friday"]);
    assert_eq!(found("I'll have it out before four, then we see."), ["before four"]);
    assert_eq!(found("Tuesday the twenty-first, and then I'll sign."), ["Tuesday the twenty-first"]);
    assert_eq!(found("By the twenty-fourth."), ["the twenty-fourth"]);
    assert_eq!(found("Das baue ich bis Mittwoch ein."), ["Mittwoch"]);
    assert_eq!(found("I'll order the tablet this week."), ["this week"]);
    assert_eq!(found("No date in here at all, one moment."), Vec::<String>::new());
}

#[test]
fn two_readings_give_no_date() {
    for words in ["next week", "Wednesday or Thursday", "soon", "3/4", "guten Morgen", "31 February", "", "in a bit"] {
        check(words, "");
    }
    assert_eq!(resolve_date("Friday", "sometime"), None);
}
