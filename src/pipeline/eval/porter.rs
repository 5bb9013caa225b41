//! Porter's stemmer with the extensions of NLTK, which `rouge_score` uses: figures of papers are made with this one, and
//! the Snowball stemmers differ from it. Knows words of a-z and 0-9.

/// Irregular forms, and what they become.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &[(&str, &str)] =
    &[("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// Returns the stem of a word in lower case.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || !word.is_ascii() {
        return word.to_owned();
    }
    let word = step_1c(step_1b(step_1a(word.to_owned())));
    step_5(step_4(rules(step_2(word), STEP_3)))
}

/// Whether each letter is a consonant; `y` is one where the letter before is none, and at the start.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for byte in word.bytes() {
        flags.push(match byte {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// The number of times a vowel is followed by a consonant: the paper's m.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

fn ends_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 2 && bytes[bytes.len() - 1] == bytes[bytes.len() - 2] && consonants(word).last() == Some(&true)
}

/// Consonant, vowel, consonant that is not w, x or y; or a vowel and a consonant alone.
fn ends_cvc(word: &str) -> bool {
    match consonants(word).as_slice() {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

/// The first rule whose ending fits decides, also where what is left is too short for it.
fn rules(word: String, rules: &[(&str, &str)]) -> String {
    for (ending, becomes) in rules {
        if let Some(stem) = word.strip_suffix(ending) {
            return if measure(stem) > 0 { format!("{stem}{becomes}") } else { word };
        }
    }
    word
}

fn step_1a(word: String) -> String {
    if word.len() == 4 && word.ends_with("ies") {
        return word[..3].to_owned();
    }
    for (ending, kept) in [("sses", 2), ("ies", 1), ("ss", 2), ("s", 0)] {
        if let Some(stem) = word.strip_suffix(ending) {
            return word[..stem.len() + kept].to_owned();
        }
    }
    word
}

fn step_1b(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word };
    }
    let stem = ["ed", "ing"].iter().filter_map(|ending| word.strip_suffix(ending)).find(|stem| has_vowel(stem));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"].iter().any(|ending| stem.ends_with(ending)) {
        return format!("{stem}e");
    }
    if ends_double_consonant(stem) {
        return if stem.ends_with(['l', 's', 'z']) { stem.to_owned() } else { stem[..stem.len() - 1].to_owned() };
    }
    if measure(stem) == 1 && ends_cvc(stem) { format!("{stem}e") } else { stem.to_owned() }
}

fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(word: String) -> String {
    if let Some(stem) = word.strip_suffix("alli")
        && measure(stem) > 0
    {
        return step_2(format!("{stem}al"));
    }
    if let Some((_, _)) = STEP_2.iter().find(|(ending, _)| word.ends_with(ending)) {
        return rules(word, STEP_2);
    }
    match word.strip_suffix("logi") {
        Some(_) if measure(&word[..word.len() - 3]) > 0 => word[..word.len() - 1].to_owned(),
        _ => word,
    }
}

fn step_4(word: String) -> String {
    for ending in STEP_4 {
        if let Some(stem) = word.strip_suffix(ending) {
            let fits = measure(stem) > 1 && (*ending != "ion" || stem.ends_with(['s', 't']));
            return if fits { stem.to_owned() } else { word };
        }
    }
    word
}

fn step_5(mut word: String) -> String {
    if let Some(stem) = word.strip_suffix('e') {
        let m = measure(stem);
        if m > 1 || m == 1 && !ends_cvc(stem) {
            word.truncate(word.len() - 1);
        }
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.truncate(word.len() - 1);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What NLTK's PorterStemmer gives.
    #[test]
    fn stems_are_those_of_nltk() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("flies", "fli"),
            ("dies", "die"),
            ("mules", "mule"),
            ("denied", "deni"),
            ("died", "die"),
            ("agreed", "agre"),
            ("owned", "own"),
            ("humbled", "humbl"),
            ("sized", "size"),
            ("meeting", "meet"),
            ("stating", "state"),
            ("itemization", "item"),
            ("sensational", "sensat"),
            ("traditional", "tradit"),
            ("reference", "refer"),
            ("colonizer", "colon"),
            ("plotted", "plot"),
            ("enjoyment", "enjoy"),
            ("happy", "happi"),
            ("controlling", "control"),
            ("archaeology", "archaeolog"),
            ("hopefully", "hope"),
            ("skies", "sky"),
            ("yyyyed", "yyyi"),
            ("2019", "2019"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
