//! A browser without a window, driven over its own pipe: pages are tried as people use them, keys included.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a browser may take for one answer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one page open.
pub struct Browser {
    child: Child,
    to: File,
    from: mpsc::Receiver<Value>,
    calls: u64,
    session: Value,
}

impl Browser {
    /// Starts the browser of this machine, with an empty profile in `folder`; `None` where there is none.
    pub fn start(folder: &Path) -> Option<Self> {
        let has = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
        let name = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].into_iter().find(has)?;
        let (to, from) = (folder.join("to"), folder.join("from"));
        for pipe in [&to, &from] {
            assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs").success());
        }
        // The browser reads commands from descriptor 3 and answers on 4.
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<\"$TO\" 4>\"$FROM\"", name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let to = File::options().write(true).open(to).expect("the browser listens");
        let mut answers = File::open(from).expect("the browser answers");
        let (send, from) = mpsc::channel();
        thread::spawn(move || {
            let (mut held, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(n @ 1..) = answers.read(&mut chunk) {
                held.extend_from_slice(&chunk[..n]);
                while let Some(end) = held.iter().position(|b| *b == 0) {
                    let message: Vec<u8> = held.drain(..=end).collect();
                    let value = serde_json::from_slice(&message[..end]).expect("the browser writes JSON");
                    if send.send(value).is_err() {
                        return;
                    }
                }
            }
        });
        Some(Self { child, to, from, calls: 0, session: Value::Null })
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_null() && !method.starts_with("Target.") && !method.starts_with("Browser.") {
            message["sessionId"] = self.session.clone();
        }
        write!(self.to, "{message}\0").expect("the browser listens");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == self.calls {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Opens a page from a file and waits until `ready` holds in it.
    #[track_caller]
    pub fn open(&mut self, page: &Path, ready: &str) {
        let url = format!("file://{}", page.display());
        let target = self.call("Target.createTarget", json!({ "url": url }))["targetId"].clone();
        self.session =
            self.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }))["sessionId"].clone();
        self.wait_for(ready);
    }

    #[track_caller]
    pub fn wait_for(&mut self, condition: &str) {
        let started = Instant::now();
        while self.value(condition) != true {
            assert!(started.elapsed() < PATIENCE, "never: {condition}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns what an expression is in the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Presses a key: one character, or a name such as `Enter`.
    pub fn press(&mut self, key: &str) {
        let mut down = json!({ "type": "keyDown", "key": key });
        if key.chars().count() == 1 {
            down["text"] = json!(key);
        } else if key == "Enter" {
            (down["text"], down["windowsVirtualKeyCode"]) = (json!("\r"), json!(13));
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
    }

    /// Types a text where the cursor is.
    pub fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    pub fn reload(&mut self, ready: &str) {
        self.value("delete document.documentElement.dataset.ready");
        self.call("Page.reload", json!({}));
        self.wait_for(ready);
    }

    /// Has downloads put into a folder.
    pub fn download_into(&mut self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        let params = json!({ "behavior": "allow", "downloadPath": folder.display().to_string() });
        self.call("Browser.setDownloadBehavior", params);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It was started here, and has not been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
