//! ROUGE as `rouge_score` computes it, with its tokens (a-z and 0-9) and its stemmer: figures can be held beside papers.
//! It knows nothing of other scripts, and says so: a reference without such tokens cannot be scored.

use std::collections::{BTreeSet, HashMap};

use super::porter::stem;

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Score {
    fn of(hits: usize, num_found: usize, num_wanted: usize) -> Self {
        let share = |of: usize| hits as f64 / of.max(1) as f64;
        let (precision, recall) = (share(num_found), share(num_wanted));
        let sum = precision + recall;
        Self { precision, recall, f1: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// Words of more letters are stemmed.
const SHORT: usize = 3;

/// Returns the tokens of a text, stemmed.
pub fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).filter(|w| !w.is_empty());
    words.map(|w| if w.len() > SHORT { stem(w) } else { w.to_owned() }).collect()
}

/// Returns ROUGE-N of `found` against `wanted`.
pub fn rouge_n(n: usize, wanted: &str, found: &str) -> Score {
    let (wanted, found) = (tokens(wanted), tokens(found));
    let counts = |tokens: &[String]| {
        let mut counts: HashMap<Vec<String>, usize> = HashMap::new();
        tokens.windows(n).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
        counts
    };
    let (of_wanted, of_found) = (counts(&wanted), counts(&found));
    let hits = of_wanted.iter().map(|(gram, n)| (*n).min(of_found.get(gram).copied().unwrap_or(0))).sum();
    let total = |tokens: &[String]| (tokens.len() + 1).saturating_sub(n);
    Score::of(hits, total(&found), total(&wanted))
}

/// Returns ROUGE-Lsum: the union of longest common subsequences, sentence by sentence; a line is a sentence.
pub fn rouge_lsum(wanted: &str, found: &str) -> Score {
    let lines = |text: &str| text.split('\n').filter(|l| !l.is_empty()).map(tokens).collect::<Vec<_>>();
    let (wanted, found) = (lines(wanted), lines(found));
    let total = |all: &[Vec<String>]| all.iter().map(Vec::len).sum::<usize>();
    let (num_wanted, num_found) = (total(&wanted), total(&found));
    if num_wanted == 0 || num_found == 0 {
        return Score::default();
    }
    let counts = |all: &[Vec<String>]| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        all.iter().flatten().for_each(|t| *counts.entry(t.clone()).or_default() += 1);
        counts
    };
    let (mut left_wanted, mut left_found) = (counts(&wanted), counts(&found));
    let mut hits = 0;
    for sentence in &wanted {
        let union: BTreeSet<usize> = found.iter().flat_map(|other| common(sentence, other)).collect();
        for token in union.into_iter().map(|at| &sentence[at]) {
            // No token counts twice.
            if let (Some(a), Some(b)) = (left_wanted.get_mut(token), left_found.get_mut(token))
                && *a > 0
                && *b > 0
            {
                (*a, *b, hits) = (*a - 1, *b - 1, hits + 1);
            }
        }
    }
    Score::of(hits, num_found, num_wanted)
}

/// Returns the places in `wanted` of one longest common subsequence: of several, the one `rouge_score` takes.
fn common(wanted: &[String], found: &[String]) -> Vec<usize> {
    let width = found.len() + 1;
    let mut table = vec![0_u32; (wanted.len() + 1) * width];
    for i in 1..=wanted.len() {
        for j in 1..=found.len() {
            table[i * width + j] = if wanted[i - 1] == found[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (wanted.len(), found.len());
    let mut places = Vec::new();
    while i > 0 && j > 0 {
        if wanted[i - 1] == found[j - 1] {
            places.push(i - 1);
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(score: Score, expected: [f64; 3]) {
        let got = [score.precision, score.recall, score.f1];
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {expected:?}");
    }

    /// Figures of rouge_score 0.1.2 with its stemmer.
    #[test]
    fn scores_are_those_of_rouge_score() {
        let wanted = "The committee decided to repair the kilns.\nBo pays for it in 2019.";
        let found = "It was decided that Bo repairs the kiln.\nHe is paying, the committee said.";
        near(rouge_n(1, wanted, found), [0.642857, 0.692308, 0.666667]);
        near(rouge_n(2, wanted, found), [0.230769, 0.250000, 0.240000]);
        near(rouge_lsum(wanted, found), [0.571429, 0.615385, 0.592593]);
    }

    #[test]
    fn nothing_scores_nothing() {
        assert_eq!(rouge_n(1, "", "x"), Score::default());
        assert_eq!(rouge_n(2, "one", "one"), Score::default());
        assert_eq!(rouge_lsum("\n", "x"), Score::default());
        assert!(tokens("我们 ж é").is_empty());
    }
}
