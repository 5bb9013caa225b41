//! Compressed RTF, as Outlook keeps bodies (MS-OXRTFCP): LZ77 over a window that begins with what all RTF begins with.

const WINDOW: usize = 4096;
const PRELOAD: &[u8] =
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \
\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \
\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";

/// Returns the RTF, or `None` where the bytes are not such a stream. It is at most 17 times as long as they are.
pub fn decompressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = bytes.get(..16)?;
    match &head[8..12] {
        b"MELA" => return Some(bytes[16..].to_vec()),
        b"LZFu" => {}
        _ => return None,
    }
    let mut window = vec![b' '; WINDOW];
    window[..PRELOAD.len()].copy_from_slice(PRELOAD);
    let mut at = PRELOAD.len();
    let mut out = Vec::new();
    let mut rest = &bytes[16..];
    while let Some((control, more)) = rest.split_first() {
        rest = more;
        for bit in 0..8 {
            if control >> bit & 1 == 0 {
                let Some((byte, more)) = rest.split_first() else { return Some(out) };
                rest = more;
                window[at % WINDOW] = *byte;
                at += 1;
                out.push(*byte);
                continue;
            }
            let Some((pair, more)) = rest.split_first_chunk::<2>() else { return Some(out) };
            rest = more;
            let pair = u16::from_be_bytes(*pair);
            let (from, len) = (usize::from(pair >> 4), usize::from(pair & 0xF) + 2);
            if from == at % WINDOW {
                return Some(out);
            }
            for index in 0..len {
                let byte = window[(from + index) % WINDOW];
                window[at % WINDOW] = byte;
                at += 1;
                out.push(byte);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_comes_out() {
        // MS-OXRTFCP 4.1.1
        let bytes: &[u8] = &[
            0x2d, 0x00, 0x00, 0x00, 0x2b, 0x00, 0x00, 0x00, 0x4c, 0x5a, 0x46, 0x75, 0xf1, 0xc5, 0xc7, 0xa7, 0x03, 0x00,
            0x0a, 0x00, 0x72, 0x63, 0x70, 0x67, 0x31, 0x32, 0x35, 0x42, 0x32, 0x0a, 0xf3, 0x20, 0x68, 0x65, 0x6c, 0x09,
            0x00, 0x20, 0x62, 0x77, 0x05, 0xb0, 0x6c, 0x64, 0x7d, 0x0a, 0x80, 0x0f, 0xa0,
        ];
        assert_eq!(decompressed(bytes).unwrap(), b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n");
        assert_eq!(decompressed(b"short"), None);
    }
}
