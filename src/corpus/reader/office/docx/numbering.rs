//! The numbers and bullets of lists, which a file does not hold: they are counted as a word processor counts them.

use std::collections::HashMap;

use super::super::xml::{Node, Xml};

const MAX_LEVELS: usize = 9;

#[derive(Default)]
pub struct Numbering {
    kinds: HashMap<String, Vec<Level>>, // abstract numberings, by their ids
    lists: HashMap<String, (String, Vec<(usize, u64)>)>, // numberings: the abstract one, and starts of their own
    counters: HashMap<String, [Option<u64>; MAX_LEVELS]>, // by abstract numbering: lists of one kind go on counting
    begun: Vec<String>,                 // numberings with starts of their own that have been seen
}

#[derive(Clone, Default)]
struct Level {
    format: String,
    text: String, // `%1.%2.`
    start: u64,
}

impl Numbering {
    pub fn of(xml: &str) -> Self {
        let mut numbering = Self::default();
        let (mut kind, mut list, mut level) = (None::<String>, None::<String>, 0usize);
        for node in Xml::new(xml) {
            let tag = match node {
                Node::Open(tag) => tag,
                Node::Close(end) => {
                    match end.name() {
                        "abstractNum" => kind = None,
                        "num" => list = None,
                        _ => {}
                    }
                    continue;
                }
                Node::Text(_) => continue,
            };
            let value = || tag.attr("val").unwrap_or_default();
            match tag.name() {
                "abstractNum" => kind = tag.attr("abstractNumId"),
                "num" => list = tag.attr("numId"),
                "abstractNumId" => {
                    if let Some(list) = &list {
                        numbering.lists.entry(list.clone()).or_default().0 = value();
                    }
                }
                "lvl" | "lvlOverride" => level = tag.attr("ilvl").and_then(|v| v.parse().ok()).unwrap_or(0),
                "startOverride" => {
                    if let (Some(list), Ok(start)) = (&list, value().parse()) {
                        numbering.lists.entry(list.clone()).or_default().1.push((level, start));
                    }
                }
                "numFmt" | "lvlText" | "start" if level < MAX_LEVELS => {
                    let Some(kind) = &kind else { continue };
                    let levels = numbering.kinds.entry(kind.clone()).or_default();
                    levels.resize(levels.len().max(level + 1), Level { start: 1, ..Level::default() });
                    match tag.name() {
                        "numFmt" => levels[level].format = value(),
                        "lvlText" => levels[level].text = value(),
                        _ => levels[level].start = value().parse().unwrap_or(1),
                    }
                }
                _ => {}
            }
        }
        numbering
    }

    /// Counts an item and returns what stands before it: `-` for a bullet, else its number as it is written. `None`
    /// where the numbering is off.
    pub fn marker(&mut self, list: &str, depth: usize) -> Option<String> {
        let depth = depth.min(MAX_LEVELS - 1);
        if list == "0" {
            return None;
        }
        let Some((kind, starts)) = self.lists.get(list) else { return Some("-".into()) };
        let Some(levels) = self.kinds.get(kind).filter(|l| l.len() > depth) else { return Some("-".into()) };
        let counters = self.counters.entry(kind.clone()).or_default();
        if !starts.is_empty() && !self.begun.iter().any(|b| b == list) {
            self.begun.push(list.to_owned());
            for (level, start) in starts.iter().filter(|(level, _)| *level < MAX_LEVELS) {
                counters[*level] = start.checked_sub(1);
                counters[*level + 1..].fill(None);
            }
        }
        let start = levels[depth].start;
        let next = counters[depth].map_or(start, |n| n.saturating_add(1));
        counters[depth] = Some(next);
        counters[depth + 1..].fill(None);
        let level = &levels[depth];
        if matches!(level.format.as_str(), "bullet" | "none" | "") {
            return if level.format == "none" && level.text.is_empty() { None } else { Some("-".into()) };
        }
        let mut marker = level.text.clone();
        for (index, of) in levels.iter().enumerate().take(depth + 1) {
            let number = counters[index].unwrap_or(of.start);
            marker = marker.replace(&format!("%{}", index + 1), &written(number, &of.format));
        }
        Some(if marker.trim().is_empty() { "-".into() } else { marker.trim().to_owned() })
    }
}

fn written(number: u64, format: &str) -> String {
    match format {
        "lowerLetter" => letters(number, b'a'),
        "upperLetter" => letters(number, b'A'),
        "lowerRoman" => roman(number).to_lowercase(),
        "upperRoman" => roman(number),
        "decimalZero" => format!("{number:02}"),
        _ => number.to_string(),
    }
}

/// `a` to `z`, then `aa`, `bb`: as word processors go on.
fn letters(number: u64, first: u8) -> String {
    let Some(index) = number.checked_sub(1).filter(|n| *n < 26 * 8) else { return number.to_string() };
    char::from(first + (index % 26) as u8).to_string().repeat((index / 26 + 1) as usize)
}

fn roman(number: u64) -> String {
    const SIGNS: [(u64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&number) {
        return number.to_string();
    }
    let mut left = number;
    let mut text = String::new();
    for (value, sign) in SIGNS {
        while left >= value {
            text.push_str(sign);
            left -= value;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_as_a_word_processor_counts_them() {
        let xml = r#"<n><abstractNum abstractNumId="7"><lvl ilvl="0"><start val="1"/><numFmt val="decimal"/>
            <lvlText val="%1."/></lvl><lvl ilvl="1"><numFmt val="lowerLetter"/><lvlText val="%1.%2)"/></lvl></abstractNum>
            <num numId="1"><abstractNumId val="7"/></num><num numId="2"><abstractNumId val="7"/>
            <lvlOverride ilvl="0"><startOverride val="4"/></lvlOverride></num></n>"#;
        let mut numbering = Numbering::of(xml);
        let items = [("1", 0), ("1", 1), ("1", 1), ("1", 0), ("1", 1), ("2", 0), ("0", 0), ("9", 0)];
        let markers: Vec<_> =
            items.map(|(list, depth)| numbering.marker(list, depth).unwrap_or_else(|| "off".into())).into();
        assert_eq!(markers, ["1.", "1.a)", "1.b)", "2.", "2.a)", "4.", "off", "-"]);
        assert_eq!((roman(1994).as_str(), letters(27, b'a').as_str()), ("MCMXCIV", "aa"));
    }
}
