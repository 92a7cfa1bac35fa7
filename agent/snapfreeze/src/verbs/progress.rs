//! A progress bar where somebody sees it.

use crate::out::Out;
use indicatif::{ProgressBar, ProgressStyle};
use storage::snapshot::Progress;

pub struct Bar(Option<ProgressBar>);

impl Bar {
    pub fn new(out: Out, what: &'static str) -> Self {
        Self(out.shows_progress().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {msg} {eta}") {
                bar.set_style(style);
            }
            bar.with_prefix(what)
        }))
    }

    pub fn show(&self, p: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_length(p.bytes_of);
            bar.set_position(p.bytes);
            bar.set_message(format!("{}/{} files", p.files, p.files_of));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
