//! What the person at the terminal sees while Postgres is fetched, made and started.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

/// Told what is going on. Every call is quick.
pub trait Progress: Send + Sync {
    /// One line about a step that takes a while, or that should be known.
    fn step(&self, line: &str);
    /// Bytes of the download so far, of a total that is not always known.
    fn downloaded(&self, bytes: u64, total: Option<u64>);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
    fn downloaded(&self, _: u64, _: Option<u64>) {}
}

/// On standard error: a bar on a terminal, plain lines everywhere else.
#[derive(Debug)]
pub struct Terminal {
    interactive: bool,
    download: Mutex<Download>,
}

#[derive(Debug, Default)]
struct Download {
    bar: Option<ProgressBar>,
    quarters: u64,
}

impl Terminal {
    /// Looks once whether standard error is a terminal.
    pub fn new() -> Self {
        Self { interactive: std::io::stderr().is_terminal(), download: Mutex::default() }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Terminal {
    fn step(&self, line: &str) {
        eprintln!("{line}");
    }

    fn downloaded(&self, bytes: u64, total: Option<u64>) {
        let mut download = self.download.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.interactive {
            download.draw(bytes, total);
        } else {
            download.print(bytes, total);
        }
    }
}

impl Download {
    fn draw(&mut self, bytes: u64, total: Option<u64>) {
        let bar = self.bar.get_or_insert_with(|| new_bar(total));
        bar.set_position(bytes);
        if total.is_some_and(|total| bytes >= total) {
            bar.finish();
        }
    }

    fn print(&mut self, bytes: u64, total: Option<u64>) {
        let Some(total) = total.filter(|total| *total > 0) else {
            return;
        };
        let quarters = bytes * 4 / total;
        if quarters > self.quarters {
            self.quarters = quarters;
            eprintln!("  {} % of {} MB", quarters * 25, total.div_ceil(1_000_000));
        }
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "  {bar:40} {bytes} of {total_bytes}, {eta} left",
        None => "  {spinner} {bytes}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style)
}
