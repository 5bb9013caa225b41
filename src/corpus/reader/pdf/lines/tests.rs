use super::*;

/// A run of letters, each half an em wide, at a place; text of size 10.
fn run(x: f64, y: f64, text: &str) -> Run {
    let glyph = |(index, c): (usize, char)| Glyph {
        text: c.to_string(),
        x: x + index as f64 * 5.0,
        y,
        width: 5.0,
        size: 10.0,
        angle: 0,
    };
    text.chars().enumerate().map(glyph).collect()
}

fn check(runs: &[(f64, f64, &str)], expected: &str) {
    assert_eq!(text_of(runs.iter().map(|(x, y, text)| run(*x, *y, text)).collect()), expected);
}

#[test]
fn runs_become_words_lines_and_paragraphs() {
    check(&[(0.0, 100.0, "two"), (18.0, 100.0, "words")], "two words");
    check(&[(0.0, 100.0, "ker"), (14.8, 100.0, "ned")], "kerned");
    check(&[(0.0, 100.0, "one"), (0.0, 88.0, "two"), (0.0, 60.0, "three")], "one\ntwo\n\nthree");
    // Twice the usual pitch everywhere is no paragraph after every line.
    let spaced: Vec<(f64, f64, &str)> = (0..8).map(|n| (0.0, 200.0 - f64::from(n) * 24.0, "line")).collect();
    check(&spaced, &["line"; 8].join("\n"));
}

#[test]
fn an_index_stays_in_its_line() {
    check(&[(0.0, 100.0, "k"), (5.0, 98.0, "m"), (9.0, 100.0, " x")], "km x");
    check(&[(0.0, 100.0, "m"), (5.0, 104.0, "2"), (12.0, 100.0, "area")], "m2 area");
}

#[test]
fn what_is_drawn_twice_for_bold_is_read_once_and_what_is_written_twice_is_read_twice() {
    check(&[(0.0, 100.0, "B"), (0.4, 100.0, "B"), (5.0, 100.0, "o"), (5.4, 100.0, "o")], "Bo");
    check(&[(0.0, 100.0, "Bold"), (0.5, 99.8, "Bold")], "Bold");
    check(&[(0.0, 100.0, "l"), (5.0, 100.0, "l")], "ll");
    // Forms that are used again seem to lie at one place.
    check(&[(0.0, 100.0, "Total"), (0.0, 100.0, "Total")], "Total\nTotal");
}

#[test]
fn text_that_is_turned_has_lines_of_its_own() {
    let mut turned = run(0.0, 50.0, "side");
    turned.iter_mut().for_each(|g| g.angle = 90);
    assert_eq!(text_of(vec![run(0.0, 100.0, "top"), turned, run(0.0, 88.0, "next")]), "top\n\nside\n\nnext");
}

#[test]
fn a_line_from_right_to_left_is_read_so_however_it_is_drawn() {
    // As seen from the left: 2024 مالس, the last letter of the word first.
    let words = [(0.0, 100.0, "2024"), (24.0, 100.0, "م"), (29.0, 100.0, "ا"), (34.0, 100.0, "ل"), (39.0, 100.0, "س")];
    check(&words, "سلام 2024");
    let backwards: Vec<(f64, f64, &str)> = words.iter().rev().copied().collect();
    check(&backwards, "سلام 2024");
}

const LEFT: [&str; 6] = [
    "The first column begins",
    "and tells of a harvest",
    "that was brought in late",
    "because of all the rain",
    "which fell in the autumn",
    "of that remarkable year.",
];
const RIGHT: [&str; 6] = [
    "A second column follows",
    "with quite other matters",
    "such as prices and wages",
    "of people in the valley,",
    "and ends where the first",
    "one did, at the bottom.",
];

#[test]
fn columns_are_read_one_after_the_other_however_they_are_drawn() {
    let y = |row: usize| 500.0 - row as f64 * 12.0;
    let left = LEFT.iter().enumerate().map(|(row, text)| (0.0, y(row), *text));
    let right = RIGHT.iter().enumerate().map(|(row, text)| (200.0, y(row), *text));
    let rows: Vec<_> = left.clone().zip(right.clone()).flat_map(|(a, b)| [a, b]).collect();
    let whole: Vec<_> = left.chain(right).collect();
    let expected = [LEFT.join("\n"), RIGHT.join("\n")].join("\n\n");
    check(&rows, &expected);
    check(&whole, &expected);
}

#[test]
fn rows_of_a_table_stay_rows() {
    let rows: Vec<_> = (0..6)
        .flat_map(|row| {
            let y = 500.0 - f64::from(row) * 12.0;
            [(0.0, y, "Wheat"), (200.0, y, "12.50")]
        })
        .collect();
    check(&rows, &["Wheat 12.50"; 6].join("\n"));
}
