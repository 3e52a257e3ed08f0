//! What a case is, and what it ends in: one line of figures.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// For each change: the whole suite in five minutes.
    Short,
    /// As the plan of the suite has it.
    Full,
}

impl Scale {
    pub(crate) fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

pub(crate) type Run = fn(Scale) -> Pin<Box<dyn Future<Output = Figures>>>;

/// One fault, and what must hold under it.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its number in the plan.
    pub(crate) id: &'static str,
    /// The fault, in a few words.
    pub(crate) what: &'static str,
    /// Longer than this is a failure too.
    pub(crate) limit: Duration,
    pub(crate) run: Run,
}

/// `case!("R01", "…", 60 s, path::to::function)`; the function is `async fn(Scale) -> Figures`.
macro_rules! case {
    ($id:literal, $what:literal, $seconds:literal s, $run:path) => {
        $crate::case::Case {
            id: $id,
            what: $what,
            limit: std::time::Duration::from_secs($seconds),
            run: |scale| Box::pin($run(scale)),
        }
    };
}
pub(crate) use case;

/// What was counted, in the order in which it was; and what of it should have been otherwise.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    shown: Vec<(String, String)>,
    broken: Vec<String>,
    /// A table of its own, for a person who wants to look closer.
    pub(crate) detail: Option<String>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One figure, for the record.
    pub(crate) fn show(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        self.shown.push((name.to_owned(), value.to_string()));
        self
    }

    /// What must hold; `why` says what was expected, and is printed when it does not.
    pub(crate) fn must(&mut self, holds: bool, why: impl fmt::Display) -> &mut Self {
        if !holds {
            self.broken.push(why.to_string());
        }
        self
    }

    /// One figure that must be this.
    pub(crate) fn exactly<T: fmt::Display + PartialEq>(
        &mut self,
        name: &str,
        value: T,
        expected: T,
    ) -> &mut Self {
        let holds = value == expected;
        self.show(name, &value).must(holds, format!("{name} must be {expected}"))
    }

    /// One figure that must not be larger.
    pub(crate) fn at_most<T: fmt::Display + PartialOrd>(
        &mut self,
        name: &str,
        value: T,
        most: T,
    ) -> &mut Self {
        let holds = value <= most;
        self.show(name, &value).must(holds, format!("{name} must be at most {most}"))
    }

    /// One figure that must not be smaller: a fault that never struck proves nothing.
    pub(crate) fn at_least<T: fmt::Display + PartialOrd>(
        &mut self,
        name: &str,
        value: T,
        least: T,
    ) -> &mut Self {
        let holds = value >= least;
        self.show(name, &value).must(holds, format!("{name} must be at least {least}"))
    }

    fn failed(why: String) -> Self {
        Self { broken: vec![why], ..Self::default() }
    }
}

/// A case that has run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) case: &'static Case,
    pub(crate) took: Duration,
    figures: Figures,
}

/// Runs a case to its end, whatever it does.
pub(crate) async fn run(case: &'static Case, scale: Scale) -> Ended {
    let begun = Instant::now();
    let running = tokio::time::timeout(case.limit, AssertUnwindSafe((case.run)(scale)).catch_unwind());
    let figures = match running.await {
        Ok(Ok(figures)) => figures,
        Ok(Err(panic)) => Figures::failed(format!("panicked: {}", text_of(&*panic))),
        Err(_) => Figures::failed(format!("not over within {} s", case.limit.as_secs())),
    };
    Ended { case, took: begun.elapsed(), figures }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl Ended {
    pub(crate) fn holds(&self) -> bool {
        self.figures.broken.is_empty()
    }

    /// `lost=0 duplicates=3`.
    pub(crate) fn figures(&self) -> String {
        let shown = self.figures.shown.iter().map(|(name, value)| format!("{name}={value}"));
        shown.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(detail) = &self.figures.detail {
            writeln!(f, "{detail}")?;
        }
        let verdict = if self.holds() { "ok    " } else { "FAILED" };
        let seconds = self.took.as_secs_f64();
        write!(f, "{} {verdict} {}: {} ({seconds:.1} s)", self.case.id, self.case.what, self.figures())?;
        for broken in &self.figures.broken {
            write!(f, "\n    {broken}")?;
        }
        Ok(())
    }
}
