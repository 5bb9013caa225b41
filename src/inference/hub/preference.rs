//! Several models in order of preference: the first that can be had is used, and why the others were not is returned,
//! so that the caller can say it loudly. One that could not be had a moment ago is not asked for again at once.

use std::time::Duration;

use jiff::Timestamp;

use super::resolve::{Found, ModelFiles, Recipe, cached, resolve};
use super::store::Shelf;
use super::unavailable::{self, Memory};
use super::{HubError, Network, Observer, Options, Reference};

/// How long a model that could not be had is passed over: asking costs 4 to 15 s behind a firewall that drops what it
/// does not like, and a run with nothing to do should take none.
pub const NOT_ASKED_AGAIN: Duration = Duration::from_secs(60 * 60);

/// The model that is used, and those that would have been preferred.
#[derive(Debug)]
pub struct Preferred {
    pub files: ModelFiles,
    pub skipped: Vec<Skipped>,
}

/// A preferred model that cannot be had.
#[derive(Debug)]
pub struct Skipped {
    pub name: String,
    pub why: HubError, // always one for which `is_unavailable` holds
    /// Set where it was not asked for now, because it could not be had then.
    pub remembered: Option<Timestamp>,
}

impl Skipped {
    /// Returns the time from which on it is asked for again, where it was not asked for now.
    pub fn asked_again(&self) -> Option<Timestamp> {
        self.remembered?.checked_add(NOT_ASKED_AGAIN).ok()
    }
}

/// Tries the names in order. Only a model that cannot be had is passed over: damage, a cache that cannot be written and
/// a bad name anywhere in the list are errors, so that nobody works with the second choice for a reason that a person
/// should see first.
///
/// A name before the last that could not be had is passed over without asking for [`NOT_ASKED_AGAIN`], unless it is in
/// the cache by then or none of the others can be had either. [`resolve`] asks for it at any time.
pub fn resolve_preferred(
    names: &[impl AsRef<str>],
    options: &Options,
    observer: &dyn Observer,
) -> Result<Preferred, HubError> {
    assert!(!names.is_empty(), "a list of preferred models names at least one");
    let mut references = Vec::new();
    for name in names {
        references.push((name.as_ref(), Reference::parse(name.as_ref())?));
    }
    // Without a network nothing is asked anyway, and nothing is learned.
    let memory = match options.network {
        Network::Allowed => Memory::read(options),
        Network::Forbidden => Memory::default(),
    };
    let now = Timestamp::now();
    let mut skipped = Vec::new();
    for (i, (name, reference)) in references.iter().enumerate() {
        let is_last = i + 1 == references.len();
        if !is_last
            && let Some((since, why)) = memory.recent(name, now, NOT_ASKED_AGAIN)
            && !is_cached(name, reference, options, observer)?
        {
            skipped.push(Skipped { name: (*name).into(), why, remembered: Some(since) });
            continue;
        }
        match resolve(name, options, observer) {
            Ok(files) => return Ok(Preferred { files, skipped }),
            Err(why) if why.is_unavailable() => {
                if !is_last && options.network == Network::Allowed {
                    unavailable::remember(options, name, &why, now);
                }
                skipped.push(Skipped { name: (*name).into(), why, remembered: None });
            }
            Err(error) => return Err(error),
        }
    }
    ask_after_all(skipped, options, observer)
}

/// Nothing else can be had: what was passed over is asked for before that is said.
fn ask_after_all(skipped: Vec<Skipped>, options: &Options, observer: &dyn Observer) -> Result<Preferred, HubError> {
    let mut asked: Vec<Skipped> = Vec::new();
    for skip in skipped {
        if skip.remembered.is_none() {
            asked.push(skip);
            continue;
        }
        match resolve(&skip.name, options, observer) {
            Ok(files) => return Ok(Preferred { files, skipped: asked }),
            Err(why) if why.is_unavailable() => asked.push(Skipped { name: skip.name, why, remembered: None }),
            Err(error) => return Err(error),
        }
    }
    let mut errors: Vec<_> = asked.into_iter().map(|s| s.why).collect();
    Err(if errors.len() == 1 { errors.remove(0) } else { HubError::NonePreferred(errors) })
}

/// Whether a model can be given out without asking; one that is damaged must be asked for.
fn is_cached(name: &str, reference: &Reference, options: &Options, observer: &dyn Observer) -> Result<bool, HubError> {
    if let Reference::Local(_) = reference {
        return Ok(true);
    }
    let recipe = Recipe::of(name, reference);
    let found = cached(&Shelf::new(&options.cache, &recipe.name), &recipe, observer)?;
    Ok(!matches!(found, Found::Nothing))
}

#[cfg(all(test, feature = "hub"))]
#[path = "preference_tests.rs"]
mod tests;
