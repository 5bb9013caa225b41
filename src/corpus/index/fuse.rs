//! Two lists become one: reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009). Scores of different kinds are
//! never added; only ranks are.

use std::collections::HashMap;
use std::hash::Hash;

/// The constant of the paper: how little the first ranks stand above the rest.
pub const RRF_K: f64 = 60.0;

/// Returns each item of the lists with its score, the best first; equals in the order they were first met.
pub fn fuse<T: Copy + Eq + Hash>(lists: &[Vec<T>]) -> Vec<(T, f64)> {
    let mut places: HashMap<T, usize> = HashMap::new();
    let mut fused: Vec<(T, f64)> = Vec::new();
    for list in lists {
        for (rank, item) in list.iter().enumerate() {
            let place = *places.entry(*item).or_insert_with(|| {
                fused.push((*item, 0.0));
                fused.len() - 1
            });
            fused[place].1 += 1.0 / (RRF_K + rank as f64 + 1.0);
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_lists_hold_comes_first() {
        let fused = fuse(&[vec!['a', 'b', 'c'], vec!['c', 'd', 'b']]);
        let order: String = fused.iter().map(|(c, _)| *c).collect();
        assert_eq!(order, "cbad");
        assert!((fused[0].1 - (1.0 / 63.0 + 1.0 / 61.0)).abs() < 1e-12);
        assert_eq!(fuse::<u8>(&[]), []);
    }
}
