//! What a file may unpack to, all its members and the members of members together. Every limit has its option's name.

use std::cell::Cell;
use std::io::{self, Read};

use super::options::{ReadOptions, size_text};
use super::{ReadReason, Refusal};

/// A small member may be packed ever so well.
const RATIO_FROM_BYTES: u64 = 1 << 20;

/// What is left of the limits of one file.
pub(super) struct Budget {
    members: Cell<u32>,
    unpacked: Cell<u64>, // bytes
}

/// The options, what is left of the budget, and how deep inside the file its reader stands.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub options: &'a ReadOptions,
    budget: &'a Budget,
    depth: u32,
}

impl Budget {
    pub fn new(options: &ReadOptions) -> Self {
        Self { members: Cell::new(options.max_members), unpacked: Cell::new(options.max_unpacked) }
    }
}

impl<'a> Around<'a> {
    pub fn new(options: &'a ReadOptions, budget: &'a Budget) -> Self {
        Self { options, budget, depth: 0 }
    }

    /// Whether this is the file itself, and nothing inside it.
    pub fn is_outermost(&self) -> bool {
        self.depth == 0
    }

    /// Returns the surroundings of what stands inside this, unless that is too deep.
    pub fn inside(&self) -> Result<Self, Refusal> {
        if self.depth >= self.options.max_depth {
            let detail = format!("stands deeper inside other files than the {} of `max_depth`", self.options.max_depth);
            return Err((ReadReason::TooLarge, detail));
        }
        Ok(Self { depth: self.depth + 1, ..*self })
    }

    /// Takes `num` members off the budget.
    pub fn take_members(&self, num: usize) -> Result<(), Refusal> {
        match u32::try_from(num).ok().and_then(|n| self.budget.members.get().checked_sub(n)) {
            Some(left) => {
                self.budget.members.set(left);
                Ok(())
            }
            None => {
                let detail = format!("holds more members than the {} of `max_members`", self.options.max_members);
                Err((ReadReason::TooLarge, detail))
            }
        }
    }

    /// Refuses by what a member claims of itself, before a byte of it is unpacked.
    pub fn check_claim(&self, packed: u64, unpacked: u64) -> Result<(), Refusal> {
        if unpacked > RATIO_FROM_BYTES && unpacked / packed.max(1) > u64::from(self.options.max_ratio) {
            return Err(self.over_ratio());
        }
        if unpacked > self.budget.unpacked.get() { Err(self.over_total()) } else { Ok(()) }
    }

    /// Unpacks a stream of `packed` bytes whole, or refuses by the first limit it passes.
    pub fn unpack(&self, packed: u64, stream: impl Read) -> Result<Vec<u8>, Refusal> {
        let left = self.budget.unpacked.get();
        let by_ratio = packed.max(1).saturating_mul(self.options.max_ratio.into()).max(RATIO_FROM_BYTES);
        let mut bytes = Vec::new();
        let read = stream.take(left.min(by_ratio).saturating_add(1)).read_to_end(&mut bytes);
        let num = bytes.len() as u64;
        if num > left {
            return Err(self.over_total());
        }
        if num > by_ratio {
            return Err(self.over_ratio());
        }
        self.budget.unpacked.set(left - num);
        read.map_err(|error: io::Error| (ReadReason::Unreadable, format!("cannot be unpacked: {error}")))?;
        Ok(bytes)
    }

    fn over_total(&self) -> Refusal {
        let limit = size_text(self.options.max_unpacked);
        (ReadReason::TooLarge, format!("unpacks to more than the {limit} of `max_unpacked`"))
    }

    fn over_ratio(&self) -> Refusal {
        let ratio = self.options.max_ratio;
        (ReadReason::TooLarge, format!("unpacks to more than {ratio} times its packed size, the limit of `max_ratio`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &ReadOptions, packed: u64, len: u64, limit: Option<&str>) {
        let budget = Budget::new(options);
        let answer = Around::new(options, &budget).unpack(packed, io::repeat(b'x').take(len));
        match (answer, limit) {
            (Ok(bytes), None) => assert_eq!(bytes.len() as u64, len),
            (Err((reason, detail)), Some(name)) => {
                assert_eq!((reason, detail.contains(name)), (ReadReason::TooLarge, true), "{detail}");
            }
            (answer, limit) => panic!("{:?} {limit:?}", answer.map(|b| b.len())),
        }
    }

    #[test]
    fn a_stream_is_stopped_by_the_limit_it_passes() {
        let options = ReadOptions { max_unpacked: 4 << 20, ..Default::default() };
        check(&options, 10, 1 << 20, None);
        check(&options, 10, 2 << 20, Some("`max_ratio`"));
        check(&options, 3 << 20, 4 << 20, None);
        check(&options, 3 << 20, u64::MAX, Some("`max_unpacked`"));
    }

    #[test]
    fn the_budget_is_one_for_all_members() {
        let options = ReadOptions { max_unpacked: 100, max_members: 3, max_depth: 2, ..Default::default() };
        let budget = Budget::new(&options);
        let around = Around::new(&options, &budget);
        let inner = around.inside().unwrap();
        assert!(inner.unpack(1, &[0u8; 60][..]).is_ok() && around.unpack(1, &[0u8; 41][..]).is_err());
        assert!(inner.take_members(2).is_ok() && around.take_members(2).is_err());
        assert!(inner.inside().is_ok_and(|deep| deep.inside().is_err()));
    }
}
