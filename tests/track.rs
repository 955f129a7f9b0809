//! Runs in MLflow: sent while they train and afterwards, resumed as the same run, none the worse for a server that is away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use smpo_fixtures::demo;
use smpo_fixtures::http::{Answer, Seen, Server};

/// The calls of one run, as a server keeps them.
#[derive(Default)]
struct Told {
    runs: usize,
    /// Values by metric and step.
    metrics: BTreeMap<(String, u64), Vec<f64>>,
    parameters: BTreeMap<String, String>,
    artifacts: BTreeMap<String, String>,
    statuses: Vec<String>,
    heads: Vec<String>,
}

/// A server that keeps one experiment, as MLflow does.
fn mlflow() -> (Server, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::default()));
    let state = told.clone();
    let server = Server::start_by_request(move |_, seen| answer(seen, &mut state.lock().unwrap()));
    (server, told)
}

fn answer(seen: &Seen, told: &mut Told) -> Answer {
    let line = seen.head.lines().next().unwrap_or_default();
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let path = path.strip_prefix("/v1/api/2.0/").unwrap_or(path).to_owned();
    told.heads.push(seen.head.clone());
    let info = json!({"run": {"info": {"run_id": "r1", "experiment_id": "7", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}}});
    let reply = |value: Value| Answer::reply("200 OK", value.to_string());
    if let Some(name) = path.strip_prefix("mlflow-artifacts/artifacts/7/r1/artifacts/") {
        told.artifacts.insert(name.to_owned(), seen.body.as_str().unwrap_or_default().to_owned());
        return reply(json!({}));
    }
    match path.split('?').next().unwrap_or_default() {
        "mlflow/experiments/get-by-name" => Answer::reply(
            "404 Not Found",
            json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}).to_string(),
        ),
        "mlflow/experiments/create" => reply(json!({"experiment_id": "7"})),
        "mlflow/runs/create" => {
            told.runs += 1;
            reply(info)
        }
        "mlflow/runs/get" => reply(info),
        "mlflow/runs/update" => {
            told.statuses.push(seen.body["status"].as_str().unwrap().to_owned());
            reply(json!({}))
        }
        "mlflow/runs/log-batch" => {
            for metric in seen.body["metrics"].as_array().into_iter().flatten() {
                let key = (metric["key"].as_str().unwrap().to_owned(), metric["step"].as_u64().unwrap());
                told.metrics.entry(key).or_default().push(metric["value"].as_f64().unwrap());
            }
            for parameter in seen.body["params"].as_array().into_iter().flatten() {
                let text = |field: &str| parameter[field].as_str().unwrap().to_owned();
                assert!(told.parameters.insert(text("key"), text("value")).is_none(), "a parameter cannot change");
            }
            reply(json!({}))
        }
        other => panic!("unexpected call {other}"),
    }
}

/// A short run of the demo's base that reports to MLflow.
fn run(dir: &Path, steps: u64) -> PathBuf {
    let config = dir.join("dpo.toml");
    let text = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 16\nmax_length = 256\n\
         per_device_train_batch_size = 4\nmax_steps = {steps}\nlearning_rate = 1e-4\nsave_steps = 2\nseed = 5\n\
         report_to = [\"mlflow\"]\n[loss]\nkind = \"smpo\"\n",
        demo("base"),
        dir.join("dpo"),
        demo("preferences.jsonl"),
    );
    fs::write(&config, text).unwrap();
    config
}

fn smpo(server: Option<&str>) -> Command {
    let mut command = Command::new(cargo_bin("smpo"));
    for name in ["MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_TOKEN"] {
        command.env_remove(name);
    }
    command.env("NO_PROXY", "127.0.0.1").env("MLFLOW_EXPERIMENT_NAME", "demo");
    // A machine without CA certificates: HTTP needs none.
    command.envs([("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")]);
    command.envs(server.map(|server| ("MLFLOW_TRACKING_URI", server)));
    command
}

fn done(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_run_is_sent_while_it_trains_and_stays_one_run() {
    let (server, told) = mlflow();
    let address = server.url.replace("http://", "http://me:secret@");
    let dir = tempfile::tempdir().unwrap();
    let config = run(dir.path(), 6);
    let said = done(smpo(Some(&address)).arg("train").arg(&config).output().unwrap());
    let page = format!("{}/#/experiments/7/runs/r1", server.url);
    assert!(said.contains(&page) && !said.contains("secret"), "{said}");
    {
        let told = told.lock().unwrap();
        assert_eq!((told.runs, told.statuses.as_slice()), (1, ["RUNNING", "FINISHED"].map(str::to_owned).as_slice()));
        let steps: Vec<u64> = told.metrics.keys().filter(|(name, _)| name == "loss").map(|(_, step)| *step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
        assert!(told.metrics.values().all(|values| values.len() == 1), "each once");
        assert_eq!(told.parameters["loss.kind"], "smpo");
        assert_eq!(told.parameters["max_steps"], "6");
        assert!(told.artifacts["config.toml"].contains("max_steps = 6"), "{:?}", told.artifacts.keys());
        assert!(told.heads.iter().all(|head| head.to_lowercase().contains("authorization: basic")));
    }
    // Later: nothing is sent twice, artefacts are added.
    fs::create_dir_all(dir.path().join("board/samples")).unwrap();
    fs::write(dir.path().join("board/index.html"), "<html>").unwrap();
    fs::write(dir.path().join("board/samples/a b#1.txt"), "text").unwrap();
    let track = |dir: &Path| {
        let mut command = smpo(Some(&server.url));
        command.arg("track").arg(dir.join("dpo")).arg("--artifact").arg(dir.join("board")).args(["--format", "json"]);
        command.output().unwrap()
    };
    let output = track(dir.path());
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    done(output);
    assert_eq!((&sent["run_id"], &sent["last_step"]), (&json!("r1"), &json!(6)));
    assert_eq!(sent["artifacts"], json!(["board/index.html", "board/samples/a b#1.txt"]));
    let told = told.lock().unwrap();
    assert_eq!(told.runs, 1);
    assert!(told.metrics.values().all(|values| values.len() == 1), "each once");
    assert_eq!(told.artifacts["board/samples/a%20b%231.txt"], "text");
}

#[test]
fn a_server_that_is_away_changes_nothing_and_gets_everything_later() {
    let dir = tempfile::tempdir().unwrap();
    let config = run(dir.path(), 4);
    let away = "http://127.0.0.1:9";
    let said = done(smpo(Some(away)).arg("train").arg(&config).output().unwrap());
    assert!(said.contains("MLflow at http://127.0.0.1:9 cannot be reached"), "{said}");
    assert_eq!(said.matches("cannot be reached").count(), 1, "once: {said}");
    assert!(said.contains("smpo track"), "{said}");
    let (server, told) = mlflow();
    done(smpo(Some(&server.url)).arg("track").arg(dir.path().join("dpo")).output().unwrap());
    assert_eq!(told.lock().unwrap().metrics.keys().filter(|(name, _)| name == "loss").count(), 4);
}

#[test]
fn settings_are_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = run(dir.path(), 4);
    for (server, expected) in [(None, "got nothing"), (Some("file:///tmp/mlruns"), "mlflow server --backend-store-uri")]
    {
        for check in [vec![], vec!["--check"]] {
            let output = smpo(server).arg("train").arg(&config).args(&check).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("MLFLOW_TRACKING_URI: expected") && said.contains(expected), "{said}");
        }
    }
    assert!(!dir.path().join("dpo/metrics.jsonl").exists());
}

/// A real server on loopback; it ends with the test.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

const HISTORY: &str = "
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
[experiment] = [e for e in client.search_experiments() if e.name == 'demo']
[run] = client.search_runs([experiment.experiment_id])
history = {m: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, m)] for m in run.data.metrics}
names = lambda path: [n for a in client.list_artifacts(run.info.run_id, path) for n in (names(a.path) if a.is_dir else [a.path])]
print(json.dumps({'status': run.info.status, 'name': run.info.run_name, 'history': history, 'params': run.data.params,
                  'artifacts': names(None)}))
";

#[test]
#[ignore = "needs the Python package mlflow"]
fn a_real_server_has_the_run_as_it_was() {
    let python = std::env::var("SMPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let server = Command::new(&python)
        .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port, "--workers", "1"])
        .arg("--backend-store-uri")
        .arg(format!("sqlite:///{}/mlflow.db", dir.path().display()))
        .arg("--artifacts-destination")
        .arg(dir.path().join("store"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Real(server.unwrap());
    let began = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
        std::thread::sleep(Duration::from_millis(200));
    }
    let address = format!("http://127.0.0.1:{port}");
    // Interrupted after some steps, and resumed.
    let config = run(dir.path(), 40);
    let mut child = smpo(Some(&address)).arg("train").arg(&config).spawn().unwrap();
    let lines = || fs::read_to_string(dir.path().join("dpo/metrics.jsonl")).map_or(0, |text| text.lines().count());
    while lines() < 10 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    done(smpo(Some(&address)).arg("train").arg(&config).output().unwrap());
    let mut track = smpo(Some(&address));
    done(track.arg("track").arg(dir.path().join("dpo")).arg("--artifact").arg(&config).output().unwrap());

    let output = Command::new(&python).args(["-c", HISTORY, &address]).env("NO_PROXY", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&seen["status"], &seen["name"]), (&json!("FINISHED"), &json!("dpo")));
    assert_eq!(seen["params"]["loss.kind"], "smpo");
    assert_eq!(seen["artifacts"], json!(["config.toml", "dpo.toml"]));
    let text = fs::read_to_string(dir.path().join("dpo/metrics.jsonl")).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let record: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        for (name, value) in record.iter().filter(|(name, value)| *name != "step" && value.is_number()) {
            let points = seen["history"][name].as_array().unwrap();
            let there: Vec<f64> =
                points.iter().filter(|p| p[0] == record["step"]).map(|p| p[1].as_f64().unwrap()).collect();
            assert_eq!(there, [value.as_f64().unwrap()], "{name} at step {}", record["step"]);
            compared += 1;
        }
    }
    assert!(compared > 400, "{compared}");
}
