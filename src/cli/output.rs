//! Printing: text for people, JSON for programs, errors in one line.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::exit;
use crate::error::{Error, ErrorKind, Result};

/// What a command has to say at its end.
#[derive(Debug)]
pub(super) struct Done {
    text: Vec<u8>,
    json: Option<serde_json::Value>,
    code: u8,
}

impl Done {
    /// `text` for people, and `value` for programs.
    ///
    /// # Errors
    /// A bug only: every value of ours has a form in JSON.
    pub(super) fn new(text: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_value(value)
            .map_err(|error| Error::new(ErrorKind::Internal, "make JSON", error.to_string()))?;
        Ok(Self { text: text.into().into_bytes(), json: Some(json), code: exit::OK })
    }

    /// Bytes that are printed as they are, `--json` or not.
    pub(super) fn raw(bytes: Vec<u8>) -> Self {
        Self { text: bytes, json: None, code: exit::OK }
    }

    /// The same, with another exit code: what was asked was found out, and it is not good.
    pub(super) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether someone looks at a terminal who may want to see progress.
    pub(super) fn wants_progress(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Prints and returns the code to exit with.
    pub(super) fn print(self, done: &Done) -> u8 {
        let mut bytes = match (&done.json, self.json) {
            (Some(json), true) => format!("{json:#}").into_bytes(),
            _ => done.text.clone(),
        };
        if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
            Ok(()) => done.code,
            // Whoever read it has seen enough (`icecore list | head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => done.code,
            Err(error) => {
                self.print_error(&Error::io("print", "standard output", error));
                exit::FAILED
            }
        }
    }

    /// Prints an error to stderr: one line, or one JSON object on a line.
    pub(super) fn print_error(self, error: &Error) {
        let line = if self.json {
            let report = ErrorReport {
                kind: error.kind().as_str(),
                exit_code: exit::code_of(error),
                operation: error.operation(),
                object: error.object(),
                message: error.message(),
                advice: error.advice(),
            };
            serde_json::json!({ "error": report }).to_string()
        } else {
            format!("icecore: {}", one_line(&error.to_string()))
        };
        // Where not even stderr can be written there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Says something on the way, to people only.
    pub(super) fn note(self, line: &str) {
        if !self.json {
            let _ = writeln!(std::io::stderr(), "icecore: {}", one_line(line));
        }
    }
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    kind: &'static str,
    exit_code: u8,
    operation: &'static str,
    object: Option<&'a str>,
    message: &'a str,
    advice: Option<&'a str>,
}

/// Texts from a store are hostile (I8): no line breaks, no escape sequences for a terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }
}
