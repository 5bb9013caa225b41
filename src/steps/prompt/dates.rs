//! A date as it was said, made a calendar date: English and German, against the day it was said on.
//!
//! The rule for weekdays: a bare, "this" or "coming" Friday is the first one after the day itself; "next Friday" is
//! the Friday of the following calendar week, weeks beginning on Monday. "Before Friday" is met by Thursday. Words that
//! allow two readings ("next week", "Wednesday or Thursday", 3/4) give no date: they stay in the record as they are.

use std::ops::Range;

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

const BEFORE: [&str; 2] = ["before", "vor"];

/// Returns the date that `words` mean when said on `base` (`YYYY-MM-DD`, more may follow), as `YYYY-MM-DD`;
/// `None` when they name none, or when it is not sure which.
pub fn resolve_date(words: &str, base: &str) -> Option<String> {
    let base: Date = base.get(..10)?.parse().ok()?;
    let mut found: Vec<Date> = find(words, base).into_iter().map(|(_, date)| date).collect::<Option<_>>()?;
    found.dedup();
    let is_before = words.split_whitespace().next().is_some_and(|w| BEFORE.contains(&w.to_lowercase().as_str()));
    match found.as_slice() {
        [only] if is_before => Some(only.yesterday().ok()?.to_string()),
        [only] => Some(only.to_string()),
        _ => None,
    }
}

/// Returns where a text names days and times of day, in order: "next Friday", "before four", "this week".
pub fn date_phrases(text: &str) -> Vec<Range<usize>> {
    let any_day = Date::constant(2025, 3, 12);
    find(text, any_day).into_iter().map(|(range, _)| range).collect()
}

/// A word of the text in lower case, without the punctuation around it, and where it stands.
struct Token {
    word: String,
    range: Range<usize>,
    /// Whether a comma, a period or the end of the text follows.
    ends_clause: bool,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = c.is_alphanumeric() || matches!(c, '.' | '-' | '/' | ':' | '\'' | '’');
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                let bare = text[from..at].trim_end_matches([':', '\'', '’', '-']);
                // "28.3." keeps its period: it says that the number is a day.
                let keeps = bare.starts_with(|c: char| c.is_ascii_digit());
                let bare = if keeps { bare } else { bare.trim_end_matches('.') };
                let word = bare.to_lowercase().replace('’', "'");
                let ends_clause = bare.len() < at - from || text[at..].trim_start().is_empty() || !c.is_whitespace();
                if !word.is_empty() {
                    tokens.push(Token { word, range: from..from + bare.len(), ends_clause });
                }
                start = None;
            }
            _ => {}
        }
    }
    tokens
}

/// Finds what names a time, with the date where it is sure which day is meant.
fn find(text: &str, base: Date) -> Vec<(Range<usize>, Option<Date>)> {
    let tokens = tokens(text);
    let words: Vec<&str> = tokens.iter().map(|t| t.word.as_str()).collect();
    let ends_clause = |at: usize| tokens[at].ends_clause;
    let mut found: Vec<(Range<usize>, Option<Date>)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some((date, used)) =
            date_at(&words, at, base, ends_clause(at)).or_else(|| vague_at(&words, at).map(|used| (None, used)))
        else {
            at += 1;
            continue;
        };
        let before = |i: usize| at.checked_sub(i).map(|b| words[b]).unwrap_or_default();
        // What belongs to the phrase on its left: "next", "before", "the day after".
        let mut first = at;
        let is_day_alone =
            ordinal(words[at]).is_some() && matches!(before(1), "the" | "am" | "den" | "dem" | "der" | "zum");
        if is_qualifier(before(1)) || is_day_alone {
            first = at - 1;
        }
        let end = tokens[at + used - 1].range.end;
        let range = tokens[first].range.start..end;
        // "Tuesday the twenty-first" is one phrase, and the number is the surer half of it.
        match found.last_mut() {
            Some((last, last_date)) if is_joint(&text[last.end.min(range.start)..range.start]) => {
                last.end = end;
                *last_date = if weekday_alone(&text[last.clone()]) || last_date.is_none() {
                    date.or(*last_date)
                } else {
                    *last_date
                };
            }
            _ => found.push((range, date)),
        }
        at += used;
    }
    for (range, _) in &mut found {
        let trimmed = text[range.clone()].trim_end_matches('.').len();
        // A German day number keeps its period inside the text but not at the end of a phrase.
        range.end = range.start + trimmed;
    }
    found
}

/// Whether two dates with only this between them are one: nothing, "the", "den".
fn is_joint(between: &str) -> bool {
    let between = between.trim_matches([',', ' ']);
    matches!(between, "" | "the" | "den" | "dem" | "der" | "at" | "um")
}

fn weekday_alone(phrase: &str) -> bool {
    phrase.split([' ', ',']).next().is_some_and(|w| weekday(&w.to_lowercase()).is_some())
}

fn is_qualifier(word: &str) -> bool {
    is_next(word)
        || matches!(
            word,
            "this"
                | "before"
                | "vor"
                | "diesen"
                | "diese"
                | "dieser"
                | "kommenden"
                | "coming"
                | "late"
                | "early"
                | "ende"
        )
}

/// Times that are no sure day: "this week", "next month", "before four", "this afternoon", "heute abend" is a day.
fn vague_at(words: &[&str], at: usize) -> Option<usize> {
    let word = |i: usize| words.get(at + i).copied().unwrap_or_default();
    let spans = [
        "week",
        "month",
        "quarter",
        "year",
        "weekend",
        "afternoon",
        "morning",
        "evening",
        "summer",
        "autumn",
        "woche",
        "monat",
        "quartal",
        "jahr",
        "wochenende",
    ];
    let leads = ["this", "next", "diese", "diesen", "dieses", "nächste", "nächsten", "nächstes", "am"];
    if leads.contains(&word(0)) && spans.contains(&word(1)) {
        return Some(2);
    }
    let hours = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "noon",
        "lunch",
    ];
    (matches!(word(0), "before" | "until") && hours.contains(&word(1))).then_some(2)
}

/// Returns the date that begins at a token and how many tokens it takes; an inner `None` says "a date, but which".
fn date_at(tokens: &[&str], at: usize, base: Date, ends_clause: bool) -> Option<(Option<Date>, usize)> {
    let word = |i: usize| tokens.get(at + i).map(|t| t.trim_end_matches('.')).unwrap_or_default();
    let before = |i: usize| at.checked_sub(i).and_then(|b| tokens.get(b)).copied().unwrap_or_default();
    let first = word(0);

    if let Ok(date) = first.parse::<Date>() {
        return Some((Some(date), 1));
    }
    if let Some(date) = dotted(tokens[at], base) {
        return Some((date, 1));
    }
    match first {
        "today" | "tonight" | "heute" | "eod" => return Some((Some(base), 1)),
        "tomorrow" | "übermorgen" | "overmorrow" => {
            let after_next = first != "tomorrow" || before(1) == "after";
            return Some((base.checked_add(if after_next { 2 } else { 1 }.days()).ok(), 1));
        }
        // "am Morgen", "guten Morgen" and "Montag morgen" are times of day.
        "morgen" if !matches!(before(1), "am" | "guten" | "jeden" | "den") && weekday(before(1)).is_none() => {
            return Some((base.checked_add(1.day()).ok(), 1));
        }
        "in" => return span(word(1), word(2)).map(|span| (base.checked_add(span).ok(), 3)),
        "end" if word(1) == "of" => {
            let skip = usize::from(matches!(word(2), "the" | "this" | "next"));
            return end_of(word(2 + skip), word(2) == "next", base).map(|d| (d, 3 + skip));
        }
        "ende" => {
            let skip = usize::from(matches!(word(1), "der" | "des" | "dieser" | "diese" | "nächster" | "nächste"));
            return end_of(word(1 + skip), word(1).starts_with("nächste"), base).map(|d| (d, 2 + skip));
        }
        "monatsende" => return Some((Some(base.last_of_month()), 1)),
        _ => {}
    }
    if let Some(day) = weekday(first) {
        let said_next = is_next(before(1)) || (before(1) == "woche" && is_next(before(2)));
        let week_after = is_next(word(1)) && matches!(word(2), "week" | "woche");
        if word(1) == "week" {
            return Some((base.nth_weekday(2, day).ok(), 2)); // "Monday week": a week after the coming Monday
        }
        let date = if said_next || week_after { in_next_week(base, day) } else { base.nth_weekday(1, day).ok() };
        return Some((date, if week_after { 3 } else { 1 }));
    }
    if let Some(found) = month_and_day(&word, base) {
        return Some(found);
    }
    // "the twenty-fourth": a day of this month or the next, if it is said to be one.
    let led = matches!(before(1), "the" | "am" | "den" | "dem" | "der" | "zum");
    let day = ordinal(first).filter(|_| led && (ends_clause || !is_counted(word(1))))?;
    let months = [base, base.last_of_month().tomorrow().ok()?];
    let day_of = |month: Date| Date::new(month.year(), month.month(), day).ok();
    Some((months.into_iter().filter_map(day_of).find(|d| *d >= base), 1))
}

/// Whether an ordinal before this word counts things: "the first lot", "the second person".
fn is_counted(next: &str) -> bool {
    !(next.is_empty() || weekday(next).is_some() || month(next).is_some() || SMALL_WORDS.contains(&next))
}

/// Words that may follow a day of the month: "by the twenty-fourth, so that …".
const SMALL_WORDS: &[&str] =
    &["so", "and", "or", "then", "if", "that", "is", "at", "und", "oder", "dann", "also", "ist", "um", "live"];

/// "14 march", "14th of march 2025", "march 14th", "14. märz".
fn month_and_day<'a>(word: &dyn Fn(usize) -> &'a str, base: Date) -> Option<(Option<Date>, usize)> {
    let year = |text: &str| text.parse::<i16>().ok().filter(|y| (1900..2200).contains(y));
    let (day, month, mut used) = match (day_number(word(0)), month(word(0))) {
        (Some(day), _) => {
            let skip = usize::from(word(1) == "of");
            (day, month(word(1 + skip))?, 2 + skip)
        }
        (None, Some(month)) => (day_number(word(1))?, month, 2),
        _ => return None,
    };
    let date = match year(word(used)) {
        Some(year) => {
            used += 1;
            Date::new(year, month, day).ok()
        }
        None => coming(day, month, base),
    };
    Some((date, used))
}

/// "14.3." and "14.03.2025"; the outer `None` says that the token is no such date.
fn dotted(token: &str, base: Date) -> Option<Option<Date>> {
    let parts: Vec<&str> = token.split('.').collect();
    let (day, month) = (parts.first()?.parse().ok()?, parts.get(1)?.parse().ok()?);
    match parts.get(2..)? {
        [""] => Some(coming(day, month, base)),
        [year] if year.len() == 4 => Some(Date::new(year.parse().ok()?, month, day).ok()),
        _ => None,
    }
}

/// The next day of that number and month, today included.
fn coming(day: i8, month: i8, base: Date) -> Option<Date> {
    [base.year(), base.year() + 1].into_iter().filter_map(|y| Date::new(y, month, day).ok()).find(|d| *d >= base)
}

fn in_next_week(base: Date, day: Weekday) -> Option<Date> {
    let monday = base.checked_sub(i64::from(base.weekday().to_monday_zero_offset()).days()).ok()?;
    monday.checked_add((7 + i64::from(day.to_monday_zero_offset())).days()).ok()
}

/// The last working day of a week, the last day of a month, or the day itself.
fn end_of(what: &str, next: bool, base: Date) -> Option<Option<Date>> {
    match what {
        "day" | "tages" if !next => Some(Some(base)),
        "week" | "woche" if next => Some(in_next_week(base, Weekday::Friday)),
        // Said on a Friday it means that Friday; said on a weekend it is not sure.
        "week" | "woche" => {
            let days = 4 - i64::from(base.weekday().to_monday_zero_offset());
            Some(if days >= 0 { base.checked_add(days.days()).ok() } else { None })
        }
        "month" | "monats" if next => Some(base.last_of_month().tomorrow().ok().map(Date::last_of_month)),
        "month" | "monats" => Some(Some(base.last_of_month())),
        _ => month(what).map(|m| coming(1, m, base.first_of_month()).map(Date::last_of_month)),
    }
}

fn span(count: &str, unit: &str) -> Option<jiff::Span> {
    let count: i64 = match count {
        "a" | "one" | "einem" | "einer" => 1,
        "two" | "zwei" => 2,
        "three" | "drei" => 3,
        "four" | "vier" => 4,
        digits => digits.parse().ok().filter(|n| *n <= 1000)?,
    };
    match unit {
        "day" | "days" | "tag" | "tagen" => Some(count.days()),
        "week" | "weeks" | "woche" | "wochen" => Some(count.weeks()),
        "month" | "months" | "monat" | "monaten" => Some(count.months()),
        _ => None,
    }
}

fn is_next(word: &str) -> bool {
    matches!(word, "next" | "nächste" | "nächsten" | "nächster" | "nächstem")
}

fn day_number(word: &str) -> Option<i8> {
    if let Some(day) = ordinal(word) {
        return Some(day);
    }
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|e| word.strip_suffix(e)).unwrap_or(word);
    digits.parse().ok().filter(|d| (1..=31).contains(d))
}

/// A day of the month in words: "twenty-fourth", "siebenundzwanzigsten".
fn ordinal(word: &str) -> Option<i8> {
    const ENGLISH: [&str; 20] = [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
        "twentieth",
    ];
    const GERMAN: [&str; 20] = [
        "erst",
        "zweit",
        "dritt",
        "viert",
        "fünft",
        "sechst",
        "siebt",
        "acht",
        "neunt",
        "zehnt",
        "elft",
        "zwölft",
        "dreizehnt",
        "vierzehnt",
        "fünfzehnt",
        "sechzehnt",
        "siebzehnt",
        "achtzehnt",
        "neunzehnt",
        "zwanzigst",
    ];
    let place = |list: &[&str], word: &str| list.iter().position(|w| *w == word).map(|i| i as i8 + 1);
    match word {
        "thirtieth" => return Some(30),
        "thirty-first" => return Some(31),
        _ => {}
    }
    if let Some(day) = place(&ENGLISH, word)
        .or_else(|| word.strip_prefix("twenty-").and_then(|w| place(&ENGLISH[..9], w)).map(|d| 20 + d))
    {
        return Some(day);
    }
    let stem = ["en", "er", "em", "es", "e"].iter().find_map(|e| word.strip_suffix(e))?;
    const UNITS: [&str; 9] = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"];
    match stem {
        "dreißigst" => Some(30),
        "einunddreißigst" => Some(31),
        _ => place(&GERMAN, stem)
            .or_else(|| stem.strip_suffix("undzwanzigst").and_then(|u| place(&UNITS, u)).map(|d| 20 + d)),
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" | "montag" => Weekday::Monday,
        "tuesday" | "dienstag" => Weekday::Tuesday,
        "wednesday" | "mittwoch" => Weekday::Wednesday,
        "thursday" | "donnerstag" => Weekday::Thursday,
        "friday" | "freitag" => Weekday::Friday,
        "saturday" | "samstag" | "sonnabend" => Weekday::Saturday,
        "sunday" | "sonntag" => Weekday::Sunday,
        _ => return None,
    })
}

fn month(word: &str) -> Option<i8> {
    const NAMES: [&[&str]; 12] = [
        &["january", "jan", "januar", "jänner"],
        &["february", "feb", "februar"],
        &["march", "märz"], // "mar" and "may" alone are other words too; May is kept, beside a number it is a month
        &["april", "apr"],
        &["may", "mai"],
        &["june", "jun", "juni"],
        &["july", "jul", "juli"],
        &["august", "aug"],
        &["september", "sept", "sep"],
        &["october", "oct", "oktober", "okt"],
        &["november", "nov"],
        &["december", "dec", "dezember", "dez"],
    ];
    NAMES.iter().position(|names| names.contains(&word)).map(|i| i as i8 + 1)
}

#[cfg(test)]
mod tests;
