//! What a run shows while it lasts.

use super::summary::Point;
use crate::report::Voice;
use gibbsite::train::Record;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    time::Duration,
};

/// A live bar on a terminal, otherwise a line now and then.
pub struct Progress {
    bar: ProgressBar,
    voice: Voice,
    iterations: usize,
    /// Iteration of the next line; `None` where there is a bar.
    next_line: Option<usize>,
}

/// Lines of a run without terminal, besides the first and the last one.
const LINES: usize = 7;

impl Progress {
    pub fn new(iterations: usize, voice: Voice) -> Self {
        let live = !voice.quiet && io::stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = "{bar:30} {pos}/{len}  {elapsed} elapsed, {eta} left\n{wide_msg}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::with_draw_target(Some(iterations as u64), target)
            .with_style(style.progress_chars("━╸─"));
        if live {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self { bar, voice, iterations, next_line: (!live).then_some(0) }
    }

    pub fn show(&mut self, point: &Point) {
        let iteration = point.record.iteration;
        let text = describe(point);
        match &mut self.next_line {
            None => {
                self.bar.set_message(text);
                self.bar.set_position(iteration as u64);
            }
            Some(next) if iteration >= *next || iteration == self.iterations => {
                *next = iteration + self.iterations.div_ceil(LINES);
                self.voice.message(format_args!("{iteration}/{}  {text}", self.iterations));
            }
            Some(_) => {}
        }
    }

    /// Training is over, what follows takes time too.
    pub fn evaluating(&self, iteration: usize) {
        let text = format!("evaluating the chosen iterate, {iteration}");
        match self.next_line {
            None => self.bar.set_message(text),
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

/// Short enough for a terminal of 80 columns, the most important first.
fn describe(point: &Point) -> String {
    let Record { validation_cross_entropy, log_z, log_z_se, ess, f1_norm, .. } = point.record;
    let mut text = format!("validation {validation_cross_entropy:.4}");
    if let Some(teacher) = &point.teacher {
        text += &format!(" · KL {:.4}", teacher.kl);
    }
    text += &format!(" · log Z {log_z:.4}±{log_z_se:.4} · ESS {ess:.0} · F1 norm {f1_norm:.2}");
    if let Some(acceptance) = point.record.acceptance {
        text += &format!(" · accepted {:.0} %", 100.0 * acceptance);
    }
    text
}
