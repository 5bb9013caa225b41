//! Writes a GGUF file, version 3, tensor by tensor. Knows the container, not what is in it.
//!
//! Sizes are said first and bytes follow in the same order, so that no more of a model is held than what is being
//! written. Types of metadata are those that llama.cpp insists on: counts of 32 bits, floats of 32 bits.

use std::io::{self, Write};

use super::gguf::{ALIGNMENT, MAGIC, kind_of};
use crate::inference::kernels::blocks::Format;

/// A metadata value, in the types that model files use.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// A tensor that will follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub name: String,
    pub format: Format,
    pub shape: Vec<usize>, // outermost dimension first
}

impl Announced {
    /// Bytes of all rows; `None` where a row is no whole number of blocks.
    pub fn bytes(&self) -> Option<u64> {
        let (cols, outer) = self.shape.split_last()?;
        Some(self.format.row_bytes(*cols)? as u64 * outer.iter().product::<usize>() as u64)
    }
}

/// A file whose header is written, and whose tensors are to follow in the order that was announced.
pub struct GgufWriter<W> {
    out: W,
    sizes: Vec<u64>, // bytes of each tensor
    tensor: usize,   // index of the one that is being written
    done: u64,       // bytes of it that are written
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header. Every shape must be a whole number of blocks of its format.
    pub fn new(mut out: W, metadata: &[(String, Entry)], tensors: &[Announced]) -> io::Result<Self> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(3u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            put_text(&mut header, key);
            put_entry(&mut header, value);
        }
        let mut offset = 0u64;
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let bytes = tensor.bytes();
            let bytes =
                bytes.unwrap_or_else(|| panic!("{} in {}: {:?}", tensor.name, tensor.format.name(), tensor.shape));
            put_text(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            // ggml counts the fastest dimension first.
            tensor.shape.iter().rev().for_each(|d| header.extend((*d as u64).to_le_bytes()));
            header.extend(kind_of(tensor.format).to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += bytes.next_multiple_of(ALIGNMENT);
            sizes.push(bytes);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.write_all(&header)?;
        Ok(Self { out, sizes, tensor: 0, done: 0 })
    }

    /// Writes the next bytes of the data, which may not reach over the end of a tensor.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.sizes.get(self.tensor).copied().unwrap_or(0);
        self.done += bytes.len() as u64;
        assert!(self.done <= size, "{} bytes for tensor {} of {size}", self.done, self.tensor);
        self.out.write_all(bytes)?;
        if self.done == size {
            let padding = (size.next_multiple_of(ALIGNMENT) - size) as usize;
            self.out.write_all(&[0; ALIGNMENT as usize][..padding])?;
            (self.tensor, self.done) = (self.tensor + 1, 0);
        }
        Ok(())
    }

    /// Returns what was written to; every tensor must be whole.
    pub fn finish(mut self) -> io::Result<W> {
        assert_eq!(self.tensor, self.sizes.len(), "tensors are missing");
        self.out.flush()?;
        Ok(self.out)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_entry(out: &mut Vec<u8>, value: &Entry) {
    // The numbers are ggml's `gguf_type`.
    let array = |out: &mut Vec<u8>, kind: u32, len: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match value {
        Entry::U32(v) => {
            out.extend(4u32.to_le_bytes());
            out.extend(v.to_le_bytes());
        }
        Entry::F32(v) => {
            out.extend(6u32.to_le_bytes());
            out.extend(v.to_le_bytes());
        }
        Entry::Bool(v) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*v));
        }
        Entry::Text(v) => {
            out.extend(8u32.to_le_bytes());
            put_text(out, v);
        }
        Entry::Texts(all) => {
            array(out, 8, all.len());
            all.iter().for_each(|v| put_text(out, v));
        }
        Entry::I32s(all) => {
            array(out, 5, all.len());
            all.iter().for_each(|v| out.extend(v.to_le_bytes()));
        }
    }
}
