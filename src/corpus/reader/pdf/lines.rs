//! Glyphs of a page, in the order in which they are drawn, become lines of text. Knows places and sizes; no PDF.
//!
//! The order of drawing is nearly always the order of reading, so it stands. What is put right: letters that are drawn
//! twice for bold, indices that are lowered, rotated text, scripts that run from right to left, and columns that are
//! drawn row by row.

/// What one code of a font draws.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glyph {
    pub text: String, // empty where the font does not say what it means
    pub x: f64,       // points along the line, where it begins
    pub y: f64,       // points across the line, upwards
    pub width: f64,   // points
    pub size: f64,    // points of an em
    pub angle: i32,   // degrees by which the line is turned
}

/// One call that draws text: a word, a line, or a single letter.
pub(super) type Run = Vec<Glyph>;

/// Of an em: a wider gap between two runs is a space.
const SPACE: f64 = 0.1;
/// Of an em: what is drawn no further off its line belongs to it, as an index does.
const SAME_LINE: f64 = 0.5;
/// Of an em: the same letters drawn again so near are bold or have a shadow.
const DRAWN_AGAIN: f64 = 0.2;
/// Of an em: a gap that may lie between columns.
const GUTTER: f64 = 1.0;

/// Returns the text of a page: its lines, with a blank one where there is more room between them than usual.
pub(super) fn text_of(runs: Vec<Run>) -> String {
    let lines = in_columns(lines_of(without_repeated(runs)));
    let pitch = usual_pitch(&lines);
    let mut text = String::new();
    let mut before: Option<&Line> = None;
    for line in &lines {
        if let Some(before) = before {
            let em = line.size().max(before.size());
            text.push('\n');
            if (line.y() - before.y()).abs() > (em * 1.5).max(pitch * 1.25) || line.angle() != before.angle() {
                text.push('\n');
            }
        }
        text.push_str(line.text().trim_end());
        before = Some(line);
    }
    text
}

/// Leaves out a run that shows what one of those just before it shows, moved by less than a stroke. One at the very
/// same place stays: the places of forms that are used again are not known.
fn without_repeated(runs: Vec<Run>) -> Vec<Run> {
    const LAST_RUNS: usize = 4;
    let mut kept: Vec<Run> = Vec::new();
    for run in runs {
        let is_again = |other: &Run| {
            let (Some(a), Some(b)) = (other.first(), run.first()) else { return false };
            let moved = (a.x - b.x).abs().max((a.y - b.y).abs());
            let is_near = moved > 0.0 && moved < (b.size * DRAWN_AGAIN).min(b.width * 0.6) && a.angle == b.angle;
            is_near && other.iter().map(|g| &g.text).eq(run.iter().map(|g| &g.text))
        };
        if !kept.iter().rev().take(LAST_RUNS).any(is_again) {
            kept.push(run);
        }
    }
    kept
}

/// Glyphs on one baseline, in the order of drawing.
#[derive(Clone, Debug, Default)]
struct Line {
    glyphs: Vec<Glyph>,
    starts: Vec<usize>, // indices of glyphs that begin a run
}

fn lines_of(runs: Vec<Run>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for run in runs {
        for (index, glyph) in run.into_iter().enumerate() {
            let goes_on = lines.last().is_some_and(|line| line.goes_on_with(&glyph));
            if !goes_on {
                lines.push(Line::default());
            }
            if let Some(line) = lines.last_mut() {
                if index == 0 || line.glyphs.is_empty() {
                    line.starts.push(line.glyphs.len());
                }
                line.glyphs.push(glyph);
            }
        }
    }
    lines.retain(|line| !line.text().trim().is_empty());
    lines
}

impl Line {
    fn goes_on_with(&self, glyph: &Glyph) -> bool {
        let Some(last) = self.glyphs.last() else { return true };
        let em = last.size.max(glyph.size);
        let is_beside = (glyph.y - last.y).abs() <= em * SAME_LINE || (glyph.y - self.y()).abs() <= em * SAME_LINE;
        // A font that is not in the file has no true widths: then it is enough that its runs go on to the right.
        let run_x = self.starts.last().and_then(|start| self.glyphs.get(*start)).map_or(last.x, |first| first.x);
        let is_behind = glyph.x >= last.x + last.width - em * SAME_LINE || glyph.x > run_x + em * SPACE;
        let is_to_the_left = !is_left_to_right(&glyph.text) && self.glyphs.iter().any(|g| is_right_to_left(&g.text));
        let is_first_to_the_left =
            is_right_to_left(&glyph.text) && self.glyphs.iter().all(|g| !is_left_to_right(&g.text));
        glyph.angle == last.angle && is_beside && (is_behind || is_to_the_left || is_first_to_the_left)
    }

    fn y(&self) -> f64 {
        self.glyphs.first().map_or(0.0, |g| g.y)
    }

    fn size(&self) -> f64 {
        self.glyphs.iter().map(|g| g.size).fold(0.0, f64::max)
    }

    fn angle(&self) -> i32 {
        self.glyphs.first().map_or(0, |g| g.angle)
    }

    fn text(&self) -> String {
        let count = |is: fn(&str) -> bool| self.glyphs.iter().filter(|g| is(&g.text)).count();
        if count(is_right_to_left) > count(is_left_to_right) {
            self.text_to_the_left()
        } else {
            self.text_to_the_right()
        }
    }

    fn text_to_the_right(&self) -> String {
        let mut text = String::new();
        let mut starts = self.starts.iter().copied().peekable();
        for (index, glyph) in self.glyphs.iter().enumerate() {
            let is_start = starts.next_if_eq(&index).is_some();
            if let Some(last) = index.checked_sub(1).map(|i| &self.glyphs[i]).filter(|_| is_start) {
                let is_apart = glyph.x - (last.x + last.width) > last.size.max(glyph.size) * SPACE;
                if is_apart && !text.ends_with(char::is_whitespace) && !glyph.text.starts_with(char::is_whitespace) {
                    text.push(' ');
                }
            }
            text.push_str(&glyph.text);
        }
        text
    }

    /// Some programs draw such a line from its right end and some from its left: only the places tell. Numbers and
    /// Latin words in it run to the right.
    fn text_to_the_left(&self) -> String {
        let mut glyphs: Vec<&Glyph> = self.glyphs.iter().collect();
        glyphs.sort_by(|a, b| b.x.total_cmp(&a.x));
        let runs_right = |g: &Glyph| is_left_to_right(&g.text) || g.text.contains(|c: char| c.is_numeric());
        let mut from = 0;
        while from < glyphs.len() {
            if !runs_right(glyphs[from]) {
                from += 1;
                continue;
            }
            // What stands between two such letters belongs to them.
            let mut to = from + 1;
            for (index, glyph) in glyphs.iter().enumerate().skip(to) {
                if is_right_to_left(&glyph.text) {
                    break;
                }
                if runs_right(glyph) {
                    to = index + 1;
                }
            }
            glyphs[from..to].reverse();
            from = to;
        }
        let mut text = String::new();
        for (index, glyph) in glyphs.iter().enumerate() {
            if let Some(last) = index.checked_sub(1).map(|i| glyphs[i]) {
                let gap = (last.x - (glyph.x + glyph.width)).max(glyph.x - (last.x + last.width));
                let is_apart = gap > last.size.max(glyph.size) * SPACE * 1.5;
                if is_apart && !text.ends_with(char::is_whitespace) && !glyph.text.starts_with(char::is_whitespace) {
                    text.push(' ');
                }
            }
            text.push_str(&glyph.text);
        }
        text
    }

    /// Returns the gaps wide enough to lie between columns: the glyph behind each, and where it is.
    fn gaps(&self) -> Vec<(usize, f64, f64)> {
        let visible: Vec<(usize, &Glyph)> =
            self.glyphs.iter().enumerate().filter(|(_, g)| !g.text.trim().is_empty()).collect();
        let gap = |pair: &[(usize, &Glyph)]| {
            let (end, start) = (pair[0].1.x + pair[0].1.width, pair[1].1.x);
            (start - end > pair[1].1.size * GUTTER).then_some((pair[1].0, end, start))
        };
        visible.windows(2).filter_map(gap).collect()
    }

    fn ends(&self) -> (f64, f64) {
        let left = self.glyphs.iter().map(|g| g.x).fold(f64::MAX, f64::min);
        (left, self.glyphs.iter().map(|g| g.x + g.width).fold(f64::MIN, f64::max))
    }

    fn split_at(&self, index: usize) -> (Self, Self) {
        let (left, right) = self.glyphs.split_at(index);
        let part = |glyphs: &[Glyph], from: usize| {
            let starts = self.starts.iter().filter(|s| (from..from + glyphs.len()).contains(*s)).map(|s| s - from);
            let mut starts: Vec<usize> = starts.collect();
            if starts.first() != Some(&0) {
                starts.insert(0, 0);
            }
            Self { glyphs: glyphs.to_vec(), starts }
        };
        (part(left, 0), part(right, index))
    }
}

/// Two columns that are drawn row by row are put one behind the other. A table looks the same but for its words: only
/// where both sides are prose are they columns.
fn in_columns(lines: Vec<Line>) -> Vec<Line> {
    const MIN_ROWS: usize = 5;
    const MIN_CHARS: usize = 20; // of a side of a row, on average
    let gaps: Vec<_> = lines.iter().map(Line::gaps).collect();
    let mut ordered = Vec::new();
    let mut from = 0;
    while from < lines.len() {
        // The gutter of the rows from here on: what is left of their gaps when laid over each other.
        let mut gutter = None::<(f64, f64)>;
        let mut rows: Vec<(usize, Option<usize>)> = Vec::new(); // line, and the glyph that begins its right side
        for (index, line) in lines.iter().enumerate().skip(from) {
            let narrowed = |(_, a, b): &(usize, f64, f64)| match gutter {
                None => (*a, *b),
                Some((left, right)) => (a.max(left), b.min(right)),
            };
            let fits = |gap: &&(usize, f64, f64)| narrowed(gap).1 - narrowed(gap).0 > line.size() * GUTTER * 0.5;
            if line.angle() != lines[from].angle() {
                break;
            }
            if let Some(gap) = gaps[index].iter().find(fits) {
                gutter = Some(narrowed(gap));
                rows.push((index, Some(gap.0)));
            } else if gutter.is_some_and(|(left, right)| line.ends().1 <= right || line.ends().0 >= left) {
                rows.push((index, None));
            } else {
                break;
            }
        }
        let sides: Vec<(Line, Line)> =
            rows.iter().filter_map(|(index, at)| Some(lines[*index].split_at((*at)?))).collect();
        let is_prose = |side: fn(&(Line, Line)) -> &Line| {
            sides.iter().map(|pair| side(pair).text().trim().chars().count()).sum::<usize>() >= sides.len() * MIN_CHARS
        };
        if sides.len() < MIN_ROWS || !is_prose(|s| &s.0) || !is_prose(|s| &s.1) {
            let num = rows.len().max(1);
            ordered.extend_from_slice(&lines[from..from + num]);
            from += num;
            continue;
        }
        let middle = gutter.map_or(0.0, |(left, right)| (left + right) / 2.0);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (index, at) in &rows {
            match at {
                Some(at) => {
                    let (a, b) = lines[*index].split_at(*at);
                    left.push(a);
                    right.push(b);
                }
                None if lines[*index].ends().0 >= middle => right.push(lines[*index].clone()),
                None => left.push(lines[*index].clone()),
            }
        }
        ordered.extend(left.into_iter().chain(right));
        from += rows.len();
    }
    ordered
}

/// Returns the distance of most lines from the one before; 0 where there are too few to tell.
fn usual_pitch(lines: &[Line]) -> f64 {
    const MIN_LINES: usize = 6;
    let mut pitches: Vec<f64> =
        lines.windows(2).map(|pair| (pair[0].y() - pair[1].y()).abs()).filter(|pitch| *pitch > 0.0).collect();
    if pitches.len() < MIN_LINES {
        return 0.0;
    }
    pitches.sort_by(f64::total_cmp);
    // Below the middle: where every other line is followed by a space, that is not the pitch.
    let pitch = pitches[pitches.len() / 4];
    let em = lines.iter().map(Line::size).fold(0.0, f64::max);
    pitch.min(em * 3.0)
}

fn is_right_to_left(text: &str) -> bool {
    text.contains(|c| matches!(c, '\u{590}'..='\u{8FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFF}'))
        && !text.contains(|c: char| c.is_numeric())
}

fn is_left_to_right(text: &str) -> bool {
    text.contains(char::is_alphabetic) && !is_right_to_left(text)
}

#[cfg(test)]
mod tests;
