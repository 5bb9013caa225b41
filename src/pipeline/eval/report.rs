//! What an evaluation found: as JSON, and as one HTML page with its plots, which needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::calibration::Bin;

/// Changes when a key of the JSON form changes its name or meaning.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EvalReport {
    pub schema_version: u32,
    pub pipeline: String,
    pub run: Option<String>,  // its id, where one left what was measured
    pub golden: usize,        // documents in the golden files
    pub documents: usize,     // of them, those that were run
    pub failed: Vec<String>,  // of these; all they should have given counts as missed
    pub not_run: Vec<NotRun>, // no figure knows of them
    pub figures: Vec<Figure>,
    pub gates: Vec<GateReport>,
    pub curves: Vec<Curve>,
    pub scored: Vec<Scored>, // document by document
    pub notes: Vec<String>,
}

/// A golden document that no run has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotRun {
    pub document: String,
    pub from: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: Option<f64>, // `None`: golden says nothing that could be measured
    pub interval: Option<(f64, f64)>,
    pub documents: usize, // that it is of
    pub is_cost: bool,    // less is better
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    pub measure: String,
    pub condition: String,
    pub value: Option<f64>,
    pub ok: bool,
}

/// What the plots show of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    pub step: String,
    pub num: usize,
    pub bins: Vec<Bin>,
    pub risks: Vec<(f64, f64)>, // coverage, risk
}

/// The figures of one document alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    pub document: String,
    pub state: String,
    pub figures: BTreeMap<String, f64>,
}

impl EvalReport {
    /// Whether every gate holds.
    pub fn passes(&self) -> bool {
        self.gates.iter().all(|gate| gate.ok)
    }

    /// Returns the report as a page: figures, gates, plots, and the documents, the worst first.
    pub fn html(&self) -> String {
        let mut page = String::new();
        let title = escape(&format!("Evaluation: {}", self.pipeline));
        let put = |page: &mut String, text: &str| page.push_str(text);
        put(
            &mut page,
            &format!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
                include_str!("../../../templates/review/eval.css")
            ),
        );
        put(&mut page, &format!("<p class=\"lead\">{}</p>\n", escape(&self.summary())));
        self.gates_html(&mut page);
        self.figures_html(&mut page);
        for curve in &self.curves {
            curve.html(&mut page);
        }
        self.documents_html(&mut page);
        if !self.notes.is_empty() || !self.not_run.is_empty() {
            put(&mut page, "<h2>What is not in the figures</h2>\n<ul>\n");
            let not_run = self.not_run.iter().map(|n| format!("{} ({}) was not run", n.document, n.from));
            for note in self.notes.iter().cloned().chain(not_run) {
                put(&mut page, &format!("<li>{}</li>\n", escape(&note)));
            }
            put(&mut page, "</ul>\n");
        }
        put(&mut page, "</main>\n</body>\n</html>\n");
        page
    }

    /// Returns what was measured, in a sentence.
    pub fn summary(&self) -> String {
        let mut text = format!("{} of {} golden documents", self.documents, self.golden);
        if !self.failed.is_empty() {
            let _ = write!(text, ", {} of them failed and count as missed", self.failed.len());
        }
        if let Some(run) = &self.run {
            let _ = write!(text, "; run {run}");
        }
        text
    }

    fn gates_html(&self, page: &mut String) {
        if self.gates.is_empty() {
            return;
        }
        page.push_str("<h2>Gates</h2>\n<table><thead><tr><th scope=\"col\">Measure</th><th scope=\"col\">Must be</th><th scope=\"col\" class=\"n\">Is</th><th scope=\"col\"></th></tr></thead><tbody>\n");
        for gate in &self.gates {
            let (class, word) = if gate.ok { ("ok", "passes") } else { ("bad", "fails") };
            let value = gate.value.map_or("–".into(), number);
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{value}</td><td class=\"{class}\">{word}</td></tr>",
                escape(&gate.measure),
                escape(&gate.condition)
            );
        }
        page.push_str("</tbody></table>\n");
    }

    fn figures_html(&self, page: &mut String) {
        page.push_str("<h2>Figures</h2>\n<table><thead><tr><th scope=\"col\">Measure</th><th scope=\"col\" class=\"n\">Value</th><th scope=\"col\">95 % interval</th><th scope=\"col\" class=\"n\">Documents</th></tr></thead><tbody>\n");
        for figure in &self.figures {
            let name = escape(&figure.name);
            let cost = if figure.is_cost { " <small>less is better</small>" } else { "" };
            let value = figure.value.map_or("–".into(), number);
            let plot = figure.value.map(|v| interval_svg(v, figure.interval)).unwrap_or_default();
            let words = figure.interval.map(|(a, b)| format!("{} to {}", number(a), number(b))).unwrap_or_default();
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{name}{cost}</th><td class=\"n\">{value}</td><td>{plot}<span class=\"quiet\">{words}</span></td><td class=\"n\">{}</td></tr>",
                figure.documents
            );
        }
        page.push_str("</tbody></table>\n");
    }

    fn documents_html(&self, page: &mut String) {
        /// Rows of the table; JSON has them all.
        const ROWS_MAX: usize = 200;
        let names: Vec<&Figure> = self.figures.iter().collect();
        let mut rows: Vec<&Scored> = self.scored.iter().collect();
        let badness = |s: &Scored| {
            let of = |f: &&Figure| s.figures.get(&f.name).map(|v| if f.is_cost { *v } else { 1.0 - v });
            let all: Vec<f64> = names.iter().filter_map(of).collect();
            if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
        };
        rows.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
        page.push_str("<h2>Documents, the worst first</h2>\n<div class=\"wide\"><table><thead><tr><th scope=\"col\">Document</th><th scope=\"col\">State</th>");
        names.iter().for_each(|f| {
            let _ = write!(page, "<th scope=\"col\" class=\"n\">{}</th>", escape(&f.name));
        });
        page.push_str("</tr></thead><tbody>\n");
        for row in rows.iter().take(ROWS_MAX) {
            let _ = write!(page, "<tr><th scope=\"row\">{}</th><td>{}</td>", escape(&row.document), escape(&row.state));
            for figure in &names {
                let value = row.figures.get(&figure.name).map_or(String::new(), |v| number(*v));
                let _ = write!(page, "<td class=\"n\">{value}</td>");
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
        if rows.len() > ROWS_MAX {
            let _ = writeln!(page, "<p class=\"quiet\">and {} more, in the JSON form</p>", rows.len() - ROWS_MAX);
        }
    }
}

/// Returns a figure as people read it.
pub fn number(value: f64) -> String {
    format!("{value:.3}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// A value between 0 and 1 with its interval.
fn interval_svg(value: f64, interval: Option<(f64, f64)>) -> String {
    let x = |v: f64| 4.0 + v.clamp(0.0, 1.0) * 112.0;
    let bar = interval.map_or(String::new(), |(low, high)| {
        format!("<line class=\"bar\" x1=\"{:.1}\" y1=\"8\" x2=\"{:.1}\" y2=\"8\"/>", x(low), x(high))
    });
    format!(
        "<svg class=\"mini\" viewBox=\"0 0 120 16\" width=\"120\" height=\"16\" aria-hidden=\"true\"><line class=\"axis\" x1=\"4\" y1=\"8\" x2=\"116\" y2=\"8\"/>{bar}<circle class=\"dot\" cx=\"{:.1}\" cy=\"8\" r=\"3.5\"/></svg>",
        x(value)
    )
}

/// The side of a plot, and the room for its labels.
const SIDE: f64 = 240.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 12.0;

fn at(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x.clamp(0.0, 1.0) * SIDE, TOP + (1.0 - y.clamp(0.0, 1.0)) * SIDE)
}

fn axes(x: &str, y: &str, said: &str) -> String {
    let (width, height) = (LEFT + SIDE + 16.0, TOP + SIDE + 44.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">",
        escape(said)
    );
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let ((x0, y0), (x1, _)) = (at(0.0, tick), at(1.0, tick));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x0:.1}\" y1=\"{y0:.1}\" x2=\"{x1:.1}\" y2=\"{y0:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            x0 - 6.0,
            y0 + 4.0
        );
        let (xt, yt) = at(tick, 0.0);
        let _ = write!(svg, "<text x=\"{xt:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>", yt + 16.0);
    }
    let (middle, low) = at(0.5, 0.0);
    let _ =
        write!(svg, "<text class=\"name\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>", low + 34.0);
    let (_, half) = at(0.0, 0.5);
    let _ = write!(
        svg,
        "<text class=\"name\" transform=\"translate(12 {half:.1}) rotate(-90)\" text-anchor=\"middle\">{y}</text>"
    );
    svg
}

impl Curve {
    fn html(&self, page: &mut String) {
        let _ = writeln!(
            page,
            "<h2>How far the probabilities of {} can be trusted</h2>\n<div class=\"plots\">",
            escape(&self.step)
        );
        let _ = writeln!(
            page,
            "<figure>{}<figcaption>Reliability: on the diagonal, probability is accuracy. The darker a bar, the more of the {} answers it is of.</figcaption></figure>",
            self.reliability(),
            self.num
        );
        let _ = writeln!(
            page,
            "<figure>{}<figcaption>Risk against coverage: the share of mistakes among the surest answers. The dashed line is the risk of answering all.</figcaption></figure>\n</div>",
            self.risk()
        );
    }

    fn reliability(&self) -> String {
        let mut svg = axes("probability", "accuracy", &format!("Reliability diagram of {}", self.step));
        let ((x0, y0), (x1, y1)) = (at(0.0, 0.0), at(1.0, 1.0));
        let most = self.bins.iter().map(|b| b.num).max().unwrap_or(1) as f64;
        for bin in &self.bins {
            let ((left, top), (right, bottom)) = (at(bin.low, bin.accuracy), at(bin.high, 0.0));
            let _ = write!(
                svg,
                "<rect class=\"bin\" fill-opacity=\"{:.2}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{} answers, probability {}, accuracy {}</title></rect>",
                0.2 + 0.7 * bin.num as f64 / most,
                (right - left - 1.0).max(1.0),
                bottom - top,
                bin.num,
                number(bin.mean_p),
                number(bin.accuracy)
            );
            let (x, y) = at(bin.mean_p, bin.accuracy);
            let _ = write!(svg, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
        let _ =
            write!(svg, "<line class=\"ideal\" x1=\"{x0:.1}\" y1=\"{y0:.1}\" x2=\"{x1:.1}\" y2=\"{y1:.1}\"/></svg>");
        svg
    }

    fn risk(&self) -> String {
        let mut svg = axes("coverage", "risk", &format!("Risk against coverage of {}", self.step));
        let points: Vec<String> =
            self.risks.iter().map(|(c, r)| at(*c, *r)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        if let Some((_, all)) = self.risks.last() {
            let ((x0, y), (x1, _)) = (at(0.0, *all), at(1.0, *all));
            let _ = write!(svg, "<line class=\"ideal\" x1=\"{x0:.1}\" y1=\"{y:.1}\" x2=\"{x1:.1}\" y2=\"{y:.1}\"/>");
        }
        let _ = write!(svg, "<polyline class=\"curve\" points=\"{}\"/></svg>", points.join(" "));
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_escapes_what_documents_are_called() {
        let report = EvalReport {
            pipeline: "<b>".into(),
            figures: vec![Figure {
                name: "k.accuracy".into(),
                value: Some(0.5),
                interval: Some((0.2, 0.8)),
                documents: 2,
                is_cost: false,
            }],
            gates: vec![GateReport {
                measure: "k.accuracy".into(),
                condition: ">= 0.6".into(),
                value: Some(0.5),
                ok: false,
            }],
            curves: vec![Curve {
                step: "k".into(),
                num: 2,
                bins: vec![Bin { low: 0.4, high: 0.6, num: 2, mean_p: 0.5, accuracy: 1.0 }],
                risks: vec![(0.5, 0.0), (1.0, 0.5)],
            }],
            scored: vec![Scored {
                document: "<script>".into(),
                state: "ok".into(),
                figures: [("k.accuracy".to_owned(), 0.0)].into(),
            }],
            notes: vec!["a & b".into()],
            ..EvalReport::default()
        };
        let page = report.html();
        assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;") && page.contains("a &amp; b"));
        for word in ["<script", "http:", "https:", "src=", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("polyline") && page.contains("&gt;= 0.6") && page.contains(">fails<"), "{page}");
        assert!(!report.passes());
    }
}
