//! Cuts long text where cutting cannot change its tokens, so that memory stays flat. Knows no vocabulary.

use std::ops::Range;

/// Bytes after which the next good place to cut is taken: the tokenizers crate holds about 150 bytes per token
/// and 16 per byte of what it is given at once, which a 50 MiB file would turn into 3 GiB.
const PIECE_BYTES: usize = 64 << 10;

/// Longest run of blanks that is left whole. The regex engine gives up silently at 1,000,000 backtracking points,
/// one per blank, and would leave the rest of the text unsplit.
const BLANKS_MAX: usize = 100_000;

/// Returns consecutive ranges that cover `text`.
///
/// With `at_blanks`, a piece ends before the first blank that follows [`PIECE_BYTES`]: in GPT-2's split a blank only
/// ever begins a pre-token and nothing looks back, so the tokens are those of the whole text. Without, text is only
/// cut inside runs of more than [`BLANKS_MAX`] blanks, and there a token may differ from the whole text's.
pub(super) fn pieces(text: &str, at_blanks: bool) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    if text.len() > PIECE_BYTES.min(BLANKS_MAX) {
        let (mut start, mut run_start) = (0, None);
        for (at, character) in text.char_indices() {
            if !character.is_whitespace() {
                run_start = None;
                continue;
            }
            match run_start {
                None => {
                    run_start = Some(at);
                    if at_blanks && at - start >= PIECE_BYTES {
                        cuts.push(at);
                        start = at;
                    }
                }
                Some(begun) if at - begun >= BLANKS_MAX => {
                    cuts.push(at);
                    (start, run_start) = (at, Some(at));
                }
                Some(_) => {}
            }
        }
    }
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([text.len()]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|piece| !piece.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_text_and_begin_at_blanks() {
        let text = "wörd\n\n".repeat(40_000);
        let pieces = pieces(&text, true);
        assert!(pieces.len() > 3);
        assert_eq!(pieces.iter().map(|p| &text[p.clone()]).collect::<String>(), text);
        assert!(pieces[1..].iter().all(|p| text[p.clone()].starts_with("\n\nw")));
    }

    #[test]
    fn text_without_blanks_stays_whole_and_endless_blanks_do_not() {
        assert_eq!(pieces(&"x".repeat(300_000), true).len(), 1);
        assert_eq!(pieces(&" ".repeat(250_000), false).len(), 3);
        assert!(pieces("", true).is_empty());
    }
}
