//! The program as its users meet it: the built binary, files on a disk, exit codes, what is printed where.
//!
//! `tidy` reads the sources and `pipelines` and `model_files` need nothing else; `starter` needs the starter model and
//! `shared_data` a folder of public transcripts. What cannot be had is skipped aloud: `SKIPPED: ...` on standard error.

mod browser;
mod dialog;
mod followups;
mod foresight;
mod indexes;
mod language;
mod mistakes;
mod model_files;
mod pipelines;
mod reading;
mod review;
mod scopes;
mod shared_data;
mod starter;
mod support;
mod tidy;
mod trust;
mod written;
