//! Times as files and authors write them: `00:12:03.400`, `12:03`, `1h30m`. Knows no format.

/// A time written in a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub ms: u64,
    /// `10:01 PM`: a time of day, which says nothing of the recording.
    pub of_day: bool,
    /// Written with hours: `0:12:03`.
    pub long: bool,
}

/// Reads `1h30m`, `20s`, `1.5s`, `250ms`, `2d`; returns milliseconds.
pub(super) fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "d" => 86_400e3,
            _ => return None,
        };
        total += number * unit;
        rest = rest[letters..].trim_start();
    }
    // A hundred years: anything longer is a slip, and would overflow what is added to it.
    (total <= 3.2e12).then_some(total.round() as u64)
}

/// Reads `H:MM:SS.mmm` or `M:SS.mmm` with any number of digits for the first part, as cues write them: `.` or `,`
/// before one to three digits of a second. Minutes and seconds over 59 are no time.
pub(super) fn parse_cue_time(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut parts = whole.split(':');
    let (first, second) = (number(parts.next()?)?, two_digits(parts.next()?)?);
    let seconds = match (parts.next(), parts.next()) {
        (None, _) if first < 60 => first * 60 + second,
        (Some(third), None) => first.checked_mul(3600)?.checked_add(second * 60 + two_digits(third)?)?,
        _ => return None,
    };
    let ms = match fraction {
        None => 0,
        Some(f) if f.len() <= 3 => number(f)? * 10u64.pow(3 - f.len() as u32),
        Some(_) => return None,
    };
    seconds.checked_mul(1000)?.checked_add(ms)
}

/// Reads a stamp of a plain transcript: a cue's time, or a time of day with AM or PM.
pub(super) fn parse_stamp(text: &str) -> Option<Stamp> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let clock = ["am", "pm", "a.m.", "p.m."].iter().find_map(|suffix| lower.strip_suffix(suffix));
    let (time, of_day) = clock.map_or((text, false), |time| (time.trim_end(), true));
    let long = time.matches(':').count() == 2;
    parse_cue_time(time).map(|ms| Stamp { ms, of_day, long })
}

fn number(text: &str) -> Option<u64> {
    // Twelve digits of hours are a slip, and their milliseconds would overflow.
    let digits = !text.is_empty() && text.len() <= 11 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn two_digits(text: &str) -> Option<u64> {
    if text.len() == 2 { number(text).filter(|n| *n < 60) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cue_times_are_read_with_and_without_hours() {
        assert_eq!(parse_cue_time("00:12:03.400"), Some(723_400));
        assert_eq!(parse_cue_time("12:03,4"), Some(723_400));
        assert_eq!(parse_cue_time("100:00:00.000"), Some(360_000_000));
        for wrong in ["", "12", "00:60:00.000", "00:00:99", "1:2:3", "a:00:00", "75:00.000", "00:00:00.0000", "-1:00"] {
            assert_eq!(parse_cue_time(wrong), None, "{wrong}");
        }
        assert_eq!(parse_cue_time("99999999999:00:00.000"), Some(99_999_999_999 * 3_600_000));
        assert_eq!(parse_cue_time("999999999999999:00:00.000"), None);
    }

    #[test]
    fn durations_add_up_and_need_units() {
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration("250ms"), Some(250));
        assert_eq!(parse_duration("20"), None);
        assert_eq!(parse_duration("fast"), None);
    }

    #[test]
    fn a_time_of_day_is_told_from_a_time_of_the_recording() {
        assert_eq!(parse_stamp("10:01 PM"), Some(Stamp { ms: 601_000, of_day: true, long: false }));
        assert_eq!(parse_stamp("0:12:03"), Some(Stamp { ms: 723_000, of_day: false, long: true }));
    }
}
