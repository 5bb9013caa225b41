//! Memory for weights and for keys and values: large, zeroed, aligned, in huge pages where the system has them.
//!
//! Walking gigabytes in pages of 4 KiB spends a tenth of decoding in the page tables; Linux gives pages of 2 MiB to
//! those who ask (`madvise`), and its refusal changes no result.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// A huge page, and the alignment of large regions.
const HUGE: usize = 2 << 20;
/// The alignment of small ones: a cache line.
const LINE: usize = 64;

/// Zeroed bytes on a boundary of at least 64, exclusively owned.
pub struct Region {
    start: *mut u8,
    len: usize,
}

// SAFETY: a region owns its bytes as a `Vec<u8>` does.
unsafe impl Send for Region {}
// SAFETY: shared access reads only.
unsafe impl Sync for Region {}

impl Region {
    /// Asks for `len` zeroed bytes; memory becomes resident as it is touched. No memory ends the program, as with `Vec`.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { start: std::ptr::without_provenance_mut(LINE), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // SAFETY: the range is this allocation; the advice changes how it is backed, never what it holds.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        let align = if len >= HUGE { HUGE } else { LINE };
        let Ok(layout) = Layout::from_size_align(len, align) else {
            panic!("{len} bytes are no size of an allocation")
        };
        layout
    }
}

impl std::ops::Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl std::ops::DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `new` with this layout, and not freed before.
            unsafe { dealloc(self.start, Self::layout(self.len)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_aligned_and_writable() {
        for len in [0, 1, 100, HUGE, HUGE + 1] {
            let mut region = Region::new(len);
            assert!(region.len() == len && region.iter().all(|b| *b == 0));
            assert!(region.as_ptr().addr().is_multiple_of(LINE));
            region.fill(7);
            assert!(region.iter().all(|b| *b == 7));
        }
    }
}
