//! The header of a GGUF file, read without trusting it. Format: ggml's `docs/gguf.md`, versions 2 and 3.
//!
//! Every length is checked against the bytes that are there before anything is allocated by it, so a hostile
//! header costs no more memory than its own size times a small constant.

use std::collections::HashMap;
use std::ops::Range;

use super::source::TensorInfo;
use crate::inference::kernels::blocks::Format;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Of the data, where the file says nothing else.
pub(super) const ALIGNMENT: u64 = 32;
/// Most metadata entries, and most tensors: the largest published files have a few thousand.
const ENTRIES_MAX: u64 = 65_536;
/// Deepest nesting of arrays in arrays.
const ARRAY_DEPTH_MAX: usize = 4;
/// Most array elements in all metadata together: three arrays over the largest vocabularies are below a million.
const ELEMENTS_MAX: u64 = 4_000_000;
/// Longest name of a key or tensor, in bytes.
const NAME_MAX: usize = 65_535;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Vec<Value>),
}

impl Value {
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Unsigned(v) => Some(*v as f64),
            Self::Signed(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(v) => Some(*v),
            Self::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(v) => Some(v),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(v) => Some(*v),
            _ => None,
        }
    }
}

/// Metadata and the places of the tensors.
#[derive(Clone, Debug)]
pub struct Gguf {
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads the header of a whole file. The error is one fact, to be put behind the file's name.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        if file.is_empty() {
            return Err("the file is empty".into());
        }
        let mut r = Reader { bytes: file, at: 0, elements: 0 };
        if r.take(4, "the magic number")? != MAGIC {
            return Err("it does not begin with GGUF".into());
        }
        let version = r.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version} is not supported: 2 and 3 are"));
        }
        let (num_tensors, num_entries) = (r.u64("the number of tensors")?, r.u64("the number of metadata entries")?);
        for (what, n) in [("tensors", num_tensors), ("metadata entries", num_entries)] {
            if n > ENTRIES_MAX {
                return Err(format!("the header says {n} {what}; at most {ENTRIES_MAX} are accepted"));
            }
        }
        let metadata = r.metadata(num_entries)?;
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(v) => v.as_u64().unwrap_or(0),
        };
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(format!("general.alignment is {alignment}; a power of two up to 2^20 is expected"));
        }
        let mut tensors = r.tensors(num_tensors)?;
        let data = (r.at as u64).next_multiple_of(alignment);
        place(&mut tensors, data, alignment, file.len() as u64)?;
        Ok(Self { metadata, tensors: tensors.into_iter().map(|t| (t.name, t.info)).collect() })
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }

    /// A count; arrays of equal counts (one per layer) count as one.
    pub fn unsigned(&self, key: &str) -> Option<usize> {
        let value = match self.get(key)? {
            Value::Array(all) if all.windows(2).all(|w| w[0] == w[1]) => all.first()?,
            value => value,
        };
        value.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> Vec<(&str, &TensorInfo)> {
        let mut all: Vec<_> = self.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        all.sort_by_key(|(_, t)| t.bytes.start);
        all
    }

    /// All metadata, sorted by key.
    pub fn metadata(&self) -> Vec<(&str, &Value)> {
        let mut all: Vec<_> = self.metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
        all.sort_by_key(|(k, _)| *k);
        all
    }
}

struct Placed {
    name: String,
    info: TensorInfo,
    offset: u64, // from the start of the data
    bytes: u64,
}

/// Turns offsets into ranges of the file, refusing what lies outside or on top of another.
fn place(tensors: &mut [Placed], data: u64, alignment: u64, file_len: u64) -> Result<(), String> {
    tensors.sort_by_key(|t| t.offset);
    let mut free_from = 0u64;
    for t in tensors {
        if !t.offset.is_multiple_of(alignment) {
            return Err(format!("tensor {} starts at {}, off the alignment of {alignment}", t.name, t.offset));
        }
        if t.offset < free_from {
            return Err(format!("tensor {} overlaps the one before it", t.name));
        }
        let end = t.offset.checked_add(t.bytes).and_then(|e| e.checked_add(data));
        let Some(end) = end.filter(|e| *e <= file_len) else {
            return Err(format!("tensor {} ends after the file's {file_len} bytes: the file is cut off", t.name));
        };
        free_from = t.offset + t.bytes;
        t.info.bytes = Range { start: (data + t.offset) as usize, end: end as usize };
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    elements: u64, // of all arrays so far
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        if left.len() < n {
            return Err(format!("the file ends inside {what}, at byte {}", self.bytes.len()));
        }
        self.at += n;
        Ok(&left[..n])
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, max: usize, what: &str) -> Result<String, String> {
        let len = self.u64(what)?;
        let left = self.bytes.len() - self.at;
        let len = usize::try_from(len).ok().filter(|n| *n <= left.min(max));
        let Some(len) = len else {
            return Err(format!("{what} at byte {} is longer than the file or the limit of {max} bytes", self.at));
        };
        let bytes = self.take(len, what)?;
        // Tokens of byte-level vocabularies are UTF-8; a broken one is kept visible rather than refused.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn metadata(&mut self, entries: u64) -> Result<HashMap<String, Value>, String> {
        let mut metadata = HashMap::new();
        for i in 0..entries {
            let key = self.string(NAME_MAX, &format!("the key of metadata entry {i}"))?;
            let kind = self.u32(&key)?;
            let value = self.value(kind, &key, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("the metadata key {key} appears twice"));
            }
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>(key)?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.string(usize::MAX, key)?),
            9 => Value::Array(self.elements(key, depth)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(format!("metadata {key} has the unknown type {other}")),
        })
    }

    fn elements(&mut self, key: &str, depth: usize) -> Result<Vec<Value>, String> {
        if depth >= ARRAY_DEPTH_MAX {
            return Err(format!("metadata {key} nests arrays deeper than {ARRAY_DEPTH_MAX}"));
        }
        let (kind, count) = (self.u32(key)?, self.u64(key)?);
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            8 | 10..=12 => 8,
            9 => 12,
            _ => 4,
        };
        let left = (self.bytes.len() - self.at) as u64;
        if count > left / size {
            return Err(format!("metadata {key} says {count} elements; the file has no room for them"));
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(format!("metadata arrays hold more than {ELEMENTS_MAX} elements at {key}"));
        }
        (0..count).map(|_| self.value(kind, key, depth + 1)).collect()
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Placed>, String> {
        let mut names = std::collections::HashSet::new();
        let mut tensors = Vec::new();
        for i in 0..count {
            let name = self.string(NAME_MAX, &format!("the name of tensor {i}"))?;
            let dims = self.u32(&name)?;
            if !(1..=4).contains(&dims) {
                return Err(format!("tensor {name} has {dims} dimensions; 1 to 4 are expected"));
            }
            // ggml counts the fastest dimension first; ours stand outermost first.
            let mut shape = (0..dims).map(|_| self.u64(&name)).collect::<Result<Vec<_>, _>>()?;
            shape.reverse();
            let (kind, offset) = (self.u32(&name)?, self.u64(&name)?);
            let format = format_of(kind).ok_or_else(|| format!("tensor {name} has the unsupported type {kind}"))?;
            let (shape, bytes) =
                size(&shape, format).ok_or_else(|| format!("tensor {name} has the impossible shape {shape:?}"))?;
            if !names.insert(name.clone()) {
                return Err(format!("the tensor {name} appears twice"));
            }
            tensors.push(Placed { name, info: TensorInfo { format, shape, bytes: 0..0, file: 0 }, offset, bytes });
        }
        Ok(tensors)
    }
}

/// The shape as indices and the bytes it takes, unless a product overflows or a row is no whole number of blocks.
fn size(shape: &[u64], format: Format) -> Option<(Vec<usize>, u64)> {
    let dims = shape.iter().map(|d| usize::try_from(*d).ok().filter(|d| *d > 0)).collect::<Option<Vec<_>>>()?;
    let (cols, outer) = dims.split_last()?;
    let rows = outer.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    rows.checked_mul(*cols)?;
    let bytes = format.row_bytes(*cols)?.checked_mul(rows)?;
    Some((dims, bytes as u64))
}

/// ggml's type numbers.
const KINDS: [(u32, Format); 11] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::Q4_0),
    (3, Format::Q4_1),
    (6, Format::Q5_0),
    (7, Format::Q5_1),
    (8, Format::Q8_0),
    (12, Format::Q4K),
    (13, Format::Q5K),
    (14, Format::Q6K),
    (30, Format::Bf16),
];

fn format_of(kind: u32) -> Option<Format> {
    KINDS.iter().find(|(k, _)| *k == kind).map(|(_, format)| *format)
}

pub(super) fn kind_of(format: Format) -> u32 {
    let found = KINDS.iter().find(|(_, f)| *f == format);
    found.unwrap_or_else(|| unreachable!("{} has no number", format.name())).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one F32 tensor of 2 x 4, and its 32 bytes of data.
    fn small() -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(MAGIC);
        b.extend(3u32.to_le_bytes());
        b.extend(1u64.to_le_bytes());
        b.extend(1u64.to_le_bytes());
        put_text(&mut b, "general.architecture");
        b.extend(8u32.to_le_bytes());
        put_text(&mut b, "llama");
        put_tensor(&mut b, "t", &[4, 2], 0, 0);
        b.resize(b.len().next_multiple_of(32), 0);
        b.extend([0; 32]);
        b
    }

    fn put_text(b: &mut Vec<u8>, text: &str) {
        b.extend((text.len() as u64).to_le_bytes());
        b.extend(text.as_bytes());
    }

    fn put_tensor(b: &mut Vec<u8>, name: &str, dims: &[u64], kind: u32, offset: u64) {
        put_text(b, name);
        b.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| b.extend(d.to_le_bytes()));
        b.extend(kind.to_le_bytes());
        b.extend(offset.to_le_bytes());
    }

    #[test]
    fn a_small_file_reads_back() {
        let gguf = Gguf::parse(&small()).unwrap();
        assert_eq!(gguf.text("general.architecture"), Some("llama"));
        assert_eq!(gguf.tensor("t").unwrap().shape, [2, 4]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = small();
        for len in 0..whole.len() {
            assert!(Gguf::parse(&whole[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_read_or_refused_without_a_panic() {
        let whole = small();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = Gguf::parse(&bytes);
        }
    }

    #[test]
    fn hostile_tensors_are_refused() {
        let header = |dims: &[u64], kind, offset, count: u64| {
            let mut b = Vec::new();
            b.extend(MAGIC);
            b.extend(3u32.to_le_bytes());
            b.extend(count.to_le_bytes());
            b.extend(0u64.to_le_bytes());
            (0..count.min(2)).for_each(|_| put_tensor(&mut b, "t", dims, kind, offset));
            b.resize(b.len().next_multiple_of(32) + 64, 0);
            b
        };
        let cases: [(&[u64], u32, u64, u64, &str); 9] = [
            (&[u64::MAX, 2], 0, 0, 1, "impossible shape"),
            (&[1 << 32, 1 << 32], 0, 0, 1, "impossible shape"),
            (&[0, 4], 0, 0, 1, "impossible shape"),
            (&[33], 8, 0, 1, "impossible shape"),
            (&[4], 99, 0, 1, "unsupported type 99"),
            (&[4], 0, 3, 1, "alignment"),
            (&[4], 0, u64::MAX - 31, 1, "cut off"),
            (&[4], 0, 0, 2, "twice"),
            (&[4], 0, 0, 1 << 40, "tensors"),
        ];
        for (dims, kind, offset, count, fact) in cases {
            let error = Gguf::parse(&header(dims, kind, offset, count)).unwrap_err();
            assert!(error.contains(fact), "{error:?} does not say {fact:?}");
        }
    }

    #[test]
    fn a_huge_array_is_refused_before_it_is_allocated() {
        for count in [u64::MAX, 1 << 63, 1 << 32, 5_000_000] {
            let mut b = Vec::new();
            b.extend(MAGIC);
            b.extend(3u32.to_le_bytes());
            b.extend(0u64.to_le_bytes());
            b.extend(1u64.to_le_bytes());
            put_text(&mut b, "a");
            b.extend(9u32.to_le_bytes());
            b.extend(0u32.to_le_bytes());
            b.extend(count.to_le_bytes());
            b.resize(b.len() + 6_000_000, 0);
            assert!(Gguf::parse(&b).is_err(), "{count}");
        }
    }
}
