//! A pipeline file on its way: file as written -> check -> plan -> run -> report; `sink/` writes what comes out.
//! Read [`plan::Plan`] first, then [`run::run`]. Prints nothing, reads no environment, decides no exit code.

pub mod check;
pub mod config;
pub mod editor;
pub mod explain;
pub mod file;
pub mod files;
pub mod include;
pub mod overlay;
pub mod params;
pub mod plan;
pub mod quantity;
pub mod references;
pub mod schemas;
pub mod scope;
pub mod select;
pub mod shape;
pub mod tables;
pub mod tree;

pub mod run;

pub mod inputs;
pub mod keys;
pub mod model;
pub mod rows;

pub mod eval;
pub mod evaluate;
pub mod evidence;
pub mod names;

pub mod cache;
pub mod diff;
pub mod disk;
pub mod hash;
pub mod journal;
pub mod places;
pub mod sealed;
pub mod shown;
pub mod sink;

pub mod event_log;
pub mod events;
pub mod metrics;
pub mod panics;
pub mod report;
