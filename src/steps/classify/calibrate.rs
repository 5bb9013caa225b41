//! Probabilities that fit: a temperature and a bias for each label, from a few labelled texts.
//!
//! Temperature scaling with a bias (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: vector
//! scaling with one slope), with a normal prior on both, since the file may have fewer texts than there are labels.

/// Fewer texts say nothing of a label's bias.
pub const ROWS_MIN: usize = 10;
const FOLDS: usize = 5;
const STEPS: usize = 2_000;
/// Standard deviations of the prior: of a bias, and of the logarithm of the slope.
const BIAS_SD: f64 = 1.0;
const LOG_SLOPE_SD: f64 = 1.0;
/// Scores are mean log-probabilities: a slope within e^±4 of 1 is believed.
const LOG_SLOPE_MAX: f64 = 4.0;

/// What a threshold is chosen for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub precision: f64,
}

impl Target {
    /// Reads `precision 0.97`. The error is a hint.
    pub fn parse(written: &str) -> Result<Self, String> {
        let number = written.trim().strip_prefix("precision").map(str::trim).and_then(|n| n.parse::<f64>().ok());
        number
            .filter(|n| (0.0..=1.0).contains(n))
            .map(|precision| Self { precision })
            .ok_or_else(|| "it is written as `precision 0.97`".into())
    }
}

/// What was fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    slope: f64, // 1 over the temperature
    bias: Vec<f64>,
    multi: bool,
    /// The least probability for which a label is given, where a target asks for one. Above 1 where none meets it.
    pub threshold: Option<f64>,
    /// At the threshold: the share of the file that is right, and the share that has a label.
    at_threshold: Option<(f64, f64)>,
}

impl Calibration {
    /// Fits to scores of each text (texts, labels) and the labels that are right.
    pub fn fit(scores: &[Vec<f64>], right: &[&[usize]], multi: bool, target: Option<Target>) -> Self {
        let all: Vec<usize> = (0..scores.len()).collect();
        let mut fitted = fit_on(scores, right, multi, &all);
        if let Some(target) = target {
            // Each text is judged by what was fitted to the others: a fit is always right about its own.
            let mut judged: Vec<(f64, bool)> = Vec::new();
            for fold in 0..FOLDS {
                let others: Vec<usize> = all.iter().copied().filter(|i| i % FOLDS != fold).collect();
                let part = fit_on(scores, right, multi, &others);
                for i in all.iter().copied().filter(|i| i % FOLDS == fold) {
                    let p = part.probabilities(&scores[i]);
                    if multi {
                        judged.extend(p.iter().enumerate().map(|(l, p)| (*p, right[i].contains(&l))));
                    } else {
                        let best = (0..p.len()).fold(0, |b, l| if p[l] > p[b] { l } else { b });
                        judged.push((p[best], right[i].contains(&best)));
                    }
                }
            }
            let (threshold, at) = threshold_for(judged, target.precision);
            (fitted.threshold, fitted.at_threshold) = (Some(threshold), at);
        }
        fitted
    }

    pub fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        let logits: Vec<f64> = scores.iter().zip(&self.bias).map(|(s, b)| self.slope * s + b).collect();
        if self.multi { logits.into_iter().map(sigmoid).collect() } else { softmax(&logits) }
    }

    /// Returns what was fitted, in a line.
    pub fn describe(&self, num_texts: usize) -> String {
        let fitted = format!("calibrated on {num_texts} texts: temperature {:.2}", 1.0 / self.slope);
        match (self.threshold, self.at_threshold) {
            (Some(threshold), Some((precision, share))) => {
                let share = share * 100.0;
                format!("{fitted}; from {threshold:.3} on {precision:.2} of them are right, {share:.0} % have a label")
            }
            (Some(_), None) => format!("{fitted}; no probability reaches the target on them: the step always abstains"),
            _ => fitted,
        }
    }
}

/// The least threshold at and above which the precision is met, with precision and share there.
fn threshold_for(mut judged: Vec<(f64, bool)>, precision: f64) -> (f64, Option<(f64, f64)>) {
    const NONE: f64 = 1.01;
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut best) = (0usize, None);
    for (i, (p, is_right)) in judged.iter().enumerate() {
        right += usize::from(*is_right);
        // Of equal probabilities all are above the threshold, or none.
        let ends_run = judged.get(i + 1).is_none_or(|next| next.0 < *p);
        let reached = right as f64 / (i + 1) as f64;
        if ends_run && reached >= precision {
            best = Some((*p, (reached, (i + 1) as f64 / judged.len() as f64)));
        }
    }
    best.map_or((NONE, None), |(p, at)| (p, Some(at)))
}

/// The most likely slope and biases: gradient descent with a step that halves where it does not improve.
fn fit_on(scores: &[Vec<f64>], right: &[&[usize]], multi: bool, rows: &[usize]) -> Calibration {
    let num_labels = scores.first().map_or(0, Vec::len);
    let at = |x: &[f64]| Calibration {
        slope: x[0].exp(),
        bias: x[1..].to_vec(),
        multi,
        threshold: None,
        at_threshold: None,
    };
    let loss = |x: &[f64]| {
        let calibration = at(x);
        let prior = x[0].powi(2) / (2.0 * LOG_SLOPE_SD.powi(2))
            + x[1..].iter().map(|b| b * b).sum::<f64>() / (2.0 * BIAS_SD.powi(2));
        let of_row = |&i: &usize| -> f64 {
            let p = calibration.probabilities(&scores[i]);
            let ln = |p: f64| p.max(1e-12).ln();
            if multi {
                p.iter().enumerate().map(|(l, p)| if right[i].contains(&l) { -ln(*p) } else { -ln(1.0 - p) }).sum()
            } else {
                -right[i].iter().map(|&l| ln(p[l])).sum::<f64>()
            }
        };
        prior + rows.iter().map(of_row).sum::<f64>()
    };
    let gradient = |x: &[f64]| {
        let calibration = at(x);
        let mut g = vec![0.0; x.len()];
        g[0] = x[0] / LOG_SLOPE_SD.powi(2);
        for (g, b) in g[1..].iter_mut().zip(&x[1..]) {
            *g = b / BIAS_SD.powi(2);
        }
        for &i in rows {
            for (l, p) in calibration.probabilities(&scores[i]).into_iter().enumerate() {
                let off = p - f64::from(u8::from(right[i].contains(&l)));
                g[0] += off * scores[i][l] * calibration.slope;
                g[l + 1] += off;
            }
        }
        g
    };
    let mut x = vec![0.0; num_labels + 1];
    let (mut now, mut rate) = (loss(&x), 0.1);
    for _ in 0..STEPS {
        let g = gradient(&x);
        let mut next: Vec<f64> = x.iter().zip(&g).map(|(x, g)| x - rate * g).collect();
        next[0] = next[0].clamp(-LOG_SLOPE_MAX, LOG_SLOPE_MAX);
        let then = loss(&next);
        if then < now {
            let gained = now - then;
            (x, now, rate) = (next, then, rate * 1.3);
            if gained < 1e-9 {
                break;
            }
        } else {
            rate *= 0.5;
            if rate < 1e-9 {
                break;
            }
        }
    }
    at(&x)
}

pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|w| w / all).collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores that are right in order but shifted towards label 0 and far too flat.
    fn skewed(n: usize) -> (Vec<Vec<f64>>, Vec<Vec<usize>>) {
        let row = |i: usize| {
            let label = i % 2;
            let noise = (i * 7 % 10) as f64 / 50.0;
            let score = if label == 1 { 0.4 + noise } else { 0.1 - noise };
            (vec![0.5, score], vec![label])
        };
        (0..n).map(row).unzip()
    }

    #[test]
    fn a_bias_and_a_slope_make_the_right_labels_likely() {
        let (scores, right) = skewed(50);
        let right: Vec<&[usize]> = right.iter().map(Vec::as_slice).collect();
        let accuracy = |p: &dyn Fn(&[f64]) -> Vec<f64>| {
            let is_right = |i: &usize| {
                let p = p(&scores[*i]);
                right[*i].contains(&usize::from(p[1] > p[0]))
            };
            (0..50).filter(is_right).count()
        };
        assert!(accuracy(&softmax) < 40);
        let fitted = Calibration::fit(&scores, &right, false, Some(Target { precision: 0.9 }));
        assert_eq!(accuracy(&|s| fitted.probabilities(s)), 50);
        assert!(fitted.slope > 2.0 && fitted.threshold.unwrap() < 0.9, "{fitted:?}");
        assert!(fitted.describe(50).contains("100 % have a label"), "{}", fitted.describe(50));
    }

    #[test]
    fn several_labels_are_fitted_each_for_itself() {
        let scores: Vec<Vec<f64>> = (0..40).map(|i| vec![f64::from(i % 2) - 3.0, f64::from(i % 3) + 2.0]).collect();
        let right: Vec<Vec<usize>> = (0..40)
            .map(|i| [(0, i % 2 == 1), (1, i % 3 == 2)].into_iter().filter(|l| l.1).map(|l| l.0).collect())
            .collect();
        let right: Vec<&[usize]> = right.iter().map(Vec::as_slice).collect();
        let fitted = Calibration::fit(&scores, &right, true, None);
        let p = fitted.probabilities(&[-2.0, 2.0]);
        assert!(p[0] > 0.5 && p[1] < 0.5, "{p:?}");
    }

    #[test]
    fn a_target_that_is_not_met_means_to_abstain_always() {
        let judged = vec![(0.9, true), (0.8, false), (0.7, true), (0.7, true), (0.6, false)];
        assert_eq!(threshold_for(judged.clone(), 0.7), (0.7, Some((0.75, 0.8))));
        assert_eq!(threshold_for(judged, 0.9), (0.9, Some((1.0, 0.2))));
        assert!(threshold_for(vec![(0.9, false)], 0.5).0 > 1.0);
        assert_eq!(Target::parse("precision 0.97"), Ok(Target { precision: 0.97 }));
        assert!(Target::parse("recall 1").is_err() && Target::parse("precision 2").is_err());
    }
}
