//! Memory for weights and for keys and values: large, zeroed, aligned, in huge pages where the system has them.
//!
//! Walking gigabytes in pages of 4 KiB spends a tenth of decoding in the page tables; Linux gives pages of 2 MiB to
//! those who ask (`madvise`), and its refusal changes no result.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// A huge page, and the alignment of large regions.
const HUGE: usize = 2 << 20;
/// The alignment of small ones: a cache line.
const LINE: usize = 64;
/// What the allocator is asked to align to. For no more than this it hands out fresh pages, which are zero without being
/// touched; for more it writes the zeros itself, and a cache for 64,000 tokens would be resident before the first.
const ALLOCATOR_ALIGN: usize = 16;

/// Zeroed bytes on a boundary of at least 64, exclusively owned.
pub struct Region {
    allocation: *mut u8,
    start: *mut u8, // the first boundary in it
    len: usize,
}

// SAFETY: a region owns its bytes as a `Vec<u8>` does.
unsafe impl Send for Region {}
// SAFETY: shared access reads only.
unsafe impl Sync for Region {}

impl Region {
    /// Asks for `len` zeroed bytes; memory becomes resident as it is touched. No memory ends the program, as with `Vec`.
    pub fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        if allocation.is_null() {
            handle_alloc_error(layout);
        }
        let start = allocation.wrapping_add(allocation.align_offset(Self::align(len)));
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // SAFETY: the range is inside this allocation; the advice changes how it is backed, never what it holds.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
        Self { allocation, start, len }
    }

    fn align(len: usize) -> usize {
        if len >= HUGE { HUGE } else { LINE }
    }

    /// The bytes, and as many more as it may take to the next boundary.
    fn layout(len: usize) -> Layout {
        let size = len.checked_add(Self::align(len));
        let Some(layout) = size.and_then(|size| Layout::from_size_align(size, ALLOCATOR_ALIGN).ok()) else {
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
        // SAFETY: allocated in `new` with this layout, and not freed before.
        unsafe { dealloc(self.allocation, Self::layout(self.len)) };
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
