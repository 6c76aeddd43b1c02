//! The reference runtime: one Python process that runs many cases.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    case::{Case, filled},
    compare::Outcome,
};

/// The process; ends when it is dropped.
pub struct Reference {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reference {
    /// Starts it with the interpreter that `SLUICE_TEST_REFERENCE` names, one of a virtual
    /// environment in which the runtime is installed (`cargo xtask reference` makes it).
    pub fn start() -> Self {
        let python = std::env::var("SLUICE_TEST_REFERENCE").expect(
            "SLUICE_TEST_REFERENCE must name the reference runtime's interpreter: run `cargo xtask reference`",
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/run.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the reference runtime starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            input,
            output,
        }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").expect("it reads");
        self.input.flush().expect("it reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("it ended at {}", question["id"]))
    }

    /// What Python makes of values; `None` for an error.
    pub fn python(&mut self, values: &[Value]) -> Vec<Option<Value>> {
        let answer = self.ask(&json!({"id": "python", "command": "python", "values": values}));
        let answers = answer["values"].as_array().expect("a list").clone();
        answers
            .into_iter()
            .map(|answer| answer.get("value").cloned())
            .collect()
    }

    /// Runs a case against a server.
    pub fn run(&mut self, case: &Case, address: &str) -> Outcome {
        let scene = &case.scene;
        let state: Vec<Value> = scene
            .state
            .iter()
            .map(|(stream, state)| {
                json!({"type": "STREAM", "stream": {"stream_descriptor": {"name": stream}, "stream_state": state}})
            })
            .collect();
        let streams = (!scene.streams.is_empty()).then_some(&scene.streams);
        let answer = self.ask(&json!({
            "id": case.name,
            "command": scene.command.name(),
            "manifest": case.manifest,
            "config": filled(&scene.config, address),
            "state": state,
            "streams": streams,
        }));
        let mut outcome = Outcome::default();
        for message in answer["messages"].as_array().into_iter().flatten() {
            outcome.message(message);
        }
        if let Value::Object(failure) = &answer["failure"]
            && outcome.failures.is_empty()
        {
            let kind = failure["type"].as_str().unwrap_or_default().to_owned();
            outcome.failures = BTreeMap::from([(String::new(), [kind].into())]);
        }
        if let Value::Object(failure) = &answer["failure"] {
            outcome.detail = failure["message"].to_string();
        }
        let waits = answer["waits"].as_array().into_iter().flatten();
        outcome.waits = waits.filter_map(Value::as_f64).collect();
        outcome
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
