//! Holds what steps gave against golden files. Read [`score`] first, then [`measures`] for what can be measured.
//!
//! Figures are those of the field: `rouge_score`, trec_eval and scikit-learn give the same ones. Every figure has its
//! interval over the documents. A document that failed counts with all that it should have given; one that was not run
//! is named. Knows no model; prints nothing.

pub mod measures;

pub mod compare;
pub mod golden;

mod cited;
mod figures;
mod gather;
mod pieces;
pub mod report;

pub mod align;
pub mod calibration;
mod porter;
pub mod rouge;

pub use figures::{Found, score};
pub use gather::{EvalError, evaluate};

use std::collections::BTreeMap;

use self::compare::{How, Rules};
use self::measures::{Gate, Measure};
use crate::pipeline::evidence::BESIDE;

/// The `eval` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvalPlan {
    pub golden: Vec<String>, // globs, absolute
    pub measures: Vec<Measure>,
    pub gates: Vec<Gate>,
    pub compare: BTreeMap<String, BTreeMap<String, How>>, // step, field
    pub match_by: BTreeMap<String, Vec<String>>,          // step, fields
}

impl EvalPlan {
    /// Returns the steps whose values are measured, each once.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.measures.iter().flat_map(|m| m.steps.iter().cloned()).collect();
        steps.sort();
        steps.dedup();
        steps
    }

    fn rules(&self, step: &str) -> Rules {
        Rules {
            how: self.compare.get(step).cloned().unwrap_or_default(),
            match_by: self.match_by.get(step).cloned().unwrap_or_default(),
            beside: BESIDE.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
