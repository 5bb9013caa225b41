//! Writes a NumPy array file: version 1.0, little-endian float32, C order. Format: NumPy's NEP 1.

use std::io::{self, Write};

/// Writes the header and then each row of an array of shape (`rows.len()`, `width`).
pub fn write(out: &mut impl Write, rows: &[Vec<f32>], width: usize) -> io::Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {width}), }}", rows.len());
    // Magic, version, length and header together are a multiple of 64 bytes, ended by a line break.
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for row in rows {
        assert_eq!(row.len(), width);
        row.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_is_aligned_and_says_the_shape() {
        let mut out = Vec::new();
        super::write(&mut out, &[vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]], 3).unwrap();
        assert_eq!((out.len() - 24) % 64, 0);
        assert!(String::from_utf8_lossy(&out).contains("'shape': (2, 3)"));
        assert_eq!(out[out.len() - 4..], 6.0f32.to_le_bytes());
    }
}
