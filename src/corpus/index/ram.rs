//! Passages in memory, looked through one by one: for a few documents at hand, and the truth that the index on the disk is
//! tested against.

use std::collections::{BTreeMap, HashMap};

use super::analysis::Language;
use super::closeness::{LOOKED_AT, Stands, Wanted, bonus, covers, weigh};
use super::disk::{put_in_order, with_context};
use super::fuse::fuse;
use super::passage::{Found, Hit, Passage};
use super::query::{Query, terms};
use super::schema::terms as passage_terms;
use super::{IndexError, Retriever};

/// The constants of the engine's BM25, for both answer alike.
const K1: f64 = 1.2;
const B: f64 = 0.75;
const FUSED_MIN: usize = 100;

/// Passages with their terms counted.
pub struct RamIndex {
    passages: Vec<Passage>,
    stands: Vec<HashMap<String, Vec<u32>>>, // the sentences that each term stands in, as often as it counts
    lengths: Vec<f64>,
    mean_length: f64,
    holding: HashMap<String, f64>, // passages that hold a term
    languages: Vec<Option<Language>>,
    vectors: Vec<Vec<f32>>,
    embedder: Option<String>,
    digest: String,
}

impl RamIndex {
    pub fn new(passages: Vec<Passage>) -> Self {
        let terms: Vec<Vec<(u32, String)>> = passages.iter().map(passage_terms).collect();
        let lengths: Vec<f64> = terms.iter().map(|t| t.len() as f64).collect();
        let places = |terms: Vec<(u32, String)>| {
            let mut places: HashMap<String, Vec<u32>> = HashMap::new();
            terms.into_iter().for_each(|(sentence, term)| places.entry(term).or_default().push(sentence));
            places
        };
        let stands: Vec<HashMap<String, Vec<u32>>> = terms.into_iter().map(places).collect();
        let mut holding: HashMap<String, f64> = HashMap::new();
        stands.iter().flat_map(|s| s.keys()).for_each(|t| *holding.entry(t.clone()).or_default() += 1.0);
        let mean_length = lengths.iter().sum::<f64>() / (lengths.len().max(1)) as f64;
        let mut present: BTreeMap<Option<Language>, usize> = BTreeMap::new();
        passages.iter().for_each(|p| *present.entry(Language::of_code(&p.language)).or_default() += 1);
        let languages = present.into_keys().collect();
        let mut hasher = blake3::Hasher::new();
        for passage in &passages {
            hasher.update(passage.id().as_bytes()).update(b"\0").update(passage.text.as_bytes()).update(b"\0");
        }
        let digest = hasher.finalize().to_hex().to_string();
        let (vectors, embedder) = (Vec::new(), None);
        Self { passages, stands, lengths, mean_length, holding, languages, vectors, embedder, digest }
    }

    /// Adds a vector for each passage.
    pub fn with_vectors(mut self, embedder: &str, vectors: Vec<Vec<f32>>) -> Self {
        assert_eq!(vectors.len(), self.passages.len(), "a vector for each passage");
        (self.vectors, self.embedder) = (vectors, Some(embedder.to_owned()));
        self
    }

    fn bm25(&self, index: usize, wanted: &[Wanted]) -> f64 {
        let norm = K1 * (1.0 - B + B * self.lengths[index] / self.mean_length);
        let score = |want: &Wanted| {
            let frequency = self.stands[index].get(&want.term).map_or(0.0, |s| s.len() as f64);
            f64::from(want.count) * want.rarity * frequency * (K1 + 1.0) / (frequency + norm)
        };
        wanted.iter().map(score).sum()
    }

    fn stands(&self, index: usize, wanted: &[Wanted]) -> Stands {
        wanted.iter().map(|w| self.stands[index].get(&w.term).cloned().unwrap_or_default()).collect()
    }

    /// The indices with their scores, the best first; equals by file and place.
    fn ranked(&self, mut scored: Vec<(usize, f64)>, top: usize) -> Vec<(usize, f64)> {
        let place = |i: usize| (&self.passages[i].file, self.passages[i].index);
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| place(a.0).cmp(&place(b.0))));
        scored.truncate(top);
        scored
    }
}

impl Retriever for RamIndex {
    fn retrieve(&self, query: &Query<'_>) -> Result<Vec<Hit>, IndexError> {
        let holding = |term: &str| Ok(self.holding.get(term).copied().unwrap_or(0.0));
        let wanted = weigh(terms(query.text, &self.languages), self.passages.len(), holding)?;
        let lets = |i: &usize| {
            let passage = &self.passages[*i];
            query.filter.lets_path(&passage.file) && query.filter.lets_fields(&passage.fields)
        };
        let allowed: Vec<usize> = (0..self.passages.len()).filter(lets).collect();
        let depth = if query.vector.is_some() { query.top.max(FUSED_MIN) } else { query.top };
        let words = allowed.iter().map(|i| (*i, self.bm25(*i, &wanted))).filter(|(_, s)| *s > 0.0).collect();
        let mut words = self.ranked(words, depth.max(LOOKED_AT));
        for (index, score) in words.iter_mut().take(LOOKED_AT) {
            *score += bonus(&wanted, &self.stands(*index, &wanted));
        }
        let words = self.ranked(words, depth);
        let cosine = |i: usize, v: &[f32]| self.vectors[i].iter().zip(v).map(|(a, b)| f64::from(a * b)).sum();
        let nearest = query.vector.filter(|_| !self.vectors.is_empty()).map(|v| {
            let scored = allowed.iter().map(|i| (*i, cosine(*i, v))).collect();
            self.ranked(scored, depth)
        });
        let rank = |list: &[(usize, f64)]| -> HashMap<usize, (usize, f64)> {
            list.iter().enumerate().map(|(rank, (i, score))| (*i, (rank + 1, *score))).collect()
        };
        let (in_words, in_vectors) = (rank(&words), rank(nearest.as_deref().unwrap_or_default()));
        let order = match &nearest {
            None => words,
            Some(nearest) => fuse(&[&words, nearest].map(|l| l.iter().map(|(i, _)| *i).collect::<Vec<_>>())),
        };
        let hit = |(i, score): (usize, f64)| {
            let passage = self.passages[i].clone();
            let covers = covers(&wanted, &self.stands(i, &wanted));
            let found = Found { words: in_words.get(&i).copied(), vectors: in_vectors.get(&i).copied(), covers };
            Hit { passage, score, found }
        };
        let mut hits: Vec<Hit> = order.into_iter().take(query.top).map(hit).collect();
        put_in_order(&mut hits);
        if query.context > 0 {
            let find = |file: &str, index: usize| {
                Ok(self.passages.iter().find(|p| p.file == file && p.index == index).cloned())
            };
            hits = with_context(hits, query.context, &find)?;
        }
        Ok(hits)
    }

    fn num_passages(&self) -> usize {
        self.passages.len()
    }

    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn embedder(&self) -> Option<&str> {
        self.embedder.as_deref()
    }
}
