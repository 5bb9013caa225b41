//! What a run did in the text format of Prometheus, as node_exporter's textfile collector reads it. No timestamps: the
//! collector refuses them.

use super::report::{Outcome, RunReport};

/// Returns the metrics of a run that ended at `ended`, in seconds since the epoch.
pub fn metrics(report: &RunReport, ended: i64) -> String {
    let mut text = String::new();
    let pipeline = escaped(&report.pipeline);
    let mut family = |name: &str, help: &str, samples: &[(&str, &str, f64)]| {
        text.push_str(&format!("# HELP quarry_{name} {help}\n# TYPE quarry_{name} gauge\n"));
        for (label, value, number) in samples {
            let label = if label.is_empty() { String::new() } else { format!(",{label}=\"{value}\"") };
            text.push_str(&format!("quarry_{name}{{pipeline=\"{pipeline}\"{label}}} {number}\n"));
        }
    };
    let c = &report.counts;
    let states = [
        ("ok", c.ok),
        ("partial", c.partial),
        ("abstained", c.abstained),
        ("failed", c.failed),
        ("skipped", c.skipped),
    ];
    let states: Vec<_> = states.iter().map(|(state, n)| ("state", *state, *n as f64)).collect();
    family("documents", "Documents of the last run by their state.", &states);
    let t = &report.tokens;
    let tokens = [
        ("phase", "prompt", t.prompt_tokens as f64),
        ("phase", "prompt_shared", t.cached_tokens as f64),
        ("phase", "answer", t.completion_tokens as f64),
    ];
    family("tokens", "Tokens of the last run.", &tokens);
    let calls = [("from", "model", report.calls.made as f64), ("from", "cache", report.calls.from_cache as f64)];
    family("calls", "Calls of the last run by where they were answered.", &calls);
    family("duration_seconds", "How long the last run took.", &[("", "", report.seconds.total)]);
    let is_complete = report.outcome == Outcome::Finished;
    family("complete", "1 where the last run came to its end.", &[("", "", f64::from(u8::from(is_complete)))]);
    family("last_run_timestamp_seconds", "When the last run ended.", &[("", "", ended as f64)]);
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
