//! An index on the disk, read as of one commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tantivy::collector::{DocSetCollector, TopDocs};
use tantivy::directory::MmapDirectory;
use tantivy::fastfield::Column;
use tantivy::postings::Postings;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, TermQuery, TermSetQuery};
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{DocAddress, DocSet, Index, ReloadPolicy, Searcher, TantivyDocument, Term};

use super::analysis::Language;
use super::closeness::{LOOKED_AT, Stands, Wanted, bonus, covers, weigh};
use super::fuse::fuse;
use super::layout::{Layout, Settings};
use super::passage::{Found, Hit, Passage, join, passage_id};
use super::query::{Filter, Query, terms};
use super::schema::{Fields, Payload, fact};
use super::vectors::{Segment, nearest};
use super::{FileTable, IndexError, Retriever};

/// Each list of a fused search is this long at the least.
const FUSED_MIN: usize = 100;
/// So many more than asked for are looked at, for equals at the end of the list to be put in order.
const TIED: usize = 32;
/// A writer may tidy up files between our reading of the commit and our opening of them: so often we look again.
const ATTEMPTS: usize = 20;

/// An index as it was when it was opened: a writer changes nothing of it.
pub struct DiskIndex {
    folder: PathBuf,
    settings: Settings,
    searcher: Searcher,
    fields: Fields,
    table: FileTable,
    languages: Vec<Option<Language>>,
    opstamp: u64,
    table_name: String,     // the hash of the table
    rows: Vec<Column<u64>>, // of each segment of the text: the number of each passage
    segments: Vec<Segment>,
    places: Vec<Vec<Option<DocAddress>>>, // of each segment's rows; `None`: no longer there
}

/// What an index holds.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub files: usize,
    pub failed: usize,
    pub passages: u64,
    pub languages: BTreeMap<String, u64>, // passages of each; `other` where it has no analysis of its own
    pub embedder: Option<String>,
    pub vectors: usize, // rows, those of removed passages included
    pub dims: usize,
    pub text_segments: usize,
    pub bytes: u64, // on the disk
    pub commit: u64,
}

/// The text engine's part of a folder, and what its last commit says.
pub(super) fn open_text(layout: &Layout) -> Result<(Index, Fields, Payload, u64), IndexError> {
    let folder = &layout.folder;
    let text = |e| IndexError::text(folder, e);
    let directory = MmapDirectory::open(layout.text()).map_err(|e| text(e.into()))?;
    if !Index::exists(&directory).map_err(|e| text(e.into()))? {
        return Err(IndexError::Missing { path: folder.clone() });
    }
    let index = Index::open(directory).map_err(text)?;
    let fields = Fields::of(&index).ok_or_else(|| IndexError::damaged(folder, "text/meta.json names other fields"))?;
    let metas = index.load_metas().map_err(text)?;
    let payload = Payload::open(metas.payload.as_deref(), folder)?;
    Ok((index, fields, payload, metas.opstamp))
}

impl DiskIndex {
    /// Opens the last commit.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let layout = Layout::new(folder);
        let settings = layout.settings()?;
        let mut attempt = 1;
        loop {
            match Self::open_once(&layout, &settings) {
                Ok(Some(index)) => return Ok(index),
                // Another commit came between; its files are there now.
                Ok(None) if attempt < ATTEMPTS => {}
                Err(IndexError::Damaged { .. } | IndexError::Io { .. })
                    if attempt < ATTEMPTS && Self::has_moved(&layout) => {}
                Ok(None) => return Err(IndexError::Locked { path: folder.to_owned() }),
                Err(error) => return Err(error),
            }
            attempt += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Whether a writer is at work, so that what was missing may have been replaced.
    fn has_moved(layout: &Layout) -> bool {
        matches!(layout.lock(), Err(IndexError::Locked { .. }))
    }

    fn open_once(layout: &Layout, settings: &Settings) -> Result<Option<Self>, IndexError> {
        let folder = &layout.folder;
        let text = |e| IndexError::text(folder, e);
        let (index, fields, payload, opstamp) = open_text(layout)?;
        let table = match payload.files.as_str() {
            "" => FileTable::default(),
            name => FileTable::read(&layout.files(), name)?,
        };
        let segments =
            payload.vectors.iter().map(|n| Segment::open(&layout.vectors(), n)).collect::<Result<Vec<_>, _>>()?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(text)?;
        if index.load_metas().map_err(text)?.opstamp != opstamp {
            return Ok(None);
        }
        let searcher = reader.searcher();
        let rows = searcher.segment_readers().iter().map(|r| r.fast_fields().u64("row"));
        let rows = rows.collect::<tantivy::Result<Vec<_>>>().map_err(text)?;
        if let Some(odd) = segments.iter().find(|s| s.dims() != payload.dims) {
            let fact = format!("vectors/{} has {} dimensions, the commit {}", odd.name(), odd.dims(), payload.dims);
            return Err(IndexError::damaged(folder, fact));
        }
        let places = if segments.is_empty() { Vec::new() } else { places(&searcher, &rows, &segments) };
        let languages = table.languages().into_iter().map(|(l, _)| l).collect();
        let (folder, settings) = (folder.clone(), settings.clone());
        let table_name = payload.files;
        Ok(Some(Self {
            folder,
            settings,
            searcher,
            fields,
            table,
            languages,
            opstamp,
            table_name,
            rows,
            segments,
            places,
        }))
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn table(&self) -> &FileTable {
        &self.table
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many passages have no vector; `None` where none is meant to have one.
    pub(super) fn without_vectors(&self) -> Option<u64> {
        let with = self.places.iter().flatten().flatten().collect::<HashSet<_>>().len() as u64;
        self.settings.embedder.as_ref().map(|_| self.num_documents().saturating_sub(with))
    }

    pub(super) fn num_documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    pub fn stats(&self) -> Stats {
        let languages = self.table.languages().into_iter();
        let failed = self.table.files.values().filter(|f| f.state != super::FileState::Indexed).count();
        Stats {
            files: self.table.files.len() - failed,
            failed,
            passages: self.table.num_passages(),
            languages: languages.map(|(l, n)| (l.map_or("other", Language::code).to_owned(), n)).collect(),
            embedder: self.settings.embedder.clone(),
            vectors: self.segments.iter().map(Segment::num_rows).sum(),
            dims: self.segments.first().map_or(0, Segment::dims),
            text_segments: self.searcher.segment_readers().len(),
            bytes: folder_bytes(&self.folder),
            commit: self.opstamp,
        }
    }

    /// Returns a passage by its file and number.
    pub fn passage(&self, file: &str, index: usize) -> Result<Option<Passage>, IndexError> {
        let term = Term::from_field_text(self.fields.id, &passage_id(file, index));
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        let found = self.searcher.search(&query, &DocSetCollector).map_err(|e| self.text(e))?;
        found.into_iter().next().map(|address| self.load(address)).transpose()
    }

    fn text(&self, error: tantivy::TantivyError) -> IndexError {
        IndexError::text(&self.folder, error)
    }

    fn load(&self, address: DocAddress) -> Result<Passage, IndexError> {
        let document: TantivyDocument = self.searcher.doc(address).map_err(|e| self.text(e))?;
        let bytes = document.get_first(self.fields.passage).and_then(|v| v.as_bytes());
        let passage = bytes.and_then(|b| serde_json::from_slice(b).ok());
        passage.ok_or_else(|| IndexError::damaged(&self.folder, "a passage cannot be read back"))
    }

    /// The passages that a filter lets through, as a query; `None` where it lets all.
    fn filter_query(&self, filter: &Filter) -> Option<Box<dyn tantivy::query::Query>> {
        if filter.is_empty() {
            return None;
        }
        let mut musts: Vec<(Occur, Box<dyn tantivy::query::Query>)> = Vec::new();
        let set = |terms: Vec<Term>| -> Box<dyn tantivy::query::Query> { Box::new(TermSetQuery::new(terms)) };
        for (name, values) in &filter.fields {
            let terms = values.iter().map(|v| Term::from_field_text(self.fields.facts, &fact(name, v))).collect();
            musts.push((Occur::Must, set(terms)));
        }
        if !filter.paths.is_empty() {
            let files = self.table.files.keys().filter(|f| filter.lets_path(f));
            let terms = files.map(|f| Term::from_field_text(self.fields.file, f)).collect();
            musts.push((Occur::Must, set(terms)));
        }
        Some(Box::new(BooleanQuery::new(musts)))
    }

    /// The best by words, as (address, score).
    fn by_words(
        &self,
        wanted: &[Wanted],
        filter: Option<&dyn tantivy::query::Query>,
        top: usize,
    ) -> Result<Vec<(DocAddress, f64)>, IndexError> {
        if wanted.is_empty() || top == 0 {
            return Ok(Vec::new());
        }
        let mut query = self.any_of(wanted);
        if let Some(filter) = filter {
            let filter = ConstScoreQuery::new(filter.box_clone(), 0.0);
            query = BooleanQuery::new(vec![(Occur::Must, Box::new(query)), (Occur::Must, Box::new(filter))]);
        }
        let best = TopDocs::with_limit(top.max(LOOKED_AT) + TIED).order_by_score();
        let found = self.searcher.search(&query, &best).map_err(|e| self.text(e))?;
        // The engine leaves equals in the order of its segments, which threads decide; rows are the same each time.
        let row = |address: DocAddress| self.rows[address.segment_ord as usize].first(address.doc_id);
        let with_row = |(score, address)| (f64::from(score), row(address), address);
        let mut ranked: Vec<(f64, Option<u64>, DocAddress)> = found.into_iter().map(with_row).collect();
        let order = |a: &(f64, Option<u64>, DocAddress), b: &(f64, Option<u64>, DocAddress)| {
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
        };
        ranked.sort_by(order);
        let first = if wanted.iter().any(Wanted::is_pair) { ranked.len().min(LOOKED_AT) } else { 0 };
        let stands = self.stands(ranked[..first].iter().map(|(_, _, address)| *address).collect(), wanted)?;
        for (score, _, address) in &mut ranked[..first] {
            *score += bonus(wanted, &stands[address]);
        }
        ranked[..first].sort_by(order);
        ranked.truncate(top);
        Ok(ranked.into_iter().map(|(score, _, address)| (address, score)).collect())
    }

    /// Passages that hold any of the terms, scored by BM25.
    fn any_of(&self, wanted: &[Wanted]) -> BooleanQuery {
        /// The engine leaves out what cannot be among the best only where all is plain terms, so a term that is asked
        /// for twice stands there twice. For many terms the search for what to leave out costs more than it saves.
        const MOST_PRUNED: u32 = 64;
        let is_short = wanted.iter().map(|w| w.count).sum::<u32>() <= MOST_PRUNED;
        let mut clauses: Vec<(Occur, Box<dyn tantivy::query::Query>)> = Vec::new();
        for want in wanted {
            let term = Term::from_field_text(self.fields.terms, &want.term);
            let one = TermQuery::new(term, IndexRecordOption::WithFreqs);
            if is_short {
                (0..want.count).for_each(|_| clauses.push((Occur::Should, Box::new(one.clone()))));
            } else {
                clauses.push((Occur::Should, Box::new(BoostQuery::new(Box::new(one), want.count as f32))));
            }
        }
        BooleanQuery::new(clauses)
    }

    /// Where in each of some passages each term stands.
    fn stands(
        &self,
        mut addresses: Vec<DocAddress>,
        wanted: &[Wanted],
    ) -> Result<HashMap<DocAddress, Stands>, IndexError> {
        addresses.sort_unstable(); // postings are read forwards
        addresses.dedup();
        let mut stands: HashMap<DocAddress, Stands> =
            addresses.iter().map(|a| (*a, vec![Vec::new(); wanted.len()])).collect();
        let mut sentences = Vec::new();
        for of_segment in addresses.chunk_by(|a, b| a.segment_ord == b.segment_ord) {
            let reader = self.searcher.segment_reader(of_segment[0].segment_ord);
            let inverted = reader.inverted_index(self.fields.terms).map_err(|e| self.text(e))?;
            for (number, want) in wanted.iter().enumerate() {
                let term = Term::from_field_text(self.fields.terms, &want.term);
                let postings = inverted.read_postings(&term, IndexRecordOption::WithFreqsAndPositions);
                let Some(mut postings) = postings.map_err(|e| self.text(e.into()))? else { continue };
                for address in of_segment {
                    if postings.doc() < address.doc_id {
                        postings.seek(address.doc_id);
                    }
                    if postings.doc() == address.doc_id {
                        postings.positions(&mut sentences);
                        if let Some(places) = stands.get_mut(address) {
                            places[number].clone_from(&sentences);
                        }
                    }
                }
            }
        }
        Ok(stands)
    }

    /// The best by vectors, as (address, cosine).
    fn by_vectors(
        &self,
        vector: &[f32],
        filter: Option<&dyn tantivy::query::Query>,
        top: usize,
    ) -> Result<Vec<(DocAddress, f64)>, IndexError> {
        if let Some(segment) = self.segments.first().filter(|s| s.dims() != vector.len()) {
            let fact = format!("has vectors of {} dimensions, the question's has {}", segment.dims(), vector.len());
            return Err(IndexError::Mismatch { path: self.folder.clone(), fact });
        }
        let allowed: Option<HashSet<DocAddress>> = match filter {
            Some(filter) => Some(self.searcher.search(filter, &DocSetCollector).map_err(|e| self.text(e))?),
            None => None,
        };
        let lets = |s: usize, i: usize| {
            self.places[s][i].is_some_and(|place| allowed.as_ref().is_none_or(|allowed| allowed.contains(&place)))
        };
        let found = nearest(&self.segments, vector, top, &lets)?;
        Ok(found.into_iter().filter_map(|(s, i, score)| Some((self.places[s][i]?, f64::from(score)))).collect())
    }
}

impl Retriever for DiskIndex {
    fn retrieve(&self, query: &Query<'_>) -> Result<Vec<Hit>, IndexError> {
        let holding = |term: &str| {
            let count = self.searcher.doc_freq(&Term::from_field_text(self.fields.terms, term));
            count.map(|n| n as f64).map_err(|e| self.text(e))
        };
        let wanted = weigh(terms(query.text, &self.languages), self.num_passages(), holding)?;
        let filter = self.filter_query(query.filter);
        let filter = filter.as_deref();
        let depth = if query.vector.is_some() { query.top.max(FUSED_MIN) } else { query.top };
        let words = self.by_words(&wanted, filter, depth)?;
        let nearest = query.vector.map(|v| self.by_vectors(v, filter, depth)).transpose()?;
        let ranked = |list: &[(DocAddress, f64)]| -> HashMap<DocAddress, (usize, f64)> {
            list.iter().enumerate().map(|(i, (address, score))| (*address, (i + 1, *score))).collect()
        };
        let (in_words, in_vectors) = (ranked(&words), ranked(nearest.as_deref().unwrap_or_default()));
        let order: Vec<(DocAddress, f64)> = match &nearest {
            None => words,
            Some(nearest) => {
                let lists = [&words, nearest].map(|l| l.iter().map(|(a, _)| *a).collect::<Vec<_>>());
                fuse(&lists)
            }
        };
        let order: Vec<(DocAddress, f64)> = order.into_iter().take(query.top).collect();
        let stands = self.stands(order.iter().map(|(address, _)| *address).collect(), &wanted)?;
        let mut hits = Vec::new();
        for (address, score) in order {
            let passage = self.load(address)?;
            let covers = covers(&wanted, &stands[&address]);
            let found =
                Found { words: in_words.get(&address).copied(), vectors: in_vectors.get(&address).copied(), covers };
            hits.push(Hit { passage, score, found });
        }
        put_in_order(&mut hits);
        if query.context > 0 {
            hits = with_context(hits, query.context, &|file, index| self.passage(file, index))?;
        }
        Ok(hits)
    }

    fn num_passages(&self) -> usize {
        self.searcher.num_docs() as usize
    }

    fn digest(&self) -> String {
        // The table says of each file which bytes were read; with how they were read and cut that is everything.
        let made =
            serde_json::json!([self.table_name, self.settings.read, self.settings.split, self.settings.embedder]);
        blake3::hash(made.to_string().as_bytes()).to_hex().to_string()
    }

    fn embedder(&self) -> Option<&str> {
        self.settings.embedder.as_deref()
    }
}

/// Where the rows of each segment of vectors stand now.
fn places(searcher: &Searcher, rows: &[Column<u64>], segments: &[Segment]) -> Vec<Vec<Option<DocAddress>>> {
    let mut by_row = HashMap::new();
    for ((ordinal, reader), rows) in (0u32..).zip(searcher.segment_readers()).zip(rows) {
        for doc in reader.doc_ids_alive() {
            if let Some(row) = rows.first(doc) {
                by_row.insert(row, DocAddress::new(ordinal, doc));
            }
        }
    }
    let of = |segment: &Segment| (0..segment.num_rows()).map(|i| by_row.get(&segment.row(i)).copied()).collect();
    segments.iter().map(of).collect()
}

/// What a term weighs that so many of all passages hold. One that none holds weighs as the rarest that is there.
pub(super) fn rarity(holding: f64, all: f64) -> f64 {
    let holding = holding.max(1.0);
    (1.0 + (all - holding + 0.5).max(0.5) / (holding + 0.5)).ln()
}

/// The best first; equals by file and place.
pub(super) fn put_in_order(hits: &mut [Hit]) {
    hits.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (&a.passage.file, a.passage.index).cmp(&(&b.passage.file, b.passage.index)))
    });
}

/// Finds a passage by its file and its number there.
pub(super) type Neighbour<'a> = dyn Fn(&str, usize) -> Result<Option<Passage>, IndexError> + 'a;

/// Joins each hit with its neighbours. A hit that a better one has taken in is not given twice.
pub(super) fn with_context(hits: Vec<Hit>, context: usize, passage: &Neighbour<'_>) -> Result<Vec<Hit>, IndexError> {
    let mut taken: HashSet<(String, usize)> = HashSet::new();
    let mut joined = Vec::new();
    for hit in hits {
        let (file, index) = (hit.passage.file.clone(), hit.passage.index);
        if taken.contains(&(file.clone(), index)) {
            continue;
        }
        let is_free = |i: usize| !taken.contains(&(file.clone(), i));
        let mut parts = std::collections::VecDeque::from([hit.passage.clone()]);
        for i in (index.saturating_sub(context)..index).rev() {
            match passage(&file, i)?.filter(|_| is_free(i)) {
                Some(part) => parts.push_front(part),
                None => break,
            }
        }
        for i in index + 1..=index + context {
            match passage(&file, i)?.filter(|_| is_free(i)) {
                Some(part) => parts.push_back(part),
                None => break,
            }
        }
        taken.extend(parts.iter().map(|p| (file.clone(), p.index)));
        let whole = join(parts.make_contiguous()).unwrap_or_else(|| hit.passage.clone());
        joined.push(Hit { passage: Passage { index, ..whole }, ..hit });
    }
    Ok(joined)
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |e: std::fs::DirEntry| match e.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&e.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0, // gone since: a writer tidies up
    };
    entries.map(size).sum()
}
