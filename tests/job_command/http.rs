//! The port itself, as others than the command ask it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::command::{moves_on, run};
use crate::job::{Settings, Turn};

/// Status line, headers and body.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn post(address: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_gives_metrics_and_pages_and_changes_nothing_for_other_sites() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 100_000, 1_000);
    let _job = run(&settings, &["--workers", "2"]);
    let status = moves_on(&settings, 0).await;
    let holder = status["manager"]["holder"].as_str().unwrap();
    let address = holder.rsplit("http://").next().unwrap();

    let metrics = get(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for name in [
        "numberOfCompletedCheckpoints",
        "numberOfFailedCheckpoints",
        "numberOfInProgressCheckpoints",
        "lastCheckpointDuration",
        "lastCheckpointSize",
        "lastCheckpointFullSize",
        "numRestarts",
        "sharedFiles",
        "sharedBytes",
        "orphanedFiles",
        "failedDeletes",
        "dedupeRatio",
    ] {
        let line = format!("icecore_jobmanager_job_{name}{{job_name=\"count\"}} ");
        let value =
            metrics.lines().find_map(|text| text.strip_prefix(&line)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        assert!(value.parse::<f64>().unwrap() >= 0.0, "{name}: {value}");
    }
    assert!(
        metrics.contains("numberOfCompletedCheckpoints{job_name=\"count\"} ") && metrics.trim_end().ends_with("# EOF")
    );

    let page = get(address, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-security-policy: default-src 'none'"), "{page}");

    let own = format!("Host: {address}\r\nContent-Type: application/json\r\n");
    let refused = post(address, "/api/cancel", &own, "{\"checkpoints\":\"drop\"}");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("x-icecore"), "{refused}");
    let named = "Host: evil.example\r\nContent-Type: application/json\r\nx-icecore: 1\r\n";
    let refused = post(address, "/api/cancel", named, "{\"checkpoints\":\"drop\"}");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("evil.example"), "{refused}");
    let own = format!("{own}x-icecore: 1\r\n");
    for nonsense in ["", "{}", "[", "{\"checkpoints\":\"burn\"}", "{\"checkpoints\":7}"] {
        let refused = post(address, "/api/cancel", &own, nonsense);
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"kind\":\"invalid-input\""), "{refused}");
    }
    let refused = post(address, "/api/rescale", &own, &format!("{{\"workers\":{}}}", "9".repeat(70_000)));
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
    moves_on(&settings, crate::command::newest(&status)).await;
}
