//! Several models in order of preference: the first that can be had is used, and why the others were not is returned,
//! so that the caller can say it loudly.

use super::resolve::{ModelFiles, resolve};
use super::{HubError, Observer, Options, Reference};

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
}

/// Tries the names in order. Only a model that cannot be had is passed over: damage, a cache that cannot be written and
/// a bad name anywhere in the list are errors, so that nobody works with the second choice for a reason that a person
/// should see first.
pub fn resolve_preferred(
    names: &[impl AsRef<str>],
    options: &Options,
    observer: &dyn Observer,
) -> Result<Preferred, HubError> {
    assert!(!names.is_empty(), "a list of preferred models names at least one");
    for name in names {
        Reference::parse(name.as_ref())?;
    }
    let mut skipped = Vec::new();
    for name in names {
        match resolve(name.as_ref(), options, observer) {
            Ok(files) => return Ok(Preferred { files, skipped }),
            Err(why) if why.is_unavailable() => skipped.push(Skipped { name: name.as_ref().into(), why }),
            Err(error) => return Err(error),
        }
    }
    let mut errors: Vec<_> = skipped.into_iter().map(|s| s.why).collect();
    Err(if errors.len() == 1 { errors.remove(0) } else { HubError::NonePreferred(errors) })
}
