//! How far probabilities can be trusted: calibration error and risk against coverage, with the curves behind them.

use serde::Serialize;

/// Bins of equal width that calibration error is taken over, as in Guo et al., 2017.
pub const NUM_BINS: usize = 15;

/// What was said with which probability, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    pub p: f64, // 0 to 1
    pub right: bool,
}

/// The answers whose probability falls into one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub num: usize,
    pub mean_p: f64,
    pub accuracy: f64,
}

/// Returns the bins that hold anything; 0 belongs to the first, 1 to the last.
pub fn bins(said: &[Said]) -> Vec<Bin> {
    let mut sums = [(0_usize, 0.0, 0_usize); NUM_BINS]; // number, sum of p, right
    for one in said {
        // A bin holds its upper edge: (low, high].
        let at = ((one.p * NUM_BINS as f64).ceil() as usize).clamp(1, NUM_BINS) - 1;
        let (num, p, right) = &mut sums[at];
        (*num, *p, *right) = (*num + 1, *p + one.p, *right + usize::from(one.right));
    }
    let width = 1.0 / NUM_BINS as f64;
    let bin = |(at, (num, p, right)): (usize, (usize, f64, usize))| Bin {
        low: at as f64 * width,
        high: (at + 1) as f64 * width,
        num,
        mean_p: p / num as f64,
        accuracy: right as f64 / num as f64,
    };
    sums.into_iter().enumerate().filter(|(_, (num, ..))| *num > 0).map(bin).collect()
}

/// Returns the expected calibration error: how far probability and accuracy are apart, by bin, weighted; 0 is best.
pub fn calibration_error(said: &[Said]) -> Option<f64> {
    let apart = bins(said).iter().map(|b| b.num as f64 * (b.mean_p - b.accuracy).abs()).sum::<f64>();
    (!said.is_empty()).then(|| apart / said.len() as f64)
}

/// Returns the share of wrong answers among the surest k, for each k from 1. Of equals, each is as likely to be taken,
/// so that the order of the documents does not matter.
pub fn risks(said: &[Said]) -> Vec<f64> {
    let mut sorted = said.to_vec();
    sorted.sort_by(|a, b| b.p.total_cmp(&a.p));
    let mut risks = Vec::with_capacity(sorted.len());
    let mut wrong_before = 0.0;
    for tied in sorted.chunk_by(|a, b| a.p == b.p) {
        let wrong = tied.iter().filter(|s| !s.right).count() as f64;
        for j in 1..=tied.len() {
            let expected = wrong_before + wrong * j as f64 / tied.len() as f64;
            risks.push(expected / (risks.len() + 1) as f64);
        }
        wrong_before += wrong;
    }
    risks
}

/// Returns the area under the risk–coverage curve: the mean risk over all coverages; 0 is best.
pub fn area_under_risk(said: &[Said]) -> Option<f64> {
    let risks = risks(said);
    (!risks.is_empty()).then(|| risks.iter().sum::<f64>() / risks.len() as f64)
}

/// Returns the accuracy of the surest answers, as many as the share says, at least one.
pub fn accuracy_at(said: &[Said], share: f64) -> Option<f64> {
    let num = ((said.len() as f64 * share).round() as usize).max(1);
    risks(said).get(num - 1).map(|risk| 1.0 - risk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[(f64, bool)]) -> Vec<Said> {
        all.iter().map(|(p, right)| Said { p: *p, right: *right }).collect()
    }

    #[test]
    fn calibration_error_is_the_distance_of_probability_and_accuracy() {
        let honest = said(&[(1.0, true), (0.5, true), (0.5, false)]);
        assert_eq!(calibration_error(&honest), Some(0.0));
        let boaster = said(&[(0.9, false), (0.9, false), (0.9, true), (0.9, true)]);
        assert!((calibration_error(&boaster).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(calibration_error(&[]), None);
    }

    #[test]
    fn risk_grows_with_coverage_where_sureness_means_something() {
        let good = said(&[(0.9, true), (0.8, true), (0.3, false), (0.2, false)]);
        assert_eq!(risks(&good), [0.0, 0.0, 1.0 / 3.0, 0.5]);
        assert_eq!((accuracy_at(&good, 0.5), accuracy_at(&good, 1.0)), (Some(1.0), Some(0.5)));
        assert!((area_under_risk(&good).unwrap() - (1.0 / 3.0 + 0.5) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn equals_count_alike_in_whatever_order_they_come() {
        let (a, b) = (said(&[(0.5, true), (0.5, false)]), said(&[(0.5, false), (0.5, true)]));
        assert_eq!(risks(&a), [0.5, 0.5]);
        assert_eq!(risks(&a), risks(&b));
    }
}
