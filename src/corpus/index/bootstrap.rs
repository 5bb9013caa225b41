//! How sure a figure is: its interval over samples of what it is of, drawn with replacement.

/// Returns the interval that holds the figure in 95 of 100 of `samples` samples of `num` things, given by their places;
/// `None` with fewer than two of them, or where the figure cannot be computed of most samples. The same arguments always
/// give the same interval.
pub fn interval(num: usize, samples: usize, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
    if num < 2 {
        return None;
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut figures = Vec::with_capacity(samples);
    let mut sample = vec![0; num];
    for _ in 0..samples {
        sample.iter_mut().for_each(|at| *at = (next() % num as u64) as usize);
        figures.extend(figure(&sample));
    }
    if figures.len() < samples / 2 {
        return None;
    }
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share).round() as usize];
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_that_of_theory_and_the_same_each_time() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let mean = |at: &[usize]| Some(at.iter().map(|i| values[*i]).sum::<f64>() / at.len() as f64);
        let (low, high) = interval(values.len(), 1000, mean).unwrap();
        // 1.96 · 0.5 / √400 = 0.049 on either side.
        assert!((low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006, "{low} {high}");
        assert_eq!(interval(values.len(), 1000, mean), Some((low, high)));
        assert_eq!(interval(1, 1000, mean), None);
    }
}
