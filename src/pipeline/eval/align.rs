//! The best matching of two lists: which item found is which item wanted.

/// Items of one list; more are not matched by their best pairs but in their order, which is said.
pub const ITEMS_MAX: usize = 400;

/// Returns pairs (wanted, found) with the greatest sum of likenesses; pairs less alike than `least` are left out.
/// `alike(i, j)` is 0 to 1. Of equal matchings it is always the same one.
pub fn best_matching(
    num_wanted: usize,
    num_found: usize,
    least: f64,
    alike: impl Fn(usize, usize) -> f64,
) -> Vec<(usize, usize)> {
    let size = num_wanted.max(num_found);
    if size == 0 || size > ITEMS_MAX {
        let in_order = (0..num_wanted.min(num_found)).map(|i| (i, i));
        return in_order.filter(|(i, j)| alike(*i, *j) >= least).collect();
    }
    // A pair that may not be is worth nothing, so that it never keeps two good ones apart.
    let worth = |i: usize, j: usize| match i < num_wanted && j < num_found {
        true => Some(alike(i, j)).filter(|a| *a >= least).unwrap_or(0.0),
        false => 0.0,
    };
    let cost: Vec<Vec<f64>> = (0..size).map(|i| (0..size).map(|j| 1.0 - worth(i, j)).collect()).collect();
    let assigned = hungarian(&cost);
    let real = |(i, j): &(usize, usize)| *i < num_wanted && *j < num_found && cost[*i][*j] < 1.0;
    assigned.into_iter().enumerate().filter(real).collect()
}

/// Returns the column of each row with the least sum of costs: the method of Kuhn and Munkres with potentials, O(n³).
fn hungarian(cost: &[Vec<f64>]) -> Vec<usize> {
    let n = cost.len();
    let (mut u, mut v) = (vec![0.0; n + 1], vec![0.0; n + 1]); // potentials of rows and columns, from 1
    let mut row_of = vec![0; n + 1]; // of each column; 0 is none
    for row in 1..=n {
        row_of[0] = row;
        let mut column = 0;
        let (mut least, mut used, mut way) = (vec![f64::INFINITY; n + 1], vec![false; n + 1], vec![0; n + 1]);
        while row_of[column] != 0 {
            used[column] = true;
            let (at, mut delta, mut next) = (row_of[column], f64::INFINITY, 0);
            for j in (1..=n).filter(|j| !used[*j]) {
                let reduced = cost[at - 1][j - 1] - u[at] - v[j];
                if reduced < least[j] {
                    (least[j], way[j]) = (reduced, column);
                }
                if least[j] < delta {
                    (delta, next) = (least[j], j);
                }
            }
            for j in 0..=n {
                if used[j] {
                    u[row_of[j]] += delta;
                    v[j] -= delta;
                } else {
                    least[j] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            let before = way[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut columns = vec![0; n];
    (1..=n).for_each(|j| columns[row_of[j] - 1] = j - 1);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_sum_wins_over_the_best_pair() {
        let alike = [[0.9, 0.8], [0.85, 0.1]];
        assert_eq!(best_matching(2, 2, 0.0, |i, j| alike[i][j]), [(0, 1), (1, 0)]);
        assert_eq!(best_matching(2, 2, 0.82, |i, j| alike[i][j]), [(0, 0)], "a pair too unlike keeps none apart");
        assert_eq!(best_matching(1, 3, 0.5, |_, j| [0.2, 0.6, 0.4][j]), [(0, 1)]);
        assert_eq!(best_matching(0, 3, 0.5, |_, _| 1.0), []);
    }

    /// Against every permutation.
    #[test]
    fn no_matching_is_better() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1_u64 << 24) as f64
        };
        for _ in 0..50 {
            let alike: Vec<Vec<f64>> = (0..5).map(|_| (0..5).map(|_| next()).collect()).collect();
            let sum: f64 = best_matching(5, 5, 0.0, |i, j| alike[i][j]).iter().map(|(i, j)| alike[*i][*j]).sum();
            let mut best = 0.0_f64;
            permute(&mut [0, 1, 2, 3, 4], 0, &mut |p| {
                best = best.max(p.iter().enumerate().map(|(i, j)| alike[i][*j]).sum());
            });
            assert!((sum - best).abs() < 1e-9, "{sum} {best}");
        }
    }

    fn permute(items: &mut [usize; 5], from: usize, see: &mut impl FnMut(&[usize; 5])) {
        if from == items.len() {
            return see(items);
        }
        for i in from..items.len() {
            items.swap(from, i);
            permute(items, from + 1, see);
            items.swap(from, i);
        }
    }
}
