//! A date as it was said, made a calendar date: English and German, against the day it was said on.
//!
//! The rule for weekdays: a bare, "this" or "coming" Friday is the first one after the day itself; "next Friday" is
//! the Friday of the following calendar week, weeks beginning on Monday. Words that allow two readings ("next week",
//! "Wednesday or Thursday", 3/4) give no date: the words themselves stay in the record.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

/// Returns the date that `words` mean when said on `base` (`YYYY-MM-DD`, more may follow), as `YYYY-MM-DD`;
/// `None` when they name none, or when it is not sure which.
pub fn resolve_date(words: &str, base: &str) -> Option<String> {
    let base: Date = base.get(..10)?.parse().ok()?;
    let lower = words.to_lowercase();
    let tokens: Vec<&str> = lower
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '!' | '?' | '(' | ')' | '"' | '“' | '”' | '„'))
        .filter(|t| !t.is_empty())
        .collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match date_at(&tokens, at, base) {
            Some((date, used)) => {
                found.push(date?);
                at += used;
            }
            None => at += 1,
        }
    }
    found.dedup();
    match found.as_slice() {
        [only] => Some(only.to_string()),
        _ => None,
    }
}

/// Returns the date that begins at a token and how many tokens it takes; an inner `None` says "a date, but which".
fn date_at(tokens: &[&str], at: usize, base: Date) -> Option<(Option<Date>, usize)> {
    let word = |i: usize| tokens.get(at + i).map(|t| t.trim_matches(['.', ':'])).unwrap_or_default();
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
        let date = if said_next || week_after { in_next_week(base, day) } else { base.nth_weekday(1, day).ok() };
        return Some((date, if week_after { 3 } else { 1 }));
    }
    month_and_day(&word, base)
}

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
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|e| word.strip_suffix(e)).unwrap_or(word);
    digits.parse().ok().filter(|d| (1..=31).contains(d))
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
mod tests {
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
    fn two_readings_give_no_date() {
        for words in
            ["next week", "Wednesday or Thursday", "soon", "3/4", "guten Morgen", "31 February", "", "in a bit"]
        {
            check(words, "");
        }
        assert_eq!(resolve_date("Friday", "sometime"), None);
    }
}
