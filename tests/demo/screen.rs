//! What the demo looks like: aligned columns, one line a step, colour only where a terminal wants it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

/// Lines are cut to this many columns.
const WIDTH: usize = 100;

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
}

/// Standard output, as something to draw on.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
    terminal: bool,
    started: Instant,
    // What is being waited for; shown behind the spinner.
    note: Arc<Mutex<String>>,
}

impl Screen {
    /// Standard output as it is: a terminal, a pipe, with or without `NO_COLOR`.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let note = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&note);
        harness::progress::present_with(move |line| {
            if terminal {
                line.clone_into(&mut shown.lock().expect("no holder panics"));
            } else {
                println!("  ·           {line}");
            }
        });
        Self { colour: terminal && !unwanted, terminal, started: Instant::now(), note }
    }

    /// Time since the demo began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Text in a tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        if self.colour && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Writes a line; whoever reads it may have gone, which is no failure of the demo.
    pub(crate) fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A heading with air above it.
    pub(crate) fn heading(&self, text: &str) {
        self.note.lock().expect("no holder panics").clear();
        self.line(&format!("\n{}", self.paint(Tone::Strong, text)));
    }

    /// Something that was verified: a mark, a name, what it is, and how long it took.
    pub(crate) fn done(&self, name: &str, what: &str, took: &str) {
        let mark = self.paint(Tone::Good, "✓");
        self.row(&mark, name, Tone::Strong, what, took);
    }

    /// A step on the way.
    pub(crate) fn step(&self, name: &str, what: &str, took: &str) {
        self.row(" ", name, Tone::Plain, what, took);
    }

    fn row(&self, mark: &str, name: &str, tone: Tone, what: &str, took: &str) {
        let name = self.paint(tone, &format!("{name:<10}"));
        // Without a time at its end the row has room for more words.
        let width = if took.is_empty() { WIDTH - 15 } else { WIDTH - 25 };
        let what = cut(what, width);
        if took.is_empty() {
            self.line(&format!("  {mark} {name} {what}"));
        } else {
            let took = self.paint(Tone::Faint, &format!("{took:>9}"));
            self.line(&format!("  {mark} {name} {what:<width$} {took}"));
        }
    }

    /// Waits for something that may take long, with a spinner on a terminal, and says how it went.
    pub(crate) async fn wait_for<T>(
        &self,
        name: &str,
        since: Instant,
        task: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        let mut task = std::pin::pin!(task);
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        let mut frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".chars().cycle();
        let outcome = loop {
            tokio::select! {
                outcome = &mut task => break outcome,
                _ = beat.tick(), if self.terminal => {
                    let note = cut(&self.note.lock().expect("no holder panics"), WIDTH - 25);
                    let frame = frames.next().unwrap_or(' ');
                    let seconds = format!("{:>4} s", since.elapsed().as_secs());
                    print!("\r\x1b[K  {frame} {name:<10} {} {seconds}", self.paint(Tone::Faint, &note));
                    let _ = std::io::stdout().flush();
                }
            }
        };
        if self.terminal {
            print!("\r\x1b[K");
        }
        let (value, what) = outcome?;
        self.done(name, &what, &seconds(since.elapsed()));
        Ok(value)
    }

    /// A delivery's body, one line for each member, the telling ones first; only the data may take two.
    pub(crate) fn body(&self, body: &Value) {
        let width = WIDTH - 28;
        for name in ["type", "timestamp", "subject", "data", "hook"] {
            let Some(member) = body.get(name) else { continue };
            let member = cut(&member.to_string(), if name == "data" { 2 * width } else { width });
            let letters: Vec<char> = member.chars().collect();
            for (number, line) in letters.chunks(width).enumerate() {
                let name = if number == 0 { name } else { "" };
                let line: String = line.iter().collect();
                self.line(&self.paint(Tone::Faint, &format!("               │ {name:<10} {line}")));
            }
        }
    }
}

/// At most this many characters, the cut shown.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `3.1 ms`
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// `3.1 s`
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
