//! Durations, sizes, counts, amounts and shares as people write them, and what they are in numbers.
//! Knows texts only.

const UNITS_OF_TIME: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const UNITS_OF_SIZE: &[(&str, f64)] = &[
    ("b", 1.0),
    ("byte", 1.0),
    ("bytes", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
];

/// Whole numbers up to here are exact in a double, as JSON has them.
const LARGEST: f64 = 9_007_199_254_740_992.0; // 2^53

/// Reads `20s`, `3m`, `1h30m`, `250ms`, `1.5s` as milliseconds. Each unit at most once, the larger ones first.
pub fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let (mut total, mut last) = (0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let ms = UNITS_OF_TIME.iter().find(|(name, _)| *name == unit)?.1;
        let part = number * ms as f64;
        if ms >= last || part > LARGEST || part.fract() != 0.0 {
            return None;
        }
        total = total.checked_add(part as u64)?;
        (last, rest) = (ms, after.trim_start());
    }
    (last != u64::MAX).then_some(total)
}

/// Reads `50MB`, `64 KiB`, `300 bytes` as bytes; a number without a unit is none.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text.trim())?;
    let unit = unit.trim().to_ascii_lowercase();
    let bytes = number * UNITS_OF_SIZE.iter().find(|(name, _)| *name == unit)?.1;
    (bytes <= LARGEST).then_some(bytes.floor() as u64)
}

/// Reads `12`, `16k` (16,000), `1.5k` and `2M` as a whole number; the sign is kept.
pub fn count(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |t| (-1.0, t));
    let (number, unit) = number(text)?;
    let times = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        _ => return None,
    };
    let value = sign * number * times;
    (value.fract() == 0.0 && value.abs() <= LARGEST).then_some(value as i64)
}

/// Reads `200 words`, `6k tokens` or `1 turn` as a number and the unit as `units` spells it.
pub fn amount(text: &str, units: &[&'static str]) -> Option<(i64, &'static str)> {
    let text = text.trim();
    // The unit is the last word; without a space it begins at the first letter that is no multiplier.
    let (number, unit) = match text.split_once(char::is_whitespace) {
        Some((number, unit)) => (number, unit.trim()),
        None => units.iter().find_map(|u| Some((text.strip_suffix(u)?, *u)))?,
    };
    let singular = |plural: &str| plural.strip_suffix('s') == Some(unit);
    let unit = units.iter().find(|u| **u == unit || singular(u))?;
    Some((count(number).filter(|n| *n >= 0)?, unit))
}

/// Reads `10%` as 0.1.
pub fn share(text: &str) -> Option<f64> {
    let (number, after) = number(text.trim().strip_suffix('%')?.trim_end())?;
    (after.is_empty() && number <= 100.0).then_some(number / 100.0)
}

/// Returns the number a text begins with and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit()) && !digits.ends_with('.');
    Some((digits.parse().ok().filter(|_| plain)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_half_written_ones_are_not() {
        let read = ["20s", "3m", "1h30m", "1h 30m", "250ms", "1.5s", "0s", "2d"].map(duration);
        let expected = [20_000, 180_000, 5_400_000, 5_400_000, 250, 1_500, 0, 172_800_000].map(Some);
        assert_eq!(read, expected);
        for odd in ["", "5", "s", "5 sec", "1m1h", "1m1m", "-5s", "1.s", "1e9s", "9999999999999999h", "20s!", "0.0001s"]
        {
            assert_eq!(duration(odd), None, "{odd}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(["50MB", "1.5 KiB", "300 bytes", "50mb"].map(size), [50_000_000, 1536, 300, 50_000_000].map(Some));
        assert_eq!(["50", "MB", "5 lbs", "-1MB", "99999999999GB"].map(size), [None; 5]);
    }

    #[test]
    fn k_is_a_thousand() {
        assert_eq!(["12", "16k", "1.5k", "2M", "-3"].map(count), [12, 16_000, 1_500, 2_000_000, -3].map(Some));
        assert_eq!(["1.5", "16K", "k", "1 000", "1_000", "", "--1"].map(count), [None; 7]);
    }

    #[test]
    fn amounts_take_the_unit_in_either_number() {
        let units = &["tokens", "turns"];
        assert_eq!(amount("2500 tokens", units), Some((2500, "tokens")));
        assert_eq!(amount("6k tokens", units), Some((6000, "tokens")));
        assert_eq!(amount("1 turn", units), Some((1, "turns")));
        assert_eq!(amount("40tokens", units), Some((40, "tokens")));
        assert_eq!(amount("200 words", units), None);
        assert_eq!(amount("200", units), None);
        assert_eq!(amount("-1 turns", units), None);
        assert_eq!(amount("1.5 turns", units), None);
    }

    #[test]
    fn a_share_is_at_most_everything() {
        assert_eq!(["10%", "2.5 %", "0%", "100%"].map(share), [0.1, 0.025, 0.0, 1.0].map(Some));
        assert_eq!(["10", "101%", "%", "-1%"].map(share), [None; 4]);
    }
}
