//! How good a ranking is, by judgements of people: nDCG, average precision and recall as trec_eval computes them, with
//! intervals. Knows rankings and grades, no index.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::bootstrap::interval as interval_of;

/// Grades by query and document; above 0 is relevant.
pub type Judgements = BTreeMap<String, BTreeMap<String, i64>>;

/// Recall is told at these depths.
pub const RECALL_AT: [usize; 4] = [1, 5, 10, 100];
/// Samples of the bootstrap.
const SAMPLES: usize = 2000;

/// What one ranking scored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    pub ndcg_10: f64,
    pub average_precision: f64,
    pub recall: [f64; 4], // at `RECALL_AT`
}

/// A mean over queries and the interval that holds it in 95 of 100 samples of the queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// Scores a ranking, the best first, against one query's grades. Without a relevant document all is 0.
pub fn score(ranking: &[&str], grades: &BTreeMap<String, i64>) -> Scores {
    let gain = |document: &str| grades.get(document).copied().filter(|g| *g > 0).unwrap_or(0);
    let discounted = |gains: &[i64]| {
        let terms = gains.iter().take(10).enumerate();
        terms.map(|(rank, g)| *g as f64 / (rank as f64 + 2.0).log2()).sum::<f64>()
    };
    let mut ideal: Vec<i64> = grades.values().copied().filter(|g| *g > 0).collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let relevant = ideal.len() as f64;
    if ideal.is_empty() {
        return Scores::default();
    }
    let mut seen = HashSet::new();
    let gains: Vec<i64> = ranking.iter().filter(|d| seen.insert(**d)).map(|d| gain(d)).collect();
    let mut found = 0.0;
    let mut precisions = 0.0;
    for (rank, _) in gains.iter().enumerate().filter(|(_, g)| **g > 0) {
        found += 1.0;
        precisions += found / (rank as f64 + 1.0);
    }
    let recall = RECALL_AT.map(|depth| gains.iter().take(depth).filter(|g| **g > 0).count() as f64 / relevant);
    Scores { ndcg_10: discounted(&gains) / discounted(&ideal), average_precision: precisions / relevant, recall }
}

/// Returns the mean and its interval by the bootstrap over queries; the same values always give the same interval.
pub fn interval(values: &[f64]) -> Interval {
    if values.is_empty() {
        return Interval { mean: 0.0, low: 0.0, high: 0.0 };
    }
    let mean = |sum: f64| sum / values.len() as f64;
    let of_sample = |places: &[usize]| Some(mean(places.iter().map(|at| values[*at]).sum()));
    let all = mean(values.iter().sum());
    let (low, high) = interval_of(values.len(), SAMPLES, of_sample).unwrap_or((all, all));
    Interval { mean: all, low, high }
}

/// Reads judgements: TREC (`query 0 document grade`) or BEIR (`query-id corpus-id score`, with or without its header).
/// The error names the line.
pub fn parse_judgements(text: &str) -> Result<Judgements, String> {
    let mut judgements = Judgements::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if number == 0 && words.first() == Some(&"query-id") {
            continue;
        }
        let (query, document, grade) = match words.as_slice() {
            [query, _, document, grade] => (query, document, grade),
            [query, document, grade] => (query, document, grade),
            _ => return Err(format!("line {}: {} words, a judgement has 3 or 4", number + 1, words.len())),
        };
        let grade = grade.parse().map_err(|_| format!("line {}: `{grade}` is no grade", number + 1))?;
        judgements.entry((*query).to_owned()).or_default().insert((*document).to_owned(), grade);
    }
    Ok(judgements)
}

/// Reads queries: BEIR (a line of JSON with `_id` and `text`), TREC topics in XML-like tags, or `id<TAB>text`.
pub fn parse_queries(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.contains("<top>") {
        return Ok(topics(text));
    }
    let mut queries = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        if line.trim_start().starts_with('{') {
            let value: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(&e.to_string()))?;
            let field = |names: &[&str]| names.iter().find_map(|n| value.get(n)?.as_str()).map(str::to_owned);
            let (Some(id), Some(text)) = (field(&["_id", "id"]), field(&["text", "question"])) else {
                return Err(wrong("a query has `_id` and `text`"));
            };
            queries.push((id, text));
        } else {
            let (id, text) = line.split_once('\t').ok_or_else(|| wrong("neither JSON nor `id<TAB>text`"))?;
            queries.push((id.trim().to_owned(), text.trim().to_owned()));
        }
    }
    Ok(queries)
}

/// The number and the title of each topic; where it has a description too, both are asked.
fn topics(text: &str) -> Vec<(String, String)> {
    let tag = |topic: &str, name: &str| {
        let from = topic.find(&format!("<{name}>"))? + name.len() + 2;
        let rest = &topic[from..];
        let body = rest.split('<').next().unwrap_or_default();
        let body = body.trim().trim_start_matches(|c: char| c.is_alphabetic() && name == "num").trim_start_matches(':');
        Some(body.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|b| !b.is_empty())
    };
    let topic = |topic: &str| {
        let id = tag(topic, "num")?;
        let words: Vec<String> = ["title", "desc"].iter().filter_map(|n| tag(topic, n)).collect();
        let words = words.join(" ");
        Some((id, words.strip_prefix("Description:").unwrap_or(&words).trim().to_owned()))
    };
    text.split("<top>").skip(1).filter_map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grades(list: &[(&str, i64)]) -> BTreeMap<String, i64> {
        list.iter().map(|(d, g)| (d.to_string(), *g)).collect()
    }

    /// Figures of trec_eval, by pytrec_eval.
    #[test]
    fn scores_are_those_of_trec_eval() {
        let scores = score(&["a", "x", "b", "y", "c"], &grades(&[("a", 1), ("b", 2), ("c", 1), ("d", 3), ("y", 0)]));
        assert!((scores.ndcg_10 - 0.459_670).abs() < 1e-5, "{scores:?}");
        assert!((scores.average_precision - 0.566_667).abs() < 1e-5, "{scores:?}");
        assert_eq!(scores.recall, [0.25, 0.75, 0.75, 0.75]);
        assert_eq!(score(&["a"], &grades(&[("b", 0)])), Scores::default());
        assert_eq!(score(&["a", "a"], &grades(&[("a", 1)])).average_precision, 1.0);
    }

    #[test]
    fn an_interval_holds_its_mean_and_is_the_same_each_time() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10) / 10.0).collect();
        let found = interval(&values);
        assert!(found.low < found.mean && found.mean < found.high && found.high - found.low < 0.1, "{found:?}");
        assert_eq!(found, interval(&values));
        assert_eq!(interval(&[]).mean, 0.0);
    }

    #[test]
    fn both_formats_of_judgements_and_queries_are_read() {
        let trec = parse_judgements("1 0 d1 2\n1 0 d2 0\n").unwrap();
        let beir = parse_judgements("query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n").unwrap();
        assert_eq!(trec, beir);
        assert!(parse_judgements("1 2\n").unwrap_err().contains("line 1"));
        let expected = vec![("1".to_owned(), "a b".to_owned())];
        assert_eq!(parse_queries("{\"_id\":\"1\",\"text\":\"a b\"}\n").unwrap(), expected);
        assert_eq!(parse_queries("1\ta b\n").unwrap(), expected);
        assert_eq!(parse_queries("<top>\n<num> Number: 1\n<title> a b\n</top>").unwrap(), expected);
        assert!(parse_queries("no tab").unwrap_err().contains("line 1"));
    }
}
