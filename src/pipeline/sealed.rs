//! JSON with a checksum around it: `{"sum":"<64 hex>","body":…}`, one valid JSON text on one line.
//! The checksum covers the exact bytes of the body, so no number is parsed and printed again to verify it.

const HEAD: &str = "{\"sum\":\"";
const MIDDLE: &str = "\",\"body\":";
const SUM_LEN: usize = 64;

/// Returns `body` with its checksum around it, without a line end.
pub fn seal(body: &str) -> String {
    format!("{HEAD}{}{MIDDLE}{body}}}", blake3::hash(body.as_bytes()).to_hex())
}

/// Returns the body of a sealed text, or `None` where a single byte of it is not as it was written.
pub fn open(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let rest = text.strip_prefix(HEAD)?;
    let sum = rest.get(..SUM_LEN)?;
    let body = rest.get(SUM_LEN..)?.strip_prefix(MIDDLE)?.strip_suffix('}')?;
    (blake3::hash(body.as_bytes()).to_hex().as_str() == sum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_is_json() {
        let text = seal("{\"a\":1.5}");
        assert_eq!(open(text.as_bytes()), Some("{\"a\":1.5}"));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn no_single_bit_can_change_and_no_byte_can_go() {
        let text = seal("{\"answer\":\"forty-two\"}").into_bytes();
        for at in 0..text.len() {
            assert_eq!(open(&text[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut bent = text.clone();
                bent[at] ^= 1 << bit;
                assert_eq!(open(&bent), None, "bit {bit} of byte {at}");
            }
        }
    }
}
