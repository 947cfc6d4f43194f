//! The records of a batch that the application has observed: a failure of another one is unnoticed.

/// A set of indexes, one bit each.
#[derive(Debug, Default)]
pub(super) struct Observed(Vec<u64>);

impl Observed {
    /// Add an index.
    pub fn mark(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    /// Remove an index.
    pub fn unmark(&mut self, index: u32) {
        if let Some(bits) = self.0.get_mut(index as usize / 64) {
            *bits &= !(1 << (index % 64));
        }
    }

    /// Whether an index is in it.
    pub fn is_marked(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }

    /// How many indexes are in it.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The indexes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.0.len() as u32 * 64).filter(|&index| self.is_marked(index))
    }
}
