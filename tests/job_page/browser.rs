//! A real browser, headless, told what to do over its debugging pipe (the Chrome DevTools Protocol): JSON, each text ended by a zero.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Its pipe has the descriptors 3 and 4.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-background-networking --user-data-dir=\"$0\" --window-size=1280,900 --remote-debugging-pipe about:blank \
    3<&0 4>&1 0</dev/null 1>/dev/null 2>&1";

pub struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What its console said of errors.
    pub complaints: Vec<String>,
    /// Everything that pages asked for.
    pub requests: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    /// `None`, said loudly, without Chromium; with `CI` set that fails.
    pub fn start() -> Option<Self> {
        if Command::new("chromium").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "chromium is not on this machine (Debian: chromium)");
            eprintln!("SKIPPED: chromium is not on this machine (Debian: chromium)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (to, out) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            let texts = BufReader::new(out).split(0).map_while(std::result::Result::ok);
            // The test is over, or the browser is.
            for text in texts {
                if sender.send(serde_json::from_slice(&text).unwrap()).is_err() {
                    return;
                }
            }
        });
        let (complaints, requests) = (Vec::new(), Vec::new());
        let mut browser = Self { process, to, from, next: 0, session: None, complaints, requests, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut text = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            text["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{text}\0").as_bytes()).unwrap();
        loop {
            let text = self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if text["id"] == id {
                assert!(text["error"].is_null(), "{method}: {}", text["error"]);
                return text["result"].clone();
            }
            self.hear(&text);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => self.requests.push(params["request"]["url"].as_str().unwrap().to_owned()),
            "Runtime.exceptionThrown" => self.complaints.push(params["exceptionDetails"].to_string()),
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"]["text"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until("document.body && document.body.hasAttribute('data-ready')");
    }

    /// What an expression of the page's language is.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(expression) != json!(true) {
            assert!(
                began.elapsed() < PATIENCE,
                "it never came: {expression}\n{}",
                self.value("document.body.innerText")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text of the part with that name.
    pub fn text(&mut self, name: &str) -> String {
        let text = self.value(&format!("document.querySelector('[data-test={name}]').textContent"));
        text.as_str().unwrap_or_default().trim().to_owned()
    }

    /// The name of the part that has the focus.
    pub fn focused(&mut self) -> String {
        let name = self.value("document.activeElement?.getAttribute('data-test') ?? ''");
        name.as_str().unwrap_or_default().to_owned()
    }

    /// Presses a key, as a person does.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => panic!("no key {key}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        let of =
            |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", of(if text.is_empty() { "rawKeyDown" } else { "keyDown" }));
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code }),
        );
    }

    /// Types over what is selected.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Goes on with the Tab key until the part with that name has the focus.
    #[track_caller]
    pub fn tab_to(&mut self, name: &str) {
        for _ in 0..100 {
            if self.focused() == name {
                return;
            }
            self.press("Tab");
        }
        panic!("Tab never comes to {name}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
