//! Vectors in flat files: rows of int8 to search through, the same rows in f32 to put the best in order exactly.
//! Memory maps come from the text engine's own directory; a file that is in use may be removed.
//!
//! ```text
//! "QVEC0001" · dims u32 · num_rows u32 · rows u64 × n · scales f32 × n · int8 × n·dims · f32 × n·dims · blake3 (32 bytes)
//! ```
//! Little-endian throughout. A row's f32 values are `int8 × scale` to within half a scale.

use std::io::{self, Write};
use std::path::Path;

use rayon::prelude::*;
use tantivy::directory::{Directory, MmapDirectory, OwnedBytes};

use super::IndexError;
use super::layout::write_durably;

const MAGIC: &[u8; 8] = b"QVEC0001";
const HEADER_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// The best of the int8 scan that are scored again exactly, at the least.
const RESCORED_MIN: usize = 200;
/// Rows that one task scans.
const SCAN_ROWS: usize = 4096;

/// One file of vectors.
pub(super) struct Segment {
    name: String,
    bytes: OwnedBytes,
    dims: usize,
    num_rows: usize,
    #[cfg(feature = "usearch")]
    graph: Option<super::graph::Graph>,
}

impl Segment {
    /// Opens a segment and checks that its parts have the lengths its header says; [`Segment::verify`] reads it all.
    pub fn open(folder: &Path, name: &str) -> Result<Self, IndexError> {
        let damaged = |fact: &str| IndexError::damaged(folder, format!("vectors/{name} {fact}"));
        let directory = MmapDirectory::open(folder).map_err(|e| IndexError::text(folder, e.into()))?;
        let slice = directory.open_read(Path::new(name)).map_err(|e| match e {
            tantivy::directory::error::OpenReadError::FileDoesNotExist(_) => damaged("is missing"),
            other => IndexError::text(folder, other.into()),
        })?;
        let bytes = slice.read_bytes().map_err(|e| IndexError::io(&folder.join(name), e))?;
        if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
            return Err(damaged("does not begin as a file of vectors"));
        }
        let count = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        let (dims, num_rows) = (count(8), count(12));
        let expected = dims
            .checked_mul(5)
            .and_then(|n| n.checked_add(12)?.checked_mul(num_rows)?.checked_add(HEADER_BYTES + HASH_BYTES));
        if expected != Some(bytes.len()) {
            return Err(damaged("has another length than its header says"));
        }
        Ok(Self {
            name: name.to_owned(),
            bytes,
            dims,
            num_rows,
            #[cfg(feature = "usearch")]
            graph: super::graph::Graph::open(folder, name, dims, num_rows)?,
        })
    }

    /// Reads the whole file and holds it against its hash.
    pub fn verify(&self) -> bool {
        let (content, hash) = self.bytes.split_at(self.bytes.len() - HASH_BYTES);
        blake3::hash(content).as_bytes() == hash
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    pub fn row(&self, index: usize) -> u64 {
        let at = HEADER_BYTES + index * 8;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    fn scale(&self, index: usize) -> f32 {
        f32_at(&self.bytes, HEADER_BYTES + self.num_rows * 8 + index * 4)
    }

    pub fn small(&self, index: usize) -> &[u8] {
        let at = HEADER_BYTES + self.num_rows * 12 + index * self.dims;
        &self.bytes[at..at + self.dims]
    }

    fn exact(&self, index: usize) -> &[u8] {
        let at = HEADER_BYTES + self.num_rows * (12 + self.dims) + index * self.dims * 4;
        &self.bytes[at..at + self.dims * 4]
    }
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Returns the vector as int8 and what one of its units is worth.
fn quantize(vector: &[f32]) -> (Vec<i8>, f32) {
    let most = vector.iter().fold(0f32, |m, v| m.max(v.abs()));
    if most == 0.0 || !most.is_finite() {
        return (vec![0; vector.len()], 0.0);
    }
    let scale = most / 127.0;
    (vector.iter().map(|v| (v / scale).round().clamp(-127.0, 127.0) as i8).collect(), scale)
}

/// Writes a segment; `vectors` stand in the order of `rows`.
pub(super) fn write(path: &Path, rows: &[u64], dims: usize, vectors: &[Vec<f32>]) -> Result<(), IndexError> {
    assert_eq!(rows.len(), vectors.len(), "a row for each vector");
    assert!(vectors.iter().all(|v| v.len() == dims), "every vector has {dims} dimensions");
    let quantized: Vec<(Vec<i8>, f32)> = vectors.iter().map(|v| quantize(v)).collect();
    write_parts(path, dims, rows.len(), |out| {
        rows.iter().try_for_each(|r| out.write_all(&r.to_le_bytes()))?;
        quantized.iter().try_for_each(|(_, s)| out.write_all(&s.to_le_bytes()))?;
        for (small, _) in &quantized {
            let bytes: Vec<u8> = small.iter().map(|v| *v as u8).collect();
            out.write_all(&bytes)?;
        }
        vectors.iter().flatten().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    })
}

/// Writes the rows that still live, of several segments, as one.
pub(super) fn merge(path: &Path, segments: &[Segment], lives: &dyn Fn(u64) -> bool) -> Result<usize, IndexError> {
    let dims = segments.first().map_or(0, Segment::dims);
    let kept: Vec<(&Segment, usize)> = segments
        .iter()
        .flat_map(|s| (0..s.num_rows()).map(move |i| (s, i)))
        .filter(|(s, i)| lives(s.row(*i)))
        .collect();
    write_parts(path, dims, kept.len(), |out| {
        kept.iter().try_for_each(|(s, i)| out.write_all(&s.row(*i).to_le_bytes()))?;
        kept.iter().try_for_each(|(s, i)| out.write_all(&s.scale(*i).to_le_bytes()))?;
        kept.iter().try_for_each(|(s, i)| out.write_all(s.small(*i)))?;
        kept.iter().try_for_each(|(s, i)| out.write_all(s.exact(*i)))
    })?;
    Ok(kept.len())
}

/// Hashes what goes by.
struct Hashing<'a, 'f> {
    out: &'a mut io::BufWriter<&'f std::fs::File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_parts(
    path: &Path,
    dims: usize,
    num_rows: usize,
    parts: impl FnOnce(&mut Hashing<'_, '_>) -> io::Result<()>,
) -> Result<(), IndexError> {
    let count =
        |n: usize| u32::try_from(n).map_err(|_| io::Error::other(format!("{n} rows are too many for one file")));
    write_durably(path, |out| {
        let mut out = Hashing { out, hasher: blake3::Hasher::new() };
        out.write_all(MAGIC)?;
        out.write_all(&count(dims)?.to_le_bytes())?;
        out.write_all(&count(num_rows)?.to_le_bytes())?;
        parts(&mut out)?;
        let hash = out.hasher.finalize();
        out.out.write_all(hash.as_bytes())
    })
}

/// Whether a row of a segment may be looked at.
pub(super) type Lets<'a> = dyn Fn(usize, usize) -> bool + Sync + 'a;

/// Returns the nearest rows as (segment, index in it, cosine), the best first: a scan of int8, or a walk along the
/// graph of a segment that has one, then exact scores. `lets` says which rows may be looked at.
pub(super) fn nearest(
    segments: &[Segment],
    question: &[f32],
    top: usize,
    lets: &Lets<'_>,
) -> Result<Vec<(usize, usize, f32)>, IndexError> {
    let (small, _) = quantize(question);
    let keep = (top * 4).max(RESCORED_MIN);
    let (mut best, scanned) = walk(segments, &small, keep, lets)?;
    let blocks: Vec<(usize, usize)> = scanned
        .into_iter()
        .flat_map(|s| (0..segments[s].num_rows()).step_by(SCAN_ROWS).map(move |from| (s, from)))
        .collect();
    let scan = |(s, from): (usize, usize)| {
        let segment = &segments[s];
        let rows = from..(from + SCAN_ROWS).min(segment.num_rows());
        let scored = rows.filter(|i| lets(s, *i)).map(|i| (near(&small, segment, i), s, i));
        best_of(scored.collect(), keep)
    };
    best.par_extend(blocks.into_par_iter().flat_map_iter(scan));
    best = best_of(best, keep);
    let mut exact: Vec<(usize, usize, f32)> = best
        .into_iter()
        .map(|(_, s, i)| {
            let row = segments[s].exact(i);
            let score = question.iter().enumerate().map(|(d, q)| q * f32_at(row, d * 4)).sum();
            (s, i, score)
        })
        .collect();
    exact.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
    exact.truncate(top);
    Ok(exact)
}

/// About how near a row is, as int8 tells.
fn near(question: &[i8], segment: &Segment, index: usize) -> f32 {
    dot(question, segment.small(index)) * segment.scale(index)
}

/// A row that may be among the nearest: about how near it is, its segment and its place there.
type Candidate = (f32, usize, usize);

/// Candidates of the segments that have a graph, and the segments that are left to be scanned.
#[cfg(feature = "usearch")]
fn walk(
    segments: &[Segment],
    question: &[i8],
    keep: usize,
    lets: &Lets<'_>,
) -> Result<(Vec<Candidate>, Vec<usize>), IndexError> {
    let (mut best, mut scanned) = (Vec::new(), Vec::new());
    for (s, segment) in segments.iter().enumerate() {
        let Some(graph) = &segment.graph else {
            scanned.push(s);
            continue;
        };
        let found = graph.nearest(question, keep, &|i| lets(s, i));
        let fact = |e| IndexError::damaged(Path::new(&segment.name), format!("its graph cannot be searched: {e}"));
        best.extend(found.map_err(fact)?.into_iter().map(|i| (near(question, segment, i), s, i)));
    }
    Ok((best, scanned))
}

#[cfg(not(feature = "usearch"))]
fn walk(segments: &[Segment], _: &[i8], _: usize, _: &Lets<'_>) -> Result<(Vec<Candidate>, Vec<usize>), IndexError> {
    Ok((Vec::new(), (0..segments.len()).collect()))
}

fn best_of(mut scored: Vec<Candidate>, keep: usize) -> Vec<Candidate> {
    let order = |a: &Candidate, b: &Candidate| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2)));
    if scored.len() > keep {
        scored.select_nth_unstable_by(keep, order);
        scored.truncate(keep);
    }
    scored
}

/// The dot product of two rows of int8; sums of 2^16 products fit an i32.
fn dot(a: &[i8], b: &[u8]) -> f32 {
    // Sums of their own side by side: less than half the time of one sum (115,000 rows of 384 on one core, 4 ms for 10).
    const LANES: usize = 16;
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    let product = |x: i8, y: u8| i32::from(i16::from(x) * i16::from(y as i8)); // at most 127 * 128
    let mut sums = [0i32; LANES];
    for (x, y) in a_whole.iter().zip(b_whole) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += product(x[i], y[i]);
        }
    }
    let rest: i32 = a_rest.iter().zip(b_rest).map(|(x, y)| product(*x, *y)).sum();
    (sums.iter().sum::<i32>() + rest) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_in_lanes_is_the_plain_sum_at_every_length() {
        for length in 0..70 {
            let a: Vec<i8> = (0..length).map(|i| (i * 37 % 255 - 127) as i8).collect();
            let b: Vec<u8> = (0..length).map(|i| ((i * 91 % 255 - 127) as i8) as u8).collect();
            let plain: i32 = a.iter().zip(&b).map(|(x, y)| i32::from(*x) * i32::from(*y as i8)).sum();
            assert_eq!(dot(&a, &b), plain as f32, "{length}");
        }
    }

    /// Vectors of length 1, the same on every machine.
    fn vectors(count: usize, dims: usize) -> Vec<Vec<f32>> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let one = |_| {
            let vector: Vec<f32> = (0..dims).map(|_| next()).collect();
            let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            vector.into_iter().map(|v| v / length).collect()
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_scan_finds_what_exact_scores_find() {
        let folder = tempfile::tempdir().unwrap();
        let all = vectors(3000, 48);
        write(&folder.path().join("a.qvec"), &(0..2000).collect::<Vec<_>>(), 48, &all[..2000]).unwrap();
        write(&folder.path().join("b.qvec"), &(2000..3000).collect::<Vec<_>>(), 48, &all[2000..]).unwrap();
        let segments = ["a.qvec", "b.qvec"].map(|n| Segment::open(folder.path(), n).unwrap());
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        for question in vectors(20, 48) {
            let mut expected: Vec<(u64, f32)> = (0..).zip(all.iter().map(|v| cosine(&question, v))).collect();
            expected.retain(|(row, _)| row % 3 != 0);
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            let found = nearest(&segments, &question, 10, &|s, i| !segments[s].row(i).is_multiple_of(3)).unwrap();
            let found: Vec<u64> = found.into_iter().map(|(s, i, _)| segments[s].row(i)).collect();
            assert_eq!(found, expected[..10].iter().map(|(row, _)| *row).collect::<Vec<_>>());
        }
        let kept = merge(&folder.path().join("c.qvec"), &segments, &|row| row >= 1500).unwrap();
        let merged = Segment::open(folder.path(), "c.qvec").unwrap();
        assert!(merged.verify());
        assert_eq!((kept, merged.row(0), merged.row(1499)), (1500, 1500, 2999));
    }

    #[cfg(feature = "usearch")]
    #[test]
    fn a_graph_finds_what_a_scan_finds_and_a_damaged_one_is_refused() {
        use crate::corpus::index::graph;
        let folder = tempfile::tempdir().unwrap();
        let all = vectors(3000, 48);
        write(&folder.path().join("a.qvec"), &(0..3000).collect::<Vec<_>>(), 48, &all).unwrap();
        let open = || Segment::open(folder.path(), "a.qvec");
        let (flat, questions) = ([open().unwrap()], vectors(20, 48));
        let lets = |s: usize, i: usize| s == 0 && !i.is_multiple_of(3);
        let scan: Vec<_> = questions.iter().map(|q| nearest(&flat, q, 10, &lets).unwrap()).collect();
        graph::build(folder.path(), &flat[0]).unwrap();
        let with_graph = [open().unwrap()];
        assert!(flat[0].graph.is_none() && with_graph[0].graph.is_some());
        let walked: Vec<_> = questions.iter().map(|q| nearest(&with_graph, q, 10, &lets).unwrap()).collect();
        let same = scan.iter().flatten().filter(|hit| walked.iter().flatten().any(|w| w == *hit)).count();
        assert!(same >= 195, "{same} of 200");
        assert!(walked.iter().flatten().all(|(_, i, _)| !i.is_multiple_of(3)));

        let [path, _] = graph::names_of("a.qvec").map(|name| folder.path().join(name));
        let first = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(open().is_err(), "a hash without its graph");
        graph::build(folder.path(), &flat[0]).unwrap();
        assert!(std::fs::read(&path).unwrap() == first, "the same rows give the same graph");
        let mut bytes = first;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(open().is_err_and(|e| e.to_string().contains("a.qvec.graph")));
    }

    #[test]
    fn a_flipped_byte_anywhere_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.qvec");
        write(&path, &[5, 6], 4, &vectors(2, 4)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let sound = Segment::open(folder.path(), "a.qvec").is_ok_and(|s| s.verify());
            assert!(!sound, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Segment::open(folder.path(), "a.qvec").is_err());
    }

    #[test]
    fn a_vector_of_nothing_is_near_nothing_and_no_error() {
        assert_eq!(quantize(&[0.0, 0.0]), (vec![0, 0], 0.0));
        assert_eq!(quantize(&[f32::NAN, 1.0]).0.len(), 2);
    }
}
