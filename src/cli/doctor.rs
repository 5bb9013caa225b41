//! `quarry doctor`: what this machine has, and what a run would stumble over.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::options::Settings;
use super::{Failure, models, print};
use crate::inference::hub;
use crate::inference::kernels::Isa;

/// Look at this machine: processor, memory, folders, models
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Give the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// One thing looked at.
struct Finding {
    what: &'static str,
    fact: String,
    /// What to do about it; `None` where all is well.
    advice: Option<String>,
}

pub fn run(args: &DoctorArgs, settings: &Settings) -> Result<Exit, Failure> {
    let cache = settings.cache_dir()?;
    let writable = std::fs::create_dir_all(&cache).and_then(|()| tempfile::tempfile_in(&cache).map(drop));
    let findings = [
        Finding { what: "quarry", fact: env!("CARGO_PKG_VERSION").to_owned(), advice: None },
        processor(),
        memory(),
        Finding {
            what: "cache",
            fact: cache.display().to_string(),
            advice: writable
                .as_ref()
                .err()
                .map(|e| format!("it cannot be written ({e}); choose another with --cache-dir")),
        },
        models_there(settings)?,
        Finding {
            what: "network",
            fact: if settings.offline { "not to be used".into() } else { "used only to fetch a model".into() },
            advice: None,
        },
    ];
    if args.json {
        let all = findings.iter().map(|f| json!({ "what": f.what, "fact": f.fact, "advice": f.advice }));
        print::json(&json!({ "schema_version": 1, "findings": all.collect::<Value>() }))?;
    } else {
        let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
        for finding in &findings {
            print::result(&print::shown(&format!("{:width$}  {}", finding.what, finding.fact)))?;
            if let Some(advice) = &finding.advice {
                print::result(&print::shown(&format!("{:width$}  hint: {advice}", "")))?;
            }
        }
    }
    Ok(if writable.is_ok() { Exit::Done } else { Exit::OutOfResources })
}

fn processor() -> Finding {
    let isa = Isa::detect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let advice =
        (isa == Isa::Scalar).then(|| "no vector instructions that are known here: answers come slowly".to_owned());
    Finding { what: "processor", fact: format!("{cores} cores, {}", isa.name()), advice }
}

/// What Linux says; elsewhere it is not known.
fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    const NEEDED: u64 = 4 << 20; // KiB: the default model in 8 bits, its keys and values, and room to work
    let gb = |kib: u64| format!("{:.1} GB", kib as f64 * 1024.0 / 1e9);
    match (kib("MemTotal"), kib("MemAvailable")) {
        (Some(total), Some(free)) => Finding {
            what: "memory",
            fact: format!("{}, {} of it free", gb(total), gb(free)),
            advice: (free < NEEDED).then(|| "take a smaller model, or a smaller --window".to_owned()),
        },
        _ => Finding { what: "memory", fact: "not known".into(), advice: None },
    }
}

fn models_there(settings: &Settings) -> Result<Finding, Failure> {
    let listed = hub::list(&models::hub_options(settings)?.cache);
    let cached: Vec<&hub::Listed> = listed.iter().filter(|l| !l.cached.is_empty()).collect();
    let damaged: Vec<&str> =
        cached.iter().filter(|l| l.cached.iter().any(|c| c.damage.is_some())).map(|l| l.name.as_str()).collect();
    let names: Vec<&str> = cached.iter().map(|l| l.name.as_str()).collect();
    let advice = match (names.is_empty(), damaged.first()) {
        (true, _) => Some("the first run fetches one; or now: quarry model pull starter".to_owned()),
        (false, Some(name)) => Some(format!("{name} is damaged; quarry model pull {name} fetches it again")),
        (false, None) => None,
    };
    let fact = if names.is_empty() { "none in the cache".to_owned() } else { names.join(", ") };
    Ok(Finding { what: "models", fact, advice })
}
