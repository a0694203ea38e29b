//! What a long run shows while it lasts.

use crate::report::Voice;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt::Display,
    io::{self, IsTerminal},
    time::Duration,
};

/// A live bar on a terminal, otherwise a line now and then.
pub struct Progress {
    bar: ProgressBar,
    voice: Voice,
    total: usize,
    /// Position of the next line; `None` where there is a bar.
    next_line: Option<usize>,
}

/// Lines of a run without terminal, besides the first and the last one.
const LINES: usize = 7;

impl Progress {
    pub fn new(total: usize, voice: Voice) -> Self {
        Self::with(total, voice, ", {eta} left")
    }

    /// For steps that differ so much in length that only the texts can tell how long is left.
    pub fn uneven(total: usize, voice: Voice) -> Self {
        Self::with(total, voice, "")
    }

    fn with(total: usize, voice: Voice, left: &str) -> Self {
        let live = !voice.quiet && io::stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template =
            format!("{{bar:30}} {{pos}}/{{len}}  {{elapsed}} elapsed{left}\n{{wide_msg}}");
        let style = ProgressStyle::with_template(&template).expect("a valid template");
        let bar = ProgressBar::with_draw_target(Some(total as u64), target)
            .with_style(style.progress_chars("━╸─"));
        if live {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self { bar, voice, total, next_line: (!live).then_some(0) }
    }

    /// Shows how far the run is, with a text that is made only if it is shown.
    pub fn show<D: Display>(&mut self, position: usize, text: impl FnOnce() -> D) {
        match &mut self.next_line {
            None => {
                self.bar.set_message(text().to_string());
                self.bar.set_position(position as u64);
            }
            Some(next) if position >= *next || position == self.total => {
                *next = position + self.total.div_ceil(LINES);
                self.voice.message(format_args!("{position}/{}  {}", self.total, text()));
            }
            Some(_) => {}
        }
    }

    /// Shows what goes on before the first position, if there is a bar.
    pub fn hint(&self, text: impl Display) {
        self.bar.set_message(text.to_string());
    }

    /// Shows what goes on at the same position.
    pub fn note(&self, text: impl Display) {
        match self.next_line {
            None => self.bar.set_message(text.to_string()),
            Some(_) => self.voice.message(text),
        }
    }
}

impl Drop for Progress {
    /// Leaves the terminal to what comes next, be it a table or an error.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
